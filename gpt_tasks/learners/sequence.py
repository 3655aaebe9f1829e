"""What learners of whole texts share: a head, its features, counted words, what it is compared with."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
import torch
from torch import nn

from gpt_tasks.data.draws import stratified_sample
from gpt_tasks.data.encoded import EncodedExamples
from gpt_tasks.data.examples import Examples, chunks
from gpt_tasks.evaluation.verdict import COUNTS_WEIGHT
from gpt_tasks.heads.linear_probe import Probe, ProbeKind, fit_probe
from gpt_tasks.heads.model import HeadModel
from gpt_tasks.heads.sequence import Features as HeadFeatures
from gpt_tasks.heads.sequence import LinearHead
from gpt_tasks.learners.base import VALIDATION_CHUNK, FrozenFit, Learner, stacked
from gpt_tasks.learners.baselines import (
    MAJORITY,
    TFIDF,
    Baselines,
    fit_baselines,
    load_baselines,
    plain_texts,
)
from gpt_tasks.learners.counts import Stack, fit_counts, load_stack
from gpt_tasks.learners.tfidf import Loss
from gpt_tasks.types import Example, Features

P = TypeVar("P")

# A frozen backbone's features stay in memory, a few KiB for each row.
MOST_PROBE_ROWS = 50_000
MOST_WEIGHED_ROWS = 10_000


class SequenceLearner(Learner[P]):
    """A head for whole texts. Where they are compared with words counted, `baseline_loss` says by which loss."""

    probe_kind: ClassVar[ProbeKind] = "multinomial"
    baseline_loss: ClassVar[Loss | None] = None
    baseline_names: ClassVar[tuple[str, str]] = (MAJORITY, TFIDF)
    fitted: Baselines | None = None
    stack: Stack | None = None

    @property
    def can_count(self) -> bool:
        """Words are counted where texts are compared with counted words."""
        return self.baseline_loss is not None

    @abstractmethod
    def label(self, target: str) -> Any:
        """Return what the head is to learn of a target, as an array."""

    def encode(self, examples: Sequence[Example]) -> list[Features]:
        """Encode the texts as the task says, with the label of each target."""
        tokenizer, length = self.backbone.tokenizer, self.settings.max_length
        return [
            Features(
                encoded.sequences,
                labels=None if example.target is None else self.label(example.target),
                choices=encoded.choices,
                truncated=encoded.truncated,
                windows=encoded.windows,
            )
            for example, encoded in zip(examples, self.task.encode(examples, tokenizer, length), strict=True)
        ]

    @classmethod
    def fits(cls, head: nn.Module) -> bool:
        """Return whether a head is linear."""
        return isinstance(head, LinearHead)

    def fit_frozen(self, train: EncodedExamples, validation: EncodedExamples) -> FrozenFit:
        """Fit a linear head on the features of a frozen backbone, of at most 50,000 rows."""
        head = self.model.head
        rows = np.arange(len(train))
        notes: tuple[str, ...] = ()
        if len(train) > MOST_PROBE_ROWS:
            strata = train.labels if self.task.is_stratified else np.zeros_like(rows)
            rows = stratified_sample(strata, MOST_PROBE_ROWS, np.random.default_rng([self.settings.seed, 2]))
            how = "by label" if self.task.is_stratified else "at random"
            notes = (f"The head was fitted on {len(rows):,} of {len(train):,} training rows, drawn {how}.",)
        probe = self.fit_probe(head, train, rows, validation)
        with torch.no_grad():
            head.linear.weight.copy_(torch.from_numpy(probe.weight))
            head.linear.bias.copy_(torch.from_numpy(probe.bias))
        return FrozenFit(len(rows), {"probe_C": probe.C}, notes)

    def fit_probe(
        self, head: LinearHead, train: EncodedExamples, rows: np.ndarray, validation: EncodedExamples
    ) -> Probe:
        """Fit a linear model of the features of training `rows`, its C chosen on validation."""
        return fit_probe(
            self._features(head, train, rows),
            train.labels[rows],
            self._features(head, validation, range(len(validation))),
            validation.labels,
            self.outputs,
            self._weights_for_probe(),
            kind=self.probe_kind,
        )

    def _weights_for_probe(self) -> np.ndarray | None:
        return None

    def _features(self, head: LinearHead, encoded: EncodedExamples, rows: Iterable[int]) -> np.ndarray:
        """Return what a linear head reads of these rows, `[rows, features]`."""
        model = HeadModel(self.model.backbone, HeadFeatures(head), part_tokens=self.settings.batch_tokens)
        return np.stack(
            [
                array
                for some in chunks(rows, VALIDATION_CHUNK)
                for array in self.outputs_of(encoded.__getitems__([int(row) for row in some]), model)
            ]
        )

    def with_counts(self, examples: Sequence[Example], outputs: list[np.ndarray]) -> list[np.ndarray]:
        """Return the logits of model and counts, where there are counts."""
        return outputs if self.stack is None or not outputs else list(self.stack.mixed(stacked(outputs), examples))

    def fit_counts(self, train: Examples) -> tuple[str, ...]:
        """Count words and characters of at most 50,000 rows."""
        assert self.baseline_loss is not None
        rows = self._drawn(len(train), MOST_PROBE_ROWS)
        notes: tuple[str, ...] = ()
        if len(rows) < len(train):
            notes = (f"Words were counted in {len(rows):,} of {len(train):,} training rows, drawn at random.",)
        counts = fit_counts(
            [train[int(row)] for row in rows],
            self._labels(train)[rows],
            self.outputs,
            self.baseline_loss,
            hashed=self.settings.private,
        )
        self.stack = Stack(counts, self.baseline_loss)
        return notes

    def calibrated_on(self, validation: Examples, encoded: EncodedExamples) -> Self:
        """Return this learner with the weights of both, by at most 10,000 rows, and what else is decided."""
        if self.stack is None:
            return super().calibrated_on(validation, encoded)
        outputs, rows = stacked(self.validation_outputs(encoded)), self._drawn(len(validation), MOST_WEIGHED_ROWS)
        learner = copy.copy(self)
        learner.stack = self.stack.weighed(
            outputs[rows], [validation[int(row)] for row in rows], self._labels(validation)[rows]
        )
        mixed: list[np.ndarray] = []
        for start in range(0, len(outputs), self.chunk):
            some = slice(start, start + self.chunk)
            mixed += learner.with_counts(validation[some], list(outputs[some]))
        return learner.calibrated(mixed, encoded)

    def _drawn(self, rows: int, most: int) -> np.ndarray:
        """Return the numbers of at most so many rows, drawn without replacement, in their order."""
        if rows <= most:
            return np.arange(rows)
        return np.sort(np.random.default_rng([self.settings.seed, 3]).choice(rows, most, replace=False))

    def count_figures(self) -> Mapping[str, float]:
        """Return the weights of model and counts."""
        return {} if self.stack is None else dict(zip(("model_weight", COUNTS_WEIGHT), self.stack.weights, strict=True))

    def save_counts(self, folder: Path) -> None:
        """Save the counts, and the weights."""
        assert self.stack is not None
        self.stack.save(folder)

    def load_counts(self, folder: Path) -> None:
        """Load the counts, and the weights."""
        self.stack = load_stack(folder, self.outputs)

    def fit_baselines(self, train: Examples, validation: Examples) -> None:
        """Fit TF-IDF with a linear model on the same rows."""
        if self.baseline_loss is None:
            return
        self.fitted = fit_baselines(
            plain_texts(train),
            self._labels(train),
            plain_texts(validation),
            self._labels(validation),
            self.outputs,
            loss=self.baseline_loss,
            seed=self.settings.seed,
            hashed=self.settings.private,
        )

    def save_baselines(self, folder: Path) -> None:
        """Save what was fitted."""
        if self.fitted is not None:
            self.fitted.save(folder)

    @property
    def baselines_hold_texts(self) -> bool:
        """Those of a private run are fitted on hashed words."""
        return not self.settings.private or type(self).save_baselines is not SequenceLearner.save_baselines

    def load_baselines(self, folder: Path) -> None:
        """Load what was fitted when the run was trained."""
        if self.baseline_loss is not None:
            self.fitted = load_baselines(folder)

    def baselines(self, examples: Sequence[Example]) -> Mapping[str, Sequence[P]]:
        """Return what the fitted baselines predict."""
        if self.fitted is None:
            return {}
        logits = self.fitted.logits(plain_texts(examples))
        return {
            name: self.baseline_predictions(found)
            for name, found in zip(self.baseline_names, logits.values(), strict=True)
        }

    def baseline_predictions(self, logits: np.ndarray) -> Sequence[P]:
        """Return the predictions that a baseline's logits `[n, outputs]` mean."""
        raise NotImplementedError

    def notes(self) -> tuple[str, ...]:
        """Return the notes on the baselines, and how far model and counts are trusted."""
        notes = () if self.fitted is None else self.fitted.notes
        if self.stack is None:
            return notes
        model, counts = self.stack.weights
        return (*notes, f"Model and counted words answer together, by the weights {model:.2f} and {counts:.2f}.")

    def _labels(self, examples: Examples) -> np.ndarray:
        """Return the labels of examples, `[n, ...]`."""
        if not len(examples.label_names):
            return np.zeros(0, dtype=np.int64)
        labels: np.ndarray = np.stack([np.asarray(self.label(target)) for target in examples.label_names])
        found: np.ndarray = labels[examples.labels]
        return found
