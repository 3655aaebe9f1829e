"""A model that finds answers in contexts, in chunks of questions: logits of their windows, and the best answers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from gpt_tasks.data.batches import TokenBudgetBatches, collate
from gpt_tasks.data.encoded import IGNORED
from gpt_tasks.evaluation.measured import Brought
from gpt_tasks.evaluation.predictor import chunks
from gpt_tasks.evaluation.report import AnswerKind, Sample
from gpt_tasks.evaluation.spans import BestSpans, best_spans
from gpt_tasks.scoring.results import signatures_of
from gpt_tasks.tasks.answers import answer_as_json
from gpt_tasks.tasks.measures import Measure
from gpt_tasks.tasks.span import SpanTask
from gpt_tasks.tasks.span_answers import CONTEXT, QUESTION
from gpt_tasks.tasks.span_windows import Windows, encode_windows
from gpt_tasks.types import Example, SpanAnswer

# So many questions are answered at a time: their windows' logits are what takes memory.
CHUNK = 256


@dataclass(frozen=True)
class SpanFinder:
    """A trained model with its task."""

    task: SpanTask
    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    max_length: int
    batch_tokens: int
    precision: str

    @property
    def kind(self) -> AnswerKind:
        """Stretches of a context."""
        return "span"

    @property
    def measures(self) -> Sequence[Measure]:
        """All of the task's."""
        return self.task.measures

    def windows(self, examples: Sequence[Example], answers: Sequence[tuple[int, int] | None] | None = None) -> Windows:
        """Encode questions with their contexts, and the characters of answers where these are known."""
        return windows_of(self.task, examples, self.tokenizer, self.max_length, answers)

    def logits(self, windows: Windows) -> tuple[np.ndarray, np.ndarray]:
        """Return the logits of start and end, `[windows, length]`, minus infinity behind each window's own length."""
        lengths = np.diff(windows.bounds)
        found = np.full((2, len(windows), int(lengths.max())), -np.inf, dtype=np.float32)
        for rows, said in self.said(self.model, lengths, windows.tokens):
            found[:, rows, : said.shape[1]] = said.transpose(2, 0, 1)
        return found[0], found[1]

    def said(
        self, model: nn.Module, lengths: np.ndarray, tokens: Callable[[int], Sequence[int]]
    ) -> Iterator[tuple[Sequence[int], np.ndarray]]:
        """Yield what a model says of every token of the rows of a batch, `[rows, length, outputs]`, with these rows.

        `lengths` `[n]` are those of all rows, and `tokens` gives their ids.
        """
        device = next(model.parameters()).device
        half, was_training = self.precision == "bf16", model.training
        model.eval()
        try:
            for rows in TokenBudgetBatches(lengths, batch_tokens=self.batch_tokens, seed=0, shuffle=False):
                batch = collate(
                    [{"sequences": [tokens(row)], "goal": IGNORED} for row in rows],
                    pad_token_id=int(self.tokenizer.pad_token_id),
                    padding_side="right",
                )
                # Entered for each batch: what stands around a yield holds for its caller too.
                with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=half):
                    said = model(batch["input_ids"].to(device), batch["attention_mask"].to(device))["logits"]
                yield rows, said.float().cpu().numpy()
        finally:
            model.train(was_training)

    def best(self, examples: Sequence[Example]) -> BestSpans:
        """Return the best answers to each question."""
        windows = self.windows(examples)
        return self.best_of(examples, windows, self.logits(windows))

    def best_of(
        self, examples: Sequence[Example], windows: Windows, logits: tuple[np.ndarray, np.ndarray]
    ) -> BestSpans:
        """Return the best answers that the logits of windows tell."""
        task, contexts = self.task, [example.inputs[CONTEXT] for example in examples]
        return best_spans(
            *logits,
            windows,
            contexts,
            n=task.n_best,
            longest=task.longest_answer,
            unanswerable=task.unanswerable,
        )

    def answers(self, examples: Sequence[Example]) -> list[SpanAnswer]:
        """Answer questions."""
        found = self.best(examples)
        return [chosen(found, number, self.task.above) for number in range(len(found))]

    def predict(self, examples: Iterable[Example]) -> Iterator[tuple[Example, SpanAnswer]]:
        """Yield each question with its answer, in order, a chunk at a time."""
        for chunk in chunks(examples, CHUNK):
            yield from zip(chunk, self.answers(chunk), strict=True)

    def parts(self, examples: Sequence[Example], answers: Sequence[SpanAnswer]) -> Sequence[Brought]:
        """Return what each example brings to each measure."""
        return [self.task.measure(example, answer) for example, answer in zip(examples, answers, strict=True)]

    def cheap(self, examples: Sequence[Example]) -> Mapping[str, Sequence[Brought]]:
        """Return what the longest run of words shared by question and context would bring."""
        return {"longest_shared": [self.task.measure(example, self.task.naive(example)) for example in examples]}

    def line(self, example: Example, answer: SpanAnswer) -> Mapping[str, Any]:
        """Return question, context, right answers, and what was answered."""
        right = [span.text for span in self.task.right(example)]
        return {**example.inputs, "references": right, **answer_as_json(answer)}

    def sample(self, example: Example, answer: SpanAnswer) -> Sample:
        """Return the question with its right answers, and what was answered."""
        right = tuple(span.text for span in self.task.right(example)) or ("-",)
        return Sample(example.where, {QUESTION: example.inputs[QUESTION]}, right, answer.text or "-")

    def signed(self, references: Collection[int]) -> Sequence[str]:
        """Say by whose evaluation answers were compared."""
        return sorted({f"Answers are compared as by {said}." for said in signatures_of(self.measures, {1}).values()})


def windows_of(
    task: SpanTask,
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    answers: Sequence[tuple[int, int] | None] | None,
) -> Windows:
    """Encode the questions and contexts of examples as the task says."""
    return encode_windows(
        [example.inputs[QUESTION] for example in examples],
        [example.inputs[CONTEXT] for example in examples],
        tokenizer,
        max_length=max_length,
        stride=task.stride,
        answers=answers,
        where=[example.where for example in examples],
    )


def chosen(found: BestSpans, number: int, above: float) -> SpanAnswer:
    """Return a question's answer with all its candidates: the best, or none where that is likelier than `above`."""
    candidates = found.candidates(number)
    none = SpanAnswer("", 0, 0, 1.0 if found.no_answer is None else float(found.no_answer[number]), ())
    answers = [SpanAnswer(each.text, each.start, each.end, each.probability, ()) for each in candidates]
    real = [answer for answer in answers if answer.end]
    best = none if not real or (found.no_answer is not None and found.no_answer[number] > above) else real[0]
    return replace(best, candidates=tuple(answers))
