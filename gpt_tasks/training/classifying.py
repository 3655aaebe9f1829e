"""The fine-tuning of a classification: its validation by the task's metrics, and what is left of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import log_softmax, softmax

from gpt_tasks.data.encoded import EncodedExamples
from gpt_tasks.evaluation.evaluate import evaluate_examples
from gpt_tasks.evaluation.report import Report
from gpt_tasks.extensions import Metric
from gpt_tasks.metrics.intervals import compute
from gpt_tasks.plugins import Plugins
from gpt_tasks.tasks.base import Task
from gpt_tasks.tasks.classification import ClassificationTask
from gpt_tasks.training.headed import HeadSession


@dataclass
class ClassificationSession(HeadSession):
    """A fine-tuning to one of several labels."""

    task: ClassificationTask

    @staticmethod
    def directions(task: Task, plugins: Plugins) -> Mapping[str, str]:
        """Return the directions of the task's metrics."""
        return {name: plugins.registry.metrics[name].better for name in task.metrics}

    @property
    def metrics(self) -> list[Metric]:
        """The task's metrics."""
        return [self.plugins.registry.metrics[name] for name in self.task.metrics]

    def class_weights(self) -> torch.Tensor | None:
        """Return weights by which every label counts the same in the loss, where they are asked for."""
        if self.settings.class_weights != "balanced":
            return None
        counts = np.bincount(self.splits.train.labels, minlength=len(self.task.labels))
        # A label without rows has no part in the loss, so that its weight is free.
        return torch.tensor(counts.sum() / (np.maximum(counts, 1) * (counts > 0).sum()), dtype=torch.float32)

    def judge(self, validation: EncodedExamples) -> Mapping[str, float]:
        """Return the loss and the task's metrics on the validation split."""
        logits = self.logits(validation)
        references = self.splits.validation.labels
        probabilities = softmax(logits.astype(np.float64), axis=-1)
        log_likelihoods = log_softmax(logits.astype(np.float64), axis=-1)[np.arange(len(references)), references]
        predictions = logits.argmax(axis=-1)
        return {"loss": -float(log_likelihoods.mean())} | {
            metric.name: compute(metric, (references, predictions, probabilities, self.task.labels))
            for metric in self.metrics
        }

    def finish(self) -> Report:
        """Save the model with its head; report it on the test split, beside the baselines."""
        self.save()
        baselines = self.fit_baselines()
        return evaluate_examples(
            self.predictor(self.task),
            self.splits.test,
            split="test",
            metrics=self.metrics,
            baselines=baselines,
            training=self.training,
            notes=(*self.splits.notes, *baselines.notes),
            output=self.folder.path,
        )
