"""The learner of answers in a context: two logits for every token of its windows, decoded over all of them."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from scipy.special import logsumexp
from torch import Tensor, nn
from torch.nn import functional

from gpt_tasks.data.encoded import IGNORE_INDEX, EncodedExamples
from gpt_tasks.data.examples import Examples, chunks
from gpt_tasks.evaluation.statistics import Tally
from gpt_tasks.extensions import Metric
from gpt_tasks.heads.linear_probe import fit_choice_probe
from gpt_tasks.heads.model import HeadModel
from gpt_tasks.heads.span import SpanHead, TokenFeatures
from gpt_tasks.learners.base import FrozenFit, Learner, Remarks
from gpt_tasks.learners.span_decoding import BestSpans, best_spans
from gpt_tasks.metrics.squad import best_threshold
from gpt_tasks.processes import all_gather, rank, world_size
from gpt_tasks.tasks.span_answers import CONTEXT, QUESTION, Placement, Span
from gpt_tasks.tasks.span_windows import Windows, encode_windows
from gpt_tasks.types import Example, Features, SpanAnswer

# A frozen backbone's features of every token stay in memory.
MOST_PROBE_TOKENS = 200_000


class SpanLearner(Learner[SpanAnswer]):
    """Finds answers in contexts. Each window of a context is a row of training, with the answer's positions."""

    # This many questions are answered at a time: their windows' logits are what takes memory.
    chunk: ClassVar[int] = 256
    per_token: ClassVar[bool] = True
    placement: Placement | None = None
    windows: int = 0
    missed: int = 0

    @property
    def outputs(self) -> int:
        """Start and end."""
        return 2

    def encode(self, examples: Sequence[Example]) -> list[Features]:
        """Encode the windows of examples, each with the positions of its answer; an example may have several."""
        return self._features(examples, None)

    def encode_training(self, examples: Sequence[Example]) -> list[Features]:
        """Encode windows of training data; answers that are elsewhere than the data say are moved or left out."""
        self.placement = self.placement or Placement()
        features = self._features(examples, self.placement)
        self.windows += len(features)
        return features

    def remarks(self, data: str) -> Remarks:
        """Count the windows, the answers that no window holds whole, and those that are elsewhere than the data say."""
        assert self.placement is not None
        self.placement.check(data)
        missed = {"answers_in_no_window": self.missed} if self.missed else {}
        return Remarks({"windows": self.windows, **missed}, (self.placement.note,) if self.placement.note else ())

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the cross-entropy of the positions: logits `[n, length, 2]`, positions `[n, 2]`."""
        sides = (
            functional.cross_entropy(logits[..., side], labels[:, side], ignore_index=IGNORE_INDEX, reduction="sum")
            for side in range(2)
        )
        return sum(sides, start=logits.new_zeros(()))

    def holds_target(self, features: Features) -> bool:
        """Return whether a window holds the answer: without one, its labels are the closing token's."""
        return bool(features.labels[1] < len(features) - 1)

    def predict(self, examples: Sequence[Example], *, scored: bool = False) -> list[SpanAnswer]:
        """Answer questions."""
        windows = windows_of(self.task, examples, self.backbone.tokenizer, self.settings.max_length)
        best = self._best(examples, windows, self._logits(windows))
        return [choose_answer(best, number, self.task.above) for number in range(len(best))]

    def validation_metrics(self, metrics: Sequence[Metric]) -> list[Metric]:
        """Exact match and F1 of all questions."""
        return list(metrics)[:2]

    def validate(
        self, validation: Examples, encoded: EncodedExamples, metrics: Sequence[Metric]
    ) -> Mapping[str, float]:
        """Return the loss by position, and the metrics at the best threshold of "no answer"."""
        judged, loss = self._judged(validation)
        above = threshold(judged) if self.task.unanswerable else 1.0
        tally = Tally(self.task, metrics)
        tally.add([each.example for each in judged], [each.prediction(above) for each in judged])
        return {"loss": loss, **tally.values()}

    def calibrated_on(self, validation: Examples, encoded: EncodedExamples) -> Self:
        """Return this learner with the threshold of the best mean F1 on validation."""
        if not self.task.unanswerable:
            return self
        learner = copy.copy(self)
        learner.task = copy.copy(self.task)
        learner.task.above = threshold(self._judged(validation)[0])
        return learner

    def baselines(self, examples: Sequence[Example]) -> Mapping[str, Sequence[SpanAnswer]]:
        """Return the longest runs of words that question and context have in common."""
        return {"longest_shared": [self.task.baseline(example) for example in examples]}

    @classmethod
    def fits(cls, head: nn.Module) -> bool:
        """Return whether a head is one of spans."""
        return isinstance(head, SpanHead)

    def fit_frozen(self, train: EncodedExamples, validation: EncodedExamples) -> FrozenFit:
        """Fit two conditional logits over the tokens of a window, for the first and the last of the answer."""
        head = self.model.head
        fitted, judged = self._drawn(train, MOST_PROBE_TOKENS), self._drawn(validation, MOST_PROBE_TOKENS // 2)
        notes: tuple[str, ...] = ()
        if len(fitted) < len(train):
            notes = (f"The head was fitted on {len(fitted):,} of {len(train):,} windows, drawn at random.",)
        features, judging = self._token_features(train, fitted), self._token_features(validation, judged)
        figures = {}
        for side, name in enumerate(("start", "end")):
            labels = (encoded.labels[rows, side] for encoded, rows in ((train, fitted), (validation, judged)))
            probe = fit_choice_probe(*features, next(labels), *judging, next(labels))
            figures[f"probe_C_{name}"] = probe.C
            with torch.no_grad():
                head.linear.weight[side] = torch.from_numpy(probe.weight[0])
        return FrozenFit(len(fitted), figures, notes)

    def _features(self, examples: Sequence[Example], placement: Placement | None) -> list[Features]:
        examples, places = answer_places(self.task, examples, placement)
        if not examples:
            return []
        windows = windows_of(self.task, examples, self.backbone.tokenizer, self.settings.max_length, places)
        if placement is not None:
            held = np.bincount(windows.examples, windows.hold_answers) > 0
            self.missed += sum(bool(place) and not there for place, there in zip(places, held, strict=True))
        counts = np.bincount(windows.examples)
        return [
            Features(
                [windows.tokens(row)],
                labels=windows.answers[row].astype(np.int64),
                # The first window of a context counts it.
                windows=int(counts[owner]) if row == 0 or windows.examples[row - 1] != owner else 1,
            )
            for row, owner in enumerate(windows.examples.tolist())
        ]

    def _logits(self, windows: Windows) -> tuple[np.ndarray, np.ndarray]:
        """Return the logits of start and end, `[windows, length]`, minus infinity after each window's own length."""
        outputs = self.outputs_of([Features([windows.tokens(row)]) for row in range(len(windows))])
        found = np.full((2, len(windows), max(map(len, outputs))), -np.inf, dtype=np.float32)
        for row, logits in enumerate(outputs):
            found[:, row, : len(logits)] = logits.T
        return found[0], found[1]

    def _best(self, examples: Sequence[Example], windows: Windows, logits: tuple[np.ndarray, np.ndarray]) -> BestSpans:
        return best_spans(
            *logits,
            windows,
            [example.inputs[CONTEXT] for example in examples],
            n=self.task.n_best,
            longest=self.task.longest_answer,
            unanswerable=self.task.unanswerable,
        )

    def _judged(self, validation: Examples) -> tuple[list[Judged], float]:
        mine: list[Judged] = []
        total, positions = 0.0, 0
        for chunk in chunks(list(validation)[rank() :: world_size()], self.chunk):
            _, places = answer_places(self.task, chunk, None)
            windows = windows_of(self.task, chunk, self.backbone.tokenizer, self.settings.max_length, places)
            logits = self._logits(windows)
            for side, values in enumerate(logits):
                right = values[np.arange(len(values)), windows.answers[:, side]]
                total += float((logsumexp(values.astype(np.float64), axis=1) - right).sum())
                positions += len(values)
            best = self._best(chunk, windows, logits)
            for number, example in enumerate(chunk):
                answered, silent = (replace(choose_answer(best, number, above), candidates=()) for above in (1.0, -1.0))
                score = float(self.task.score(example, answered)["f1"].columns[0])
                mine.append(Judged(example, bool(self.task.spans(example)), answered, silent, score))
        shares = all_gather((mine, total, positions))
        loss = sum(share[1] for share in shares) / sum(share[2] for share in shares)
        return [each for share in shares for each in share[0]], loss

    def _drawn(self, encoded: EncodedExamples, most: int) -> np.ndarray:
        """Return rows, in order, that hold no more than about so many tokens."""
        share = most / int(encoded.lengths.sum())
        if share >= 1:
            return np.arange(len(encoded))
        random = np.random.default_rng([self.settings.seed, 2])
        return np.sort(random.permutation(len(encoded))[: max(1, int(share * len(encoded)))])

    def _token_features(self, encoded: EncodedExamples, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what a span head reads of the tokens of rows, `[tokens, hidden]`, and where each row's begin."""
        lengths = encoded.lengths[rows]
        model = HeadModel(self.model.backbone, TokenFeatures())
        read = self.outputs_of(encoded.__getitems__([int(row) for row in rows]), model)
        return np.concatenate(read), np.cumsum(lengths) - lengths


@dataclass(frozen=True)
class Judged:
    """A question of validation: whether it has an answer, what is answered if anything is and if nothing is, and F1."""

    example: Example
    has_answer: bool
    answered: SpanAnswer
    silent: SpanAnswer
    score: float

    def prediction(self, above: float) -> SpanAnswer:
        """Return the answer where "no answer" is given above a probability."""
        return self.silent if self.silent.probability > above else self.answered


def threshold(judged: Sequence[Judged]) -> float:
    """Return the probability of "no answer" above which to give none, for the best mean F1."""
    return best_threshold(
        np.array([each.score for each in judged]),
        np.array([each.silent.probability for each in judged]),
        np.array([each.has_answer for each in judged]),
        np.array([bool(each.answered.text) for each in judged]),
    ).above


def windows_of(
    task: Any,
    examples: Sequence[Example],
    tokenizer: Any,
    max_length: int,
    answers: Sequence[tuple[int, int] | None] | None = None,
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


def choose_answer(found: BestSpans, number: int, above: float) -> SpanAnswer:
    """Return a question's answer with all its candidates: the best, or none where that is likelier than `above`."""
    candidates = found.candidates(number)
    none = SpanAnswer("", 0, 0, 1.0 if found.no_answer is None else float(found.no_answer[number]), ())
    answers = [SpanAnswer(each.text, each.start, each.end, each.probability, ()) for each in candidates]
    real = [answer for answer in answers if answer.end]
    best = none if not real or (found.no_answer is not None and found.no_answer[number] > above) else real[0]
    return replace(best, candidates=tuple(answers))


def answer_places(
    task: Any, examples: Iterable[Example], placement: Placement | None
) -> tuple[list[Example], list[tuple[int, int] | None]]:
    """Return examples, and the characters of each one's first answer, None where it has none.

    For training, `placement` moves or leaves out what is elsewhere than it should be; else that has no place.
    """
    kept: list[Example] = []
    places: list[tuple[int, int] | None] = []
    for example in examples:
        right, context = task.spans(example), example.inputs[CONTEXT]
        placed: Span | None = None
        if right and placement is not None:
            placed = placement.place(right[0], context, example.where)
            if placed is None:
                continue
        elif right and context.startswith(right[0].text, max(0, right[0].start)):
            placed = right[0]
        kept.append(example)
        places.append((placed.start, placed.end) if placed else None)
    return kept, places
