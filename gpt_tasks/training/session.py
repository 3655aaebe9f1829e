"""One fine-tuning from the inside: its data, its model, and the training of it."""

from __future__ import annotations

import json
import math
import resource
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import log_softmax, softmax
from transformers import set_seed
from transformers.utils import logging as transformers_logging

from gpt_tasks.backbone.load import Backbone, Location, open_backbone
from gpt_tasks.backbone.speed import keep_freed_memory, training_used_rows
from gpt_tasks.data.draws import stratified
from gpt_tasks.data.encoded import EncodedExamples, encode_examples
from gpt_tasks.data.examples import Examples
from gpt_tasks.data.splits import Splits, load_splits
from gpt_tasks.errors import DataError, UsageError
from gpt_tasks.evaluation.logits import head_logits
from gpt_tasks.evaluation.plots import plot_learning_curve
from gpt_tasks.extensions import HeadKind, Method, Metric
from gpt_tasks.files import write_json
from gpt_tasks.heads.linear_probe import fit_probe
from gpt_tasks.heads.model import TaskModel
from gpt_tasks.heads.sequence import Features, LinearHead
from gpt_tasks.metrics.intervals import compute
from gpt_tasks.plugins import Plugins
from gpt_tasks.processes import rank
from gpt_tasks.tasks.classification import ClassificationTask
from gpt_tasks.training.checkpoints import clear_incomplete, last_checkpoint
from gpt_tasks.training.config import FinetuneConfig
from gpt_tasks.training.progress import Observers, ProgressBar, tensorboard
from gpt_tasks.training.run_folder import RunFolder
from gpt_tasks.training.settings import LEAST_UPDATES, Settings, settle
from gpt_tasks.training.trainer import TaskTrainer, updates_per_epoch
from gpt_tasks.types import Event

# A frozen backbone's features are kept in memory, a few KiB for each row.
MOST_PROBE_ROWS = 50_000


@dataclass
class Session:
    """What a fine-tuning holds from reading its data to writing its report (see outcome.py)."""

    task: ClassificationTask
    method: Method
    config: FinetuneConfig
    settings: Settings
    folder: RunFolder
    plugins: Plugins
    splits: Splits
    backbone: Backbone
    head: HeadKind
    model: TaskModel
    metrics: list[Metric]
    observers: Observers
    training: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def open(
        cls,
        task: ClassificationTask,
        method: Method,
        location: Location,
        config: FinetuneConfig,
        folder: RunFolder,
        plugins: Plugins,
    ) -> Session:
        """Read the data and the backbone, settle the settings, and mark the folder as an unfinished run."""
        transformers_logging.set_verbosity_error()
        registry = plugins.registry
        metrics = [registry.metrics[name] for name in task.metrics]
        scratch = folder.scratch / f"rank-{rank()}"
        scratch.mkdir(parents=True, exist_ok=True)
        splits = load_splits(
            task,
            data=config.data,
            validation=config.validation,
            test=config.test,
            columns=config.column,
            limit=config.limit,
            seed=config.seed,
            schemes=registry.sources,
            scratch=scratch,
        )
        backbone = open_backbone(location)
        settings = settle(config, splits.task, method, registry.metrics, backbone.parameters, backbone.context_length)
        for note in splits.notes if rank() == 0 else ():
            print(note, file=sys.stderr)
        head = registry.heads[task.head]
        if method.frozen and head.frozen:
            head = registry.heads[head.frozen]
        session = cls(
            task=splits.task,
            method=method,
            config=config,
            settings=settings,
            folder=folder,
            plugins=plugins,
            splits=splits,
            backbone=backbone,
            head=head,
            model=_model(backbone, method, head, splits, settings),
            metrics=metrics,
            observers=Observers(plugins, folder.path),
        )
        if rank() == 0:
            session._mark()
        return session

    def train(self) -> None:
        """Train, from the last checkpoint where there is one."""
        self.observers.tell(Event("run_started", self.folder.path, values={"task": self.task.name}))
        started = time.monotonic()
        train = self._encoded(self.splits.train, "train")
        validation = self._encoded(self.splits.validation, "validation")
        if self.method.frozen:
            self._fit_head(train, validation)
        else:
            self._move_weights(train, validation)
        seconds = time.monotonic() - started
        self.training |= {
            "seconds": round(seconds, 3),
            "examples_per_second": round(self.training.pop("examples_now") / seconds, 2),
            "peak_memory_mb": round(_peak_memory_mb(self.settings.device), 1),
            "truncated_examples": train.truncated,
            "device": self.settings.device,
            "precision": self.settings.precision,
        }

    def judge(self, logits: np.ndarray) -> Mapping[str, float]:
        """Return the loss and the metrics of logits on the validation split."""
        references = self.splits.validation.labels
        probabilities = softmax(logits.astype(np.float64), axis=-1)
        log_likelihoods = log_softmax(logits.astype(np.float64), axis=-1)[np.arange(len(references)), references]
        predictions = logits.argmax(axis=-1)
        return {"loss": -float(log_likelihoods.mean())} | {
            metric.name: compute(metric, (references, predictions, probabilities, self.task.labels))
            for metric in self.metrics
        }

    def _move_weights(self, train: EncodedExamples, validation: EncodedExamples) -> None:
        if self.config.epochs is None:
            enough = math.ceil(LEAST_UPDATES / updates_per_epoch(train, self.settings))
            self.settings = replace(self.settings, epochs=max(self.settings.epochs, enough))
        bar = ProgressBar(self.settings.best_by)
        trainer = TaskTrainer(
            self.model,
            self.settings,
            train=train,
            validation=validation,
            judge=self.judge,
            pad_token_id=self.backbone.tokenizer.pad_token_id,
            checkpoints=self.folder.checkpoints,
            callbacks=[self.observers, bar, *tensorboard(self.folder.logs)],
        )
        if rank() == 0:
            clear_incomplete(self.folder.checkpoints)
        checkpoint = last_checkpoint(self.folder.checkpoints)
        before = _epochs_at(checkpoint) if checkpoint else 0.0
        used = torch.from_numpy(train.used_tokens).to(self.settings.device)
        keep_freed_memory()
        try:
            # The language-modelling loss weighs every token against all others, so that every row moves.
            whole = bool(self.settings.lm_weight)
            with nullcontext() if whole else training_used_rows(self.backbone.model.base_model, used):
                trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        finally:
            bar.stop()
        epochs = trainer.state.epoch or 0.0
        self.training |= {
            "updates": trainer.state.global_step,
            "epochs": round(epochs, 3),
            "examples_seen": round(len(train) * epochs),
            "examples_now": len(train) * (epochs - before),
            "best_checkpoint": trainer.state.best_global_step or trainer.state.global_step,
        }
        if rank() == 0:
            self.folder.logs.mkdir(exist_ok=True)
            write_json(self.folder.logs / "history.json", trainer.state.log_history)
            plot_learning_curve(
                trainer.state.log_history, self.settings.best_by, self.folder.path / "learning_curve.png"
            )

    def _fit_head(self, train: EncodedExamples, validation: EncodedExamples) -> None:
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
        return head_logits(
            TaskModel(self.model.backbone, Features(head)),
            (encoded[index]["input_ids"] for index in rows),
            batch_tokens=self.settings.batch_tokens,
            pad_token_id=self.backbone.tokenizer.pad_token_id,
            precision=self.settings.precision,
        )

    def _encoded(self, examples: Examples, split: str) -> EncodedExamples:
        if not len(examples):
            raise DataError(f"The {split} split is empty", "Give more rows.")
        scratch = self.folder.scratch / f"rank-{rank()}"
        return encode_examples(self.task, examples, self.backbone.tokenizer, self.settings.max_length, scratch)

    def _mark(self) -> None:
        """Write run.json. Of a run that goes on, data and backbone must be those that it was started with."""
        record = self.record()
        before = self.folder.record().get("fingerprints", record["fingerprints"])
        for what in ("data", "backbone"):
            if before[what] != record["fingerprints"][what]:
                raise DataError(
                    f"The {what} changed since the run in {self.folder.path} was started",
                    f"Bring the {what} back as it was, or start another run.",
                )
        self.folder.write(record, "unfinished")

    def record(self) -> dict[str, Any]:
        """Return what run.json tells of this run."""
        plugin = self.plugins.find(self.plugins.registry.tasks.owner(self.task.name))
        return {
            "task": self.task.name,
            "plugin": {"name": plugin.name, "distribution": plugin.distribution, "version": plugin.version},
            "config": self.config.model_dump(),
            "settings": self.settings.as_json(),
            "labels": list(self.task.labels),
            "fingerprints": {"data": self.splits.fingerprint, "backbone": self.backbone.fingerprint},
            "rows": self.rows(),
            "duplicates_left_out": dict(self.splits.duplicates),
        }

    def rows(self) -> dict[str, int]:
        """Return how many rows each split holds."""
        return {name: len(getattr(self.splits, name)) for name in ("train", "validation", "test")}


def _model(
    backbone: Backbone,
    method: Method,
    kind: HeadKind,
    splits: Splits,
    settings: Settings,
) -> TaskModel:
    """Join a new head, drawn from the seed, with the backbone as the method prepares it."""
    set_seed(settings.seed)
    labels = splits.task.labels
    head = kind.build(backbone.hidden_size, len(labels))
    base = backbone.model.base_model
    weights = None
    if settings.class_weights == "balanced":
        counts = np.bincount(splits.train.labels, minlength=len(labels))
        # A label without rows has no part in the loss, so that its weight is free.
        weights = torch.tensor(counts.sum() / (np.maximum(counts, 1) * (counts > 0).sum()), dtype=torch.float32)
    matrix = None
    if settings.lm_weight:
        causal_lm: Any = backbone.model
        matrix, embedding = causal_lm.get_output_embeddings().weight, causal_lm.get_input_embeddings().weight
        # An output matrix of its own stays as it is.
        matrix = matrix if matrix is embedding else matrix.detach()
    model = TaskModel(method.prepare(base), head, weights, output_matrix=matrix, lm_weight=settings.lm_weight)
    if settings.gradient_checkpointing:
        model.activation_checkpointing_enable()
    return model.to(settings.device)


def _epochs_at(checkpoint: Path) -> float:
    """Return how many epochs a checkpoint has behind it."""
    state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    return float(state["epoch"] or 0.0)


def _peak_memory_mb(device: str) -> float:
    """Return the device's peak where it has its own memory, else this process's peak resident set (KiB on Linux)."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / 2**20
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
