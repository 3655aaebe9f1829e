"""Evaluate a model that writes: its answers beside the right ones and beside those that cost nothing, and how likely
it finds the right ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from gpt_tasks.data.encoded import IGNORED
from gpt_tasks.errors import DataError, UsageError
from gpt_tasks.evaluation.nats import learned_nats
from gpt_tasks.evaluation.parts import score, write_lines, write_parts
from gpt_tasks.evaluation.predictor import CHUNK, chunks
from gpt_tasks.evaluation.report import Report, Sample
from gpt_tasks.files import write_json
from gpt_tasks.generation.decoding import Decoding
from gpt_tasks.generation.writer import Writer, Written
from gpt_tasks.heads.language_model import LanguageModel
from gpt_tasks.scoring.results import signatures_of
from gpt_tasks.tasks.measures import Measure, Part, perplexity
from gpt_tasks.tasks.text_to_text import TextToTextTask
from gpt_tasks.types import Encoded, Example

GREEDY = Decoding.checked()
MOST_SAMPLES = 10
PERPLEXITY = perplexity("perplexity")
"""Of the tokens of the right answers, the end of text among them."""


@dataclass(frozen=True)
class AnswerWriter:
    """A trained model with its task: what it writes after a prompt, and how likely it finds the right answer."""

    task: TextToTextTask
    model: LanguageModel
    writer: Writer
    tokenizer: PreTrainedTokenizerBase
    max_length: int
    batch_tokens: int
    precision: str
    decoding: Decoding = GREEDY

    @property
    def measures(self) -> list[Measure]:
        """What is measured: the perplexity of the right answers, and the task's metrics."""
        return [PERPLEXITY, *(measure for measure in self.task.measures if measure.name in self.task.metrics)]

    def write(self, examples: Sequence[Example]) -> list[Written]:
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

    def parts(self, examples: Sequence[Example], texts: Sequence[str]) -> list[dict[str, Part]]:
        """Return what each example brings to each measure, given what was written about it."""
        found = []
        for example, text, nats in zip(examples, texts, self.nats(examples), strict=True):
            brought = self.task.measure(example, [text])
            found.append({PERPLEXITY.name: nats, **{name: brought[name] for name in self.task.metrics}})
        return found


def evaluate_written(
    answering: AnswerWriter,
    examples: Iterable[Example],
    *,
    split: str,
    training: Mapping[str, float | int | str | None] | None = None,
    notes: Sequence[str] = (),
    output: Path | None = None,
) -> Report:
    """Return the report, a chunk of examples at a time.

    With `output` write metrics.json, predictions.jsonl and parts.parquet there. Raises DataError where there is no
    example.
    """
    task = answering.task
    parts: dict[str, list[Part]] = {measure.name: [] for measure in answering.measures}
    where: list[str] = []
    references: set[int] = set()
    naive: dict[str, dict[str, list[Part]]] = {}
    samples: list[Sample] = []

    def lines() -> Iterator[dict[str, Any]]:
        for chunk in chunks(examples, CHUNK):
            written = answering.write(chunk)
            brought = answering.parts(chunk, [each.text for each in written])
            for example, answer, of_example in zip(chunk, written, brought, strict=True):
                where.append(example.where)
                for name, part in of_example.items():
                    parts[name].append(part)
                for way, text in task.naive(example).items():
                    cheap = task.measure(example, [text])
                    for name in task.metrics:
                        naive.setdefault(way, {}).setdefault(name, []).append(cheap[name])
                references.add(len(example.references))
                right = [reference.strip() for reference in example.references]
                if len(samples) < MOST_SAMPLES:
                    samples.append(Sample(example.where, dict(task.shown(example)), tuple(right), answer.text.strip()))
                yield {
                    "where": example.where,
                    **task.record(example),
                    "references": right,
                    "predicted": answer.text.strip(),
                    "finish": answer.finish,
                }

    write_lines(output, lines())
    if not where:
        raise DataError(f"The {split} split is empty", "Give rows to evaluate on.")
    signed = signatures_of(answering.measures, references)
    report = Report(
        task=task.name,
        split=split,
        n=len(where),
        labels=(),
        metrics={measure.name: score(measure, parts[measure.name]) for measure in answering.measures},
        per_label={},
        confusion_matrix=(),
        baselines={
            way: {measure.name: score(measure, cheap[measure.name]) for measure in answering.measures[1:]}
            for way, cheap in naive.items()
        },
        samples=tuple(samples),
        training=dict(training or {}),
        notes=(*notes, *(f"{name}: {said}" for name, said in signed.items())),
    )
    if output is not None:
        write_parts(output, where, answering.measures, parts)
        write_json(output / "metrics.json", report.to_json())
    return report


def _feature(encoded: Encoded) -> dict[str, Any]:
    ids = np.array(encoded.input_ids)
    labels = np.full(len(ids), IGNORED)
    for start, end in encoded.learned:
        labels[start:end] = ids[start:end]
    return {"input_ids": ids, "labels": labels}
