"""What a model that writes answers, beside answers that cost nothing, and how likely it finds the right ones."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from gpt_tasks.data.encoded import IGNORED
from gpt_tasks.errors import UsageError
from gpt_tasks.evaluation.measured import Brought
from gpt_tasks.evaluation.nats import learned_nats
from gpt_tasks.evaluation.predictor import CHUNK, chunks
from gpt_tasks.evaluation.report import AnswerKind, Sample
from gpt_tasks.generation.decoding import Decoding
from gpt_tasks.generation.generator import GeneratedText, Generator
from gpt_tasks.heads.language_model import LanguageModel
from gpt_tasks.scoring.results import signatures_of
from gpt_tasks.tasks.measures import Measure, Part, perplexity
from gpt_tasks.tasks.text_to_text import TextToTextTask
from gpt_tasks.types import Encoded, Example

GREEDY = Decoding.checked()
PERPLEXITY = perplexity("perplexity")
"""Of the tokens of the right answers, the end of text among them."""


@dataclass(frozen=True)
class AnswerWriter:
    """A trained model with its task: what it writes after a prompt, and how likely it finds the right answer."""

    task: TextToTextTask
    model: LanguageModel
    writer: Generator
    tokenizer: PreTrainedTokenizerBase
    max_length: int
    batch_tokens: int
    precision: str
    decoding: Decoding = GREEDY

    @property
    def measures(self) -> list[Measure]:
        """What is measured: the perplexity of the right answers, and the task's metrics."""
        return [PERPLEXITY, *(measure for measure in self.task.measures if measure.name in self.task.metrics)]

    def write(self, examples: Sequence[Example]) -> list[GeneratedText]:
        """Return what the model writes about each example.

        Raises UsageError where answers leave no room for a prompt.
        """
        most = self.decoding.max_new_tokens or self.task.max_tokens
        decoding = self.decoding.model_copy(update={"max_new_tokens": most})
        room = self.max_length - most
        if room < 1:
            raise UsageError(
                f"Answers of {most} tokens leave no room for a prompt in {self.max_length}",
                "Lower --max-tokens, or raise --max-length.",
            )
        prompts = [self.task.prompt_tokens(example, self.tokenizer, room) for example in examples]
        return [texts[0] for texts in self.writer.write_on(prompts, decoding, batch_tokens=8 * self.batch_tokens)]

    def predict(self, examples: Iterable[Example]) -> Iterator[tuple[Example, str]]:
        """Yield each example with what the model writes about it, in order, a chunk at a time."""
        for chunk in chunks(examples, CHUNK):
            yield from zip(chunk, (each.text.strip() for each in self.write(chunk)), strict=True)

    def nats(self, examples: Sequence[Example]) -> list[Part]:
        """Return of each right answer its cross-entropy by token, in nats, weighed by its tokens."""
        # An example may be encoded in several pieces.
        pieces = [self.task.encode([example], self.tokenizer, self.max_length) for example in examples]
        encoded = [piece for some in pieces for piece in some]
        owners = np.repeat(np.arange(len(examples)), [len(some) for some in pieces])
        learned = [sum(end - start for start, end in piece.learned) for piece in encoded]
        counts = np.bincount(owners, learned, len(examples))
        found = learned_nats(
            self.model,
            [_feature(each) for each in encoded],
            batch_tokens=self.batch_tokens,
            pad_token_id=self.tokenizer.pad_token_id,
            precision=self.precision,
        )
        sums = np.bincount(owners, found, len(examples))
        return [Part(nats / count, count) for nats, count in zip(sums.tolist(), counts.tolist(), strict=True)]

    @property
    def kind(self) -> AnswerKind:
        """Texts."""
        return "text"

    def answers(self, examples: Sequence[Example]) -> Sequence[GeneratedText]:
        """Write about examples."""
        return self.write(examples)

    def parts(self, examples: Sequence[Example], answers: Sequence[GeneratedText]) -> Sequence[Brought]:
        """Return what each example brings to each measure, given what was written about it."""
        found = []
        for example, answer, nats in zip(examples, answers, self.nats(examples), strict=True):
            brought = self.task.measure(example, [answer.text])
            found.append({PERPLEXITY.name: nats, **{name: brought[name] for name in self.task.metrics}})
        return found

    def cheap(self, examples: Sequence[Example]) -> Mapping[str, Sequence[Brought]]:
        """Return what the task's answers that cost nothing would bring."""
        found: dict[str, list[Brought]] = {}
        for example in examples:
            for way, text in self.task.naive(example).items():
                brought = self.task.measure(example, [text])
                found.setdefault(way, []).append({name: brought[name] for name in self.task.metrics})
        return found

    def line(self, example: Example, answer: GeneratedText) -> Mapping[str, Any]:
        """Return what was asked, the right answers and what was written."""
        told = {
            "references": self.task.right(example),
            "predicted": answer.text.strip(),
            "finish": answer.finish_reason,
        }
        return {**self.task.record(example), **told}

    def sample(self, example: Example, answer: GeneratedText) -> Sample:
        """Return what was asked, the right answers and what was written."""
        right, written = self.task.right(example) or ("-",), answer.text.strip() or "-"
        return Sample(example.where, dict(self.task.shown(example)), right, written)

    def signed(self, references: Collection[int]) -> Sequence[str]:
        """Say how the metrics were computed, given the numbers of right answers that examples have."""
        return [f"{name}: {said}" for name, said in signatures_of(self.measures, references).items()]


def _feature(encoded: Encoded) -> dict[str, Any]:
    ids = np.array(encoded.input_ids)
    labels = np.full(len(ids), IGNORED)
    for start, end in encoded.learned:
        labels[start:end] = ids[start:end]
    return {"input_ids": ids, "labels": labels}
