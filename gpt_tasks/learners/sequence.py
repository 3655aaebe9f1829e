"""Learners of whole texts: one of several labels, all that are right, or a number."""

from __future__ import annotations

import copy
import json
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
import torch
from scipy.special import expit, log_softmax, softmax
from torch import Tensor, nn
from torch.nn import functional

from gpt_tasks.data.draws import stratified_sample
from gpt_tasks.data.encoded import IGNORE_INDEX, EncodedExamples
from gpt_tasks.data.examples import Examples, chunks
from gpt_tasks.evaluation.verdict import COUNTS_WEIGHT
from gpt_tasks.heads.linear_probe import Probe, ProbeKind, fit_probe
from gpt_tasks.heads.model import HeadModel
from gpt_tasks.heads.sequence import Features as HeadFeatures
from gpt_tasks.heads.sequence import LinearHead
from gpt_tasks.learners.base import VALIDATION_CHUNK, FrozenFit, Learner, stacked
from gpt_tasks.learners.baselines import (
    FREQUENT,
    MAJORITY,
    MEAN,
    TFIDF,
    TFIDF_RIDGE,
    Baselines,
    best_cut,
    fit_baselines,
    load_baselines,
    plain_texts,
)
from gpt_tasks.learners.counts import Stack, fit_counts, load_stack
from gpt_tasks.learners.tfidf import Loss
from gpt_tasks.tasks.encoding import encode_texts
from gpt_tasks.types import Example, Features, MultiLabelPrediction, Prediction

P = TypeVar("P")

# A frozen backbone's features stay in memory, a few KiB for each row.
MOST_PROBE_ROWS = 50_000


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

    def predict(self, examples: Sequence[Example], *, scored: bool = False) -> Sequence[P]:
        """Answer examples by the model, and by counts where they are beside it."""
        outputs = self.outputs_of(self.encode(examples))
        return self.decode(examples, self._with_counts(examples, outputs))

    def _with_counts(self, examples: Sequence[Example], outputs: list[np.ndarray]) -> list[np.ndarray]:
        return outputs if self.stack is None or not outputs else list(self.stack.mixed(stacked(outputs), examples))

    def fit_counts(self, train: Examples) -> tuple[str, ...]:
        """Count words and characters of at most 50,000 rows."""
        assert self.baseline_loss is not None
        rows, labels = np.arange(len(train)), self._labels(train)
        notes: tuple[str, ...] = ()
        if len(rows) > MOST_PROBE_ROWS:
            rows = np.sort(np.random.default_rng([self.settings.seed, 3]).choice(rows, MOST_PROBE_ROWS, replace=False))
            notes = (f"Words were counted in {len(rows):,} of {len(train):,} training rows, drawn at random.",)
        counts = fit_counts(
            [train[int(row)] for row in rows],
            labels[rows],
            self.outputs,
            self.baseline_loss,
            hashed=self.settings.private,
        )
        self.stack = Stack(counts, self.baseline_loss)
        return notes

    def calibrated_on(self, validation: Examples, encoded: EncodedExamples) -> Self:
        """Return this learner with the weights of model and counts, and then what else validation decides."""
        if self.stack is None:
            return super().calibrated_on(validation, encoded)
        outputs, examples = stacked(self.validation_outputs(encoded)), validation[:]
        learner = copy.copy(self)
        learner.stack = self.stack.weighed(outputs, examples, self._labels(validation))
        return learner.calibrated(list(learner.stack.mixed(outputs, examples)), encoded)

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


class ClassificationLearner(SequenceLearner[Prediction]):
    """One logit for each label, trained by cross-entropy."""

    chunk = VALIDATION_CHUNK
    baseline_loss = "cross_entropy"
    class_weights: Tensor | None = None

    @property
    def outputs(self) -> int:
        """One logit for each label."""
        return len(self.task.labels)

    def check(self, lm_weight: float) -> None:
        """Labels can be weighed."""

    def prepare_backbone(self, train: Examples) -> None:
        """Add the task's tokens; with --class-weights balanced, weigh labels so that each counts the same."""
        super().prepare_backbone(train)
        if self.settings.class_weights == "balanced":
            counts = np.bincount(train.labels, minlength=self.outputs)
            # A label without rows has no part in the loss, so that its weight is free.
            weights = counts.sum() / (np.maximum(counts, 1) * (counts > 0).sum())
            self.class_weights = torch.tensor(weights, dtype=torch.float32, device=self.settings.device)

    def begin(self) -> None:
        """Begin where the language model stands: a label's row is that of its word in the model's output layer.

        Of a word of several tokens it is the mean of their rows. A head that reads more than the last token, or texts
        that no word can follow, begins at random.
        """
        head, layer = self.model.head, self.backbone.model.get_output_embeddings()
        is_last = (
            isinstance(head, LinearHead) and head.reads_last_token_only and getattr(self.task, "label_follows", False)
        )
        if layer is None or not is_last or head.linear.in_features != layer.weight.shape[1]:
            return
        words = [f" {self.task.word(label).replace('_', ' ')}" for label in self.task.labels]
        with torch.no_grad():
            for row, ids in enumerate(encode_texts(self.backbone.tokenizer, words, begins=False)):
                head.linear.weight[row] = layer.weight[ids].float().mean(dim=0)

    def label(self, target: str) -> Any:
        """Return the label's index."""
        return np.int64(self.task.labels.index(target))

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the cross-entropy of logits `[n, labels]` and labels `[n]`, in nats, weighed by `class_weights`."""
        return functional.cross_entropy(
            logits, labels, weight=self.class_weights, ignore_index=IGNORE_INDEX, reduction="sum"
        )

    def decode(self, examples: Iterable[Example], outputs: Sequence[np.ndarray]) -> list[Prediction]:
        """Turn logits into labels and probabilities."""
        if not len(outputs):
            return []
        predictions: list[Prediction] = self.task.predictions(softmax(stacked(outputs).astype(np.float64), axis=-1))
        return predictions

    def mean_loss(self, outputs: Sequence[np.ndarray], encoded: EncodedExamples) -> float:
        """Return the mean cross-entropy, without weights of labels, in float64."""
        right = []
        for start in range(0, len(outputs), self.chunk):
            some = slice(start, start + self.chunk)
            log_likelihoods = log_softmax(stacked(outputs[some]).astype(np.float64), axis=-1)
            right.append(log_likelihoods[np.arange(len(log_likelihoods)), encoded.labels[some]])
        return -float(np.concatenate(right).mean())

    def baseline_predictions(self, logits: np.ndarray) -> list[Prediction]:
        """Turn a baseline's logits into labels and probabilities, in float32, unchanged."""
        predictions: list[Prediction] = self.task.predictions(softmax(logits, axis=1))
        return predictions

    def _weights_for_probe(self) -> np.ndarray | None:
        return None if self.class_weights is None else self.class_weights.cpu().numpy()


class MultiLabelLearner(SequenceLearner[MultiLabelPrediction]):
    """One logit for each label, each trained by binary cross-entropy."""

    probe_kind = "binary"
    baseline_loss = "binary"
    baseline_names = (FREQUENT, TFIDF)

    @property
    def outputs(self) -> int:
        """One logit for each label."""
        return len(self.task.labels)

    def label(self, target: str) -> Any:
        """Return 1 for each label that is right, else 0: `[labels]`."""
        right = np.zeros(self.outputs, dtype=np.float32)
        right[[self.task.labels.index(label) for label in json.loads(target)]] = 1
        return right

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the binary cross-entropy, in nats, of every label; logits and labels are `[n, labels]`."""
        counts = labels != IGNORE_INDEX
        each = functional.binary_cross_entropy_with_logits(logits, labels.clamp(min=0), reduction="none")
        return (each * counts).sum()

    def decode(self, examples: Iterable[Example], outputs: Sequence[np.ndarray]) -> list[MultiLabelPrediction]:
        """Turn logits into labels and probabilities."""
        return _given(self.task, stacked(outputs)) if len(outputs) else []

    def calibrated(self, outputs: Sequence[np.ndarray], encoded: EncodedExamples) -> Self:
        """Return this learner with the threshold of the best micro F1 on validation, unless one was set."""
        if self.task.threshold is not None:
            return self
        learner = copy.copy(self)
        learner.task = copy.copy(self.task)
        learner.task.threshold = float(expit(best_cut(stacked(outputs), encoded.labels)))
        return learner

    def baseline_predictions(self, logits: np.ndarray) -> list[MultiLabelPrediction]:
        """Turn a baseline's logits, shifted to their best cut, into labels."""
        return _given(self.task.with_default_threshold(), logits)


def _given(task: Any, logits: np.ndarray) -> list[MultiLabelPrediction]:
    threshold = task.with_default_threshold().threshold if task.threshold is None else task.threshold
    return [
        MultiLabelPrediction(
            tuple(label for label, p in zip(task.labels, row, strict=True) if p >= threshold),
            dict(zip(task.labels, row, strict=True)),
        )
        for row in expit(logits.astype(np.float64)).tolist()
    ]


class RegressionLearner(SequenceLearner[float]):
    """A number as a deviation from the training data's mean, in their standard deviations, by its squared error."""

    probe_kind = "ridge"
    baseline_loss = "squared"
    baseline_names = (MEAN, TFIDF_RIDGE)

    @property
    def outputs(self) -> int:
        """One number."""
        return 1

    def label(self, target: str) -> Any:
        """Return the deviation from the mean, in standard deviations."""
        return np.float32((np.float64(target) - self.task.mean) / self.task.std)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the squared error of logits `[n, 1]` and numbers `[n]`."""
        squares: Tensor = ((logits[:, 0] - labels)[labels != IGNORE_INDEX] ** 2).sum()
        return squares

    def decode(self, examples: Iterable[Example], outputs: Sequence[np.ndarray]) -> list[float]:
        """Turn logits into numbers."""
        return self.baseline_predictions(stacked(outputs)) if len(outputs) else []

    def baseline_predictions(self, logits: np.ndarray) -> list[float]:
        """Turn a baseline's logits into numbers."""
        numbers: list[float] = (logits[:, 0].astype(np.float64) * self.task.std + self.task.mean).tolist()
        return numbers
