"""The fine-tuning of extractive question answering: windows as rows, answers by their positions."""

from __future__ import annotations

import copy
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from scipy.special import logsumexp

from gpt_tasks.data.encoded import EncodedExamples
from gpt_tasks.data.examples import Examples
from gpt_tasks.errors import DataError, UsageError
from gpt_tasks.evaluation.measured import Brought, evaluate_measured
from gpt_tasks.evaluation.predictor import chunks
from gpt_tasks.evaluation.report import Report
from gpt_tasks.evaluation.spanned import CHUNK, SpanFinder, chosen, windows_of
from gpt_tasks.files import machine_errors
from gpt_tasks.heads.choice_probe import fit_choice_probe
from gpt_tasks.heads.model import TaskModel
from gpt_tasks.heads.span import SpanHead, TokenFeatures
from gpt_tasks.plugins import Plugins
from gpt_tasks.processes import all_gather, rank, world_size
from gpt_tasks.scoring.results import figure
from gpt_tasks.tasks.base import Task
from gpt_tasks.tasks.span import SpanTask
from gpt_tasks.tasks.span_answers import CONTEXT, Placement, Span
from gpt_tasks.tasks.span_measures import best_threshold
from gpt_tasks.training.headed import goals_of, join_head, save_head
from gpt_tasks.training.session import Session
from gpt_tasks.types import Example

OUTPUTS = 2
# A frozen backbone's features are kept in memory, of every token.
MOST_PROBE_TOKENS = 200_000
_TOKEN = np.int32


@dataclass
class SpanSession(Session):
    """A fine-tuning to find answers in contexts."""

    task: SpanTask
    model: TaskModel = field(init=False)

    @staticmethod
    def directions(task: Task, plugins: Plugins) -> Mapping[str, str]:
        """Return the directions of the task's metrics."""
        return dict.fromkeys(task.metrics, "higher")

    def build(self) -> TaskModel:
        """Join a new head with the backbone; and let the task know whether there may be no answer."""
        if self.settings.class_weights != "none":
            raise UsageError(f"--class-weights is for labels, and task '{self.task.name}' has none", "Leave it out.")
        self.task = copy.copy(self.task)
        self.task.unanswerable = "[]" in self.splits.train.observed
        return join_head(self, self.plugins.registry.heads[self.task.head], OUTPUTS, self.task.loss)

    def learn(self, train: EncodedExamples, validation: EncodedExamples) -> None:
        """Move the weights; or compute a frozen backbone's features once, and fit the head on them.

        The head is two conditional logits over the tokens of a window, for the first and the last of the answer.
        """
        if not self.method.frozen:
            super().learn(train, validation)
            return
        head = self.model.head
        if not isinstance(head, SpanHead):
            raise UsageError(
                f"--method {self.method.name} fits a span head; the head of task '{self.task.name}' is another",
                "Take --method full or lora.",
            )
        fitted, judged = self._drawn(train, MOST_PROBE_TOKENS), self._drawn(validation, MOST_PROBE_TOKENS // 2)
        if len(fitted) < len(train):
            note = f"The head was fitted on {len(fitted):,} of {len(train):,} windows, drawn at random."
            self.splits = replace(self.splits, notes=(*self.splits.notes, note))
            if rank() == 0:
                print(note, file=sys.stderr)
        features, judging = self._features(train, fitted), self._features(validation, judged)
        for side, name in enumerate(("start", "end")):
            goals = (goals_of(encoded)[rows, side] for encoded, rows in ((train, fitted), (validation, judged)))
            probe = fit_choice_probe(*features, next(goals), *judging, next(goals))
            self.training[f"probe_strength_{name}"] = probe.strength
            with torch.no_grad():
                head.linear.weight[side] = torch.from_numpy(probe.weight[0])
        seen = round(len(self.splits.train) * len(fitted) / len(train))
        self.training |= {"updates": 0, "epochs": 1, "examples_seen": seen, "examples_now": seen}

    def _drawn(self, encoded: EncodedExamples, most: int) -> np.ndarray:
        """Return rows, in order, that hold no more than about so many tokens."""
        share = most / int(encoded.lengths.sum())
        if share >= 1:
            return np.arange(len(encoded))
        random = np.random.default_rng([self.settings.seed, 2])
        return np.sort(random.permutation(len(encoded))[: max(1, int(share * len(encoded)))])

    def _features(self, encoded: EncodedExamples, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what a span head reads of the tokens of rows, `[tokens, hidden]`, and where each row's begin."""
        lengths = encoded.lengths[rows]
        starts = np.cumsum(lengths) - lengths
        found = np.empty((int(lengths.sum()), self.backbone.hidden_size), dtype=np.float32)
        model = TaskModel(self.model.backbone, TokenFeatures())

        def tokens(place: int) -> Sequence[int]:
            ids: Sequence[int] = encoded[int(rows[place])]["sequences"][0]
            return ids

        for places, said in self.finder(self.task).said(model, lengths, tokens):
            for place, states in zip(places, said, strict=True):
                found[starts[place] : starts[place] + lengths[place]] = states[: lengths[place]]
        return found, starts

    def encoded(self, examples: Examples, split: str) -> EncodedExamples:
        """Encode the windows of a split's examples into a file; answers of train are put in their place first."""
        if not len(examples):
            raise DataError(f"The {split} split is empty", "Give more rows.")
        scratch = self.folder.scratch / f"rank-{rank()}"
        placement = Placement()
        encoded = self._windows(examples, placement if split == "train" else None, scratch)
        if split == "train":
            placement.check(self.config.data or f"the samples of '{self.task.name}'")
            if placement.note:
                self.splits = replace(self.splits, notes=(*self.splits.notes, placement.note))
                if rank() == 0:
                    print(placement.note, file=sys.stderr)
        return encoded

    def _windows(self, examples: Examples, placement: Placement | None, scratch: Path) -> EncodedExamples:
        """Encode the windows of examples into a file, each with the positions of its answer; see `answer_places`."""
        lengths, goals, windowed, missed = [], [], 0, 0
        used = np.zeros(len(self.backbone.tokenizer), dtype=bool)
        with machine_errors():
            scratch.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(suffix=".tokens", dir=scratch, delete=False) as file:
                for chunk in chunks(examples, CHUNK):
                    kept, places = answer_places(self.task, chunk, placement)
                    if not kept:
                        continue
                    windows = windows_of(self.task, kept, self.backbone.tokenizer, self.settings.max_length, places)
                    file.write(windows.input_ids.astype(_TOKEN).tobytes())
                    used[windows.input_ids] = True
                    lengths.append(np.diff(windows.bounds).astype(np.int32))
                    goals.append(windows.answers)
                    windowed += int((np.bincount(windows.examples) > 1).sum())
                    held = np.bincount(windows.examples, windows.hold_answers) > 0
                    missed += sum(bool(place) and not there for place, there in zip(places, held, strict=True))
        if not lengths:
            raise DataError("No answer stands where its row says", "Give data whose answers stand in their contexts.")
        sizes = np.concatenate(lengths)
        if placement is not None:
            self.training |= {"windows": len(sizes)} | ({"answers_in_no_window": missed} if missed else {})
        return EncodedExamples(
            path=Path(file.name),
            lengths=sizes,
            labels=np.arange(len(sizes)),
            learned=0,
            truncated=0,
            starts=np.cumsum(sizes, dtype=np.int64) - sizes,
            used_tokens=np.flatnonzero(used),
            goals=np.concatenate(goals).astype(np.int64),
            windowed=windowed,
        )

    def finder(self, task: SpanTask) -> SpanFinder:
        """Return what answers `task` by the model as it is now."""
        settings, tokenizer = self.settings, self.backbone.tokenizer
        return SpanFinder(task, self.model, tokenizer, settings.max_length, settings.batch_tokens, settings.precision)

    def judge(self, validation: EncodedExamples) -> Mapping[str, float]:
        """Return the loss by position, and the task's metrics at the best threshold, on the validation split."""
        judged, loss = self._judged()
        above = threshold(judged) if self.task.unanswerable else 1.0
        brought = [each.parts(above) for each in judged]
        measures = [measure for measure in self.task.measures if measure.name in self.task.metrics]
        return {"loss": loss} | {
            measure.name: figure(measure, [parts[measure.name] for parts in brought]).value for measure in measures
        }

    def _judged(self) -> tuple[list[Judged], float]:
        finder = self.finder(self.task)
        mine: list[Judged] = []
        total, positions = 0.0, 0
        for chunk in chunks(list(self.splits.validation)[rank() :: world_size()], CHUNK):
            _, places = answer_places(self.task, chunk, None)
            windows = finder.windows(chunk, places)
            logits = finder.logits(windows)
            for side, values in enumerate(logits):
                right = values[np.arange(len(values)), windows.answers[:, side]]
                total += float((logsumexp(values.astype(np.float64), axis=1) - right).sum())
                positions += len(values)
            best = finder.best_of(chunk, windows, logits)
            for number, example in enumerate(chunk):
                answer, nothing = (chosen(best, number, above) for above in (1.0, -1.0))
                mine.append(
                    Judged(
                        bool(self.task.right(example)),
                        bool(answer.text),
                        nothing.probability,
                        self.task.measure(example, answer),
                        self.task.measure(example, nothing),
                    )
                )
        shares = all_gather((mine, total, positions))
        loss = sum(share[1] for share in shares) / sum(share[2] for share in shares)
        return [each for share in shares for each in share[0]], loss

    def finish(self) -> Report:
        """Choose the threshold on validation and save the model; report it on the test split."""
        if self.task.unanswerable:
            self.task.above = threshold(self._judged()[0])
        save_head(self, self.plugins.registry.heads[self.task.head], OUTPUTS)
        return evaluate_measured(
            self.finder(self.task),
            self.splits.test,
            split="test",
            training=self.training,
            notes=self.splits.notes,
            output=self.folder.path,
        )


@dataclass(frozen=True)
class Judged:
    """A question of validation: whether it has an answer and whether one was found, how probable it is that there is
    none, and what it brings if the answer is given and if none is.
    """

    has_answer: bool
    found: bool
    no_answer: float
    answered: Brought
    silent: Brought

    def parts(self, above: float) -> Brought:
        """Return what it brings where "no answer" is said above a probability."""
        return self.silent if self.no_answer > above else self.answered


def threshold(judged: Sequence[Judged]) -> float:
    """Return the probability of "no answer" above which to say so, for the best mean F1."""
    return best_threshold(
        np.array([float(each.answered["f1"].columns[0]) for each in judged]),
        np.array([each.no_answer for each in judged]),
        np.array([each.has_answer for each in judged]),
        np.array([each.found for each in judged]),
    ).above


def answer_places(
    task: SpanTask, examples: Sequence[Example], placement: Placement | None
) -> tuple[list[Example], list[tuple[int, int] | None]]:
    """Return examples, and the characters of each one's first answer, None where it has none.

    For training, `placement` moves or leaves out what stands elsewhere than it should; else that has no place.
    """
    kept: list[Example] = []
    places: list[tuple[int, int] | None] = []
    for example in examples:
        right, context = task.right(example), example.inputs[CONTEXT]
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
