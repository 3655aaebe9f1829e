"""Learners of one of several labels, of all that are right, and of a number."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Sequence
from typing import Any, Self

import numpy as np
import torch
from scipy.special import expit, log_softmax, softmax
from torch import Tensor
from torch.nn import functional

from gpt_tasks.data.encoded import IGNORE_INDEX, EncodedExamples
from gpt_tasks.data.examples import Examples
from gpt_tasks.heads.sequence import LinearHead
from gpt_tasks.learners.base import VALIDATION_CHUNK, stacked
from gpt_tasks.learners.baselines import FREQUENT, MEAN, TFIDF, TFIDF_RIDGE, best_cut
from gpt_tasks.learners.sequence import SequenceLearner
from gpt_tasks.tasks.encoding import encode_texts
from gpt_tasks.types import Example, MultiLabelPrediction, Prediction


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
