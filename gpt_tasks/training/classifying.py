"""The fine-tuning of a classification: a head on the backbone, its validation, and what is left of it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from scipy.special import log_softmax, softmax

from gpt_tasks.data.draws import stratified
from gpt_tasks.data.encoded import EncodedExamples
from gpt_tasks.errors import UsageError
from gpt_tasks.evaluation.baselines import fit_baselines
from gpt_tasks.evaluation.evaluate import evaluate_examples, plain_texts
from gpt_tasks.evaluation.logits import head_logits
from gpt_tasks.evaluation.predictor import Predictor
from gpt_tasks.evaluation.report import Report
from gpt_tasks.extensions import HeadKind, Metric
from gpt_tasks.heads.linear_probe import fit_probe
from gpt_tasks.heads.model import TaskModel, save_model
from gpt_tasks.heads.sequence import Features, LinearHead
from gpt_tasks.metrics.intervals import compute
from gpt_tasks.plugins import Plugins
from gpt_tasks.processes import gathered, rank, world_size
from gpt_tasks.tasks.base import Task
from gpt_tasks.tasks.classification import ClassificationTask
from gpt_tasks.training.session import Session

# A frozen backbone's features are kept in memory, a few KiB for each row.
MOST_PROBE_ROWS = 50_000


@dataclass
class ClassificationSession(Session):
    """A fine-tuning to one of several labels."""

    task: ClassificationTask
    model: TaskModel = field(init=False)

    @staticmethod
    def directions(task: Task, plugins: Plugins) -> Mapping[str, str]:
        """Return the directions of the task's metrics."""
        return {name: plugins.registry.metrics[name].better for name in task.metrics}

    @property
    def metrics(self) -> list[Metric]:
        """The task's metrics."""
        return [self.plugins.registry.metrics[name] for name in self.task.metrics]

    @property
    def head(self) -> HeadKind:
        """The kind of head: the task's, or the one that takes its place on a frozen backbone."""
        heads = self.plugins.registry.heads
        kind = heads[self.task.head]
        return heads[kind.frozen] if self.method.frozen and kind.frozen else kind

    def build(self) -> TaskModel:
        """Join a new head with the backbone."""
        causal_lm: Any = self.backbone.model
        head = self.head.build(self.backbone.hidden_size, len(self.task.labels))
        weights = matrix = None
        if self.settings.class_weights == "balanced":
            counts = np.bincount(self.splits.train.labels, minlength=len(self.task.labels))
            # A label without rows has no part in the loss, so that its weight is free.
            weights = torch.tensor(counts.sum() / (np.maximum(counts, 1) * (counts > 0).sum()), dtype=torch.float32)
        if self.settings.lm_weight:
            matrix, embedding = causal_lm.get_output_embeddings().weight, causal_lm.get_input_embeddings().weight
            # An output matrix of its own stays as it is.
            matrix = matrix if matrix is embedding else matrix.detach()
        backbone = self.method.prepare(causal_lm.base_model)
        return TaskModel(backbone, head, weights, output_matrix=matrix, lm_weight=self.settings.lm_weight)

    def judge(self, validation: EncodedExamples) -> Mapping[str, float]:
        """Return the loss and the task's metrics on the validation split."""
        logits = self._logits(validation)
        references = self.splits.validation.labels
        probabilities = softmax(logits.astype(np.float64), axis=-1)
        log_likelihoods = log_softmax(logits.astype(np.float64), axis=-1)[np.arange(len(references)), references]
        predictions = logits.argmax(axis=-1)
        return {"loss": -float(log_likelihoods.mean())} | {
            metric.name: compute(metric, (references, predictions, probabilities, self.task.labels))
            for metric in self.metrics
        }

    def _logits(self, validation: EncodedExamples) -> np.ndarray:
        """Return the logits `[n, labels]` of the validation split, to which each process brings its share."""
        shares = gathered(self._shown(self.model, validation, range(rank(), len(validation), world_size())))
        # Of fewer examples than processes, the last processes judge none.
        shares = [share for share in shares if len(share)]
        logits = np.empty((len(validation), shares[0].shape[1]), dtype=shares[0].dtype)
        for start, share in enumerate(shares):
            logits[start :: world_size()] = share
        return logits

    def learn(self, train: EncodedExamples, validation: EncodedExamples) -> None:
        """Move the weights; or compute a frozen backbone's features once, and fit the head on them."""
        if not self.method.frozen:
            super().learn(train, validation)
            return
        head = self.model.head
        if not isinstance(head, LinearHead):
            raise UsageError(
                f"--method {self.method.name} fits a linear head; the head of task '{self.task.name}' is another",
                "Take --method full or lora.",
            )
        labels = self.splits.train.labels
        rows = np.arange(len(train))
        if len(train) > MOST_PROBE_ROWS:
            rows = stratified(labels, MOST_PROBE_ROWS, np.random.default_rng([self.settings.seed, 2]))
            note = f"The head was fitted on {len(rows):,} of {len(train):,} training rows, drawn by label."
            self.splits = replace(self.splits, notes=(*self.splits.notes, note))
            if rank() == 0:
                print(note, file=sys.stderr)
        probe = fit_probe(
            self._features(head, train, rows),
            labels[rows],
            self._features(head, validation, range(len(validation))),
            self.splits.validation.labels,
            len(self.task.labels),
            None if self.model.class_weights is None else self.model.class_weights.cpu().numpy(),
        )
        with torch.no_grad():
            head.linear.weight.copy_(torch.from_numpy(probe.weight))
            head.linear.bias.copy_(torch.from_numpy(probe.bias))
        self.training |= {"updates": 0, "epochs": 1, "examples_seen": len(rows), "examples_now": len(rows)}
        self.training["probe_strength"] = probe.strength

    def _features(self, head: LinearHead, encoded: EncodedExamples, rows: Iterable[int]) -> np.ndarray:
        """Return what a linear head reads of these rows, `[rows, features]`."""
        return self._shown(TaskModel(self.model.backbone, Features(head)), encoded, rows)

    def _shown(self, model: TaskModel, encoded: EncodedExamples, rows: Iterable[int]) -> np.ndarray:
        """Return what a model with a head says of these rows, `[rows, outputs]`."""
        return head_logits(
            model,
            (encoded[index]["input_ids"] for index in rows),
            batch_tokens=self.settings.batch_tokens,
            pad_token_id=self.backbone.tokenizer.pad_token_id,
            precision=self.settings.precision,
        )

    def finish(self) -> Report:
        """Save the model with its head; report it on the test split, beside the baselines."""
        folder, task, splits, settings = self.folder, self.task, self.splits, self.settings
        self.model.backbone = self.method.finish(self.model.backbone)
        record = self.task_record(self.head.name, len(task.labels))
        save_model(folder.model, self.backbone.model, self.backbone.tokenizer, self.model.head, record)
        baselines = fit_baselines(
            plain_texts(splits.train),
            splits.train.labels,
            plain_texts(splits.validation),
            splits.validation.labels,
            len(task.labels),
            seed=settings.seed,
        )
        baselines.save(folder.baselines)
        return evaluate_examples(
            Predictor(
                task,
                self.model,
                self.backbone.tokenizer,
                settings.max_length,
                settings.batch_tokens,
                settings.precision,
            ),
            splits.test,
            split="test",
            metrics=self.metrics,
            baselines=baselines,
            training=self.training,
            notes=(*splits.notes, *baselines.notes),
            output=folder.path,
        )
