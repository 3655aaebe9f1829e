"""One fine-tuning from the inside: its data, its model, its training, and what it leaves in the run folder."""

from __future__ import annotations

import resource
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from scipy.special import log_softmax, softmax
from transformers import set_seed
from transformers.utils import logging as transformers_logging

from gpt_tasks.backbone.load import Backbone, load_backbone
from gpt_tasks.data.encoded import EncodedExamples, encode_examples
from gpt_tasks.data.examples import Examples
from gpt_tasks.data.splits import Splits, load_splits
from gpt_tasks.errors import DataError
from gpt_tasks.evaluation.baselines import fit_baselines
from gpt_tasks.evaluation.evaluate import evaluate_examples
from gpt_tasks.evaluation.plots import plot_learning_curve
from gpt_tasks.evaluation.predictor import Predictor
from gpt_tasks.extensions import Method, Metric
from gpt_tasks.files import write_json
from gpt_tasks.heads.linear_probe import features, fit_probe
from gpt_tasks.heads.model import TaskModel, save_model
from gpt_tasks.plugins import Plugins
from gpt_tasks.tasks.classification import ClassificationTask
from gpt_tasks.training.checkpoints import clear_incomplete, last_checkpoint
from gpt_tasks.training.config import FinetuneConfig
from gpt_tasks.training.processes import rank
from gpt_tasks.training.progress import Observers, ProgressBar
from gpt_tasks.training.run_folder import RunFolder
from gpt_tasks.training.settings import Settings, settle
from gpt_tasks.training.trainer import TaskTrainer
from gpt_tasks.types import Event


@dataclass
class Session:
    """What a fine-tuning holds between reading its data and writing its report."""

    task: ClassificationTask
    method: Method
    config: FinetuneConfig
    settings: Settings
    folder: RunFolder
    plugins: Plugins
    splits: Splits
    backbone: Backbone
    model: TaskModel
    metrics: list[Metric]
    observers: Observers
    training: dict[str, float | int | str] = field(default_factory=dict)

    @classmethod
    def open(
        cls,
        task: ClassificationTask,
        method: Method,
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
        backbone = load_backbone(config.backbone, registry.backbones)
        parameters = sum(parameter.numel() for parameter in backbone.model.parameters())
        settings = settle(
            config, splits.task, method, registry.metrics, parameters, backbone.context
        )
        for note in splits.notes if rank() == 0 else ():
            print(note, file=sys.stderr)
        session = cls(
            task=splits.task,
            method=method,
            config=config,
            settings=settings,
            folder=folder,
            plugins=plugins,
            splits=splits,
            backbone=backbone,
            model=_model(splits, backbone, method, settings, registry.heads[task.head].build),
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
            "examples_per_second": round(self.training["examples_seen"] / seconds, 2),
            "peak_memory_mb": round(_peak_memory_mb(), 1),
            "truncated_examples": train.truncated,
            "device": self.settings.device,
            "precision": self.settings.precision,
        }

    def finish(self, seconds: float) -> None:
        """Save the model, evaluate it on the test split, and mark the run as finished."""
        self.method.finish(self.model.backbone)
        save_model(
            self.folder.model,
            self.backbone.model,
            self.backbone.tokenizer,
            self.model.head,
            self._task_state(),
        )
        texts = {name: _texts(split) for name, split in (("train", self.splits.train), ("val", self.splits.validation))}
        baselines = fit_baselines(
            texts["train"],
            self._references(self.splits.train),
            texts["val"],
            self._references(self.splits.validation),
            len(self.task.labels),
            seed=self.settings.seed,
        )
        baselines.save(self.folder.baselines)
        report = evaluate_examples(
            self.predictor(),
            self.splits.test,
            split="test",
            metrics=self.metrics,
            baselines=baselines,
            training={**self.training, "total_seconds": round(seconds, 3)},
            notes=(*self.splits.notes, *baselines.notes),
            output=self.folder.path,
            card=self._record(),
        )
        shutil.rmtree(self.folder.checkpoints, ignore_errors=True)
        self.folder.write(self._record(), "finished")
        self.observers.tell(
            Event(
                "run_ended",
                self.folder.path,
                values={"status": "finished", **{name: score.value for name, score in report.metrics.items()}},
            )
        )

    def predictor(self) -> Predictor:
        """Return the model as it answers now."""
        return Predictor(
            self.task,
            self.model,
            self.backbone.tokenizer,
            self.settings.max_length,
            self.settings.batch_tokens,
            self.settings.precision,
        )

    def judge(self, logits: np.ndarray) -> Mapping[str, float]:
        """Return the loss and the metrics of logits on the validation split."""
        references = self._references(self.splits.validation)
        probabilities = softmax(logits.astype(np.float64), axis=-1)
        log_likelihoods = log_softmax(logits.astype(np.float64), axis=-1)[np.arange(len(references)), references]
        predictions = logits.argmax(axis=-1)
        return {"loss": -float(log_likelihoods.mean())} | {
            metric.name: float(metric.function(references, predictions, probabilities, self.task.labels))
            for metric in self.metrics
        }

    def _move_weights(self, train: EncodedExamples, validation: EncodedExamples) -> None:
        bar = ProgressBar(self.settings.best_by)
        trainer = TaskTrainer(
            self.model,
            self.settings,
            train=train,
            validation=validation,
            judge=self.judge,
            pad_token_id=self.backbone.tokenizer.pad_token_id,
            checkpoints=self.folder.checkpoints,
            logs=self.folder.logs,
            callbacks=[self.observers, bar],
        )
        if rank() == 0:
            clear_incomplete(self.folder.checkpoints)
        checkpoint = last_checkpoint(self.folder.checkpoints)
        try:
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        finally:
            bar.stop()
        self.training |= {
            "updates": trainer.state.global_step,
            "epochs": round(trainer.state.epoch or 0.0, 3),
            "examples_seen": round(len(train) * (trainer.state.epoch or 0.0)),
            "best_checkpoint": trainer.state.best_global_step or trainer.state.global_step,
        }
        if rank() == 0:
            self.folder.logs.mkdir(exist_ok=True)
            write_json(self.folder.logs / "history.json", trainer.state.log_history)
            plot_learning_curve(
                trainer.state.log_history, self.settings.best_by, self.folder.path / "learning_curve.png"
            )

    def _fit_head(self, train: EncodedExamples, validation: EncodedExamples) -> None:
        inputs = {
            name: features(
                self.model.backbone,
                encoded,
                batch_tokens=self.settings.batch_tokens,
                pad_token_id=self.backbone.tokenizer.pad_token_id,
                precision=self.settings.precision,
            )
            for name, encoded in (("train", train), ("validation", validation))
        }
        weight, bias = fit_probe(
            inputs["train"],
            self._references(self.splits.train),
            len(self.task.labels),
            inputs["validation"],
            self._references(self.splits.validation),
            balanced=self.settings.class_weights == "balanced",
            seed=self.settings.seed,
        )
        self.model.head.set_linear(weight, bias)
        self.training |= {"updates": 0, "epochs": 1, "examples_seen": len(train)}

    def _encoded(self, examples: Examples, split: str) -> EncodedExamples:
        if not len(examples):
            raise DataError(f"The {split} split is empty", "Give more rows.")
        scratch = self.folder.scratch / f"rank-{rank()}"
        return encode_examples(
            self.task, examples, self.backbone.tokenizer, self.settings.max_length, scratch
        )

    def _references(self, examples: Examples) -> np.ndarray:
        return examples.label_indices(self.task.labels)

    def _mark(self) -> None:
        """Write run.json; where it is already there, check that data and backbone are still those of the run."""
        record = self._record()
        if (self.folder.path / "run.json").exists():
            before = self.folder.record()
            for what in ("data", "backbone"):
                if before["fingerprints"][what] != record["fingerprints"][what]:
                    raise DataError(
                        f"The {what} changed since the run in {self.folder.path} was started",
                        f"Bring the {what} back as it was, or start another run.",
                    )
        self.folder.write(record, "unfinished")

    def _record(self) -> dict[str, Any]:
        plugin = self.plugins.find(self.plugins.registry.tasks.owner(self.task.name))
        return {
            "task": self.task.name,
            "plugin": {"name": plugin.name, "distribution": plugin.distribution, "version": plugin.version},
            "config": self.config.model_dump(),
            "settings": self.settings.as_json(),
            "labels": list(self.task.labels),
            "fingerprints": {"data": self.splits.fingerprint, "backbone": self.backbone.fingerprint},
            "rows": {
                "train": len(self.splits.train),
                "validation": len(self.splits.validation),
                "test": len(self.splits.test),
            },
            "duplicates_left_out": dict(self.splits.duplicates),
        }

    def _task_state(self) -> dict[str, Any]:
        record = self._record()
        return {
            "task": self.task.name,
            "plugin": record["plugin"],
            "head": self.task.head,
            "state": self.task.state(),
            "max_length": self.settings.max_length,
            "batch_tokens": self.settings.batch_tokens,
        }


def _peak_memory_mb() -> float:
    """Return the device's peak where it has its own memory, else this process's peak resident set (KiB on Linux)."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
