"""One fine-tuning from the inside: its data, its model, and the training of it, whatever the family of its task."""

from __future__ import annotations

import json
import math
import resource
import shutil
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import nn
from transformers import set_seed
from transformers.utils import logging as transformers_logging

from gpt_tasks.backbone.load import Backbone, Location, open_backbone
from gpt_tasks.backbone.speed import keep_freed_memory, training_used_rows
from gpt_tasks.data.encoded import EncodedExamples, encode_examples
from gpt_tasks.data.examples import Examples
from gpt_tasks.data.splits import Splits, load_splits
from gpt_tasks.errors import DataError
from gpt_tasks.evaluation.card import model_card
from gpt_tasks.evaluation.plots import plot_learning_curve
from gpt_tasks.evaluation.report import Report
from gpt_tasks.extensions import Method
from gpt_tasks.files import atomic_write, write_json
from gpt_tasks.heads.saved import TaskRecord
from gpt_tasks.plugins import Plugins
from gpt_tasks.processes import rank
from gpt_tasks.tasks.base import Task
from gpt_tasks.training.checkpoints import clear_incomplete, last_checkpoint
from gpt_tasks.training.config import FinetuneConfig
from gpt_tasks.training.progress import Observers, ProgressBar, tensorboard
from gpt_tasks.training.run_folder import RunFolder
from gpt_tasks.training.settings import LEAST_UPDATES, Settings, settle
from gpt_tasks.training.trainer import TaskTrainer, updates_per_epoch
from gpt_tasks.types import Event


@dataclass
class Session(ABC):
    """What a fine-tuning holds from reading its data to writing its report; each family of tasks does its own part."""

    task: Task
    method: Method
    config: FinetuneConfig
    settings: Settings
    folder: RunFolder
    plugins: Plugins
    splits: Splits
    backbone: Backbone
    observers: Observers
    training: dict[str, Any] = field(default_factory=dict)
    model: nn.Module = field(init=False)

    @classmethod
    def open(
        cls,
        task: Task,
        method: Method,
        location: Location,
        config: FinetuneConfig,
        folder: RunFolder,
        plugins: Plugins,
    ) -> Self:
        """Read the data and the backbone, settle the settings, and mark the folder as an unfinished run."""
        transformers_logging.set_verbosity_error()
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
            schemes=plugins.registry.sources,
            scratch=scratch,
        )
        backbone = open_backbone(location)
        task = splits.task
        better = cls.directions(task, plugins)
        settings = settle(config, task, method, better, backbone.parameters, backbone.context_length)
        for note in splits.notes if rank() == 0 else ():
            print(note, file=sys.stderr)
        observers = Observers(plugins, folder.path)
        session = cls(task, method, config, settings, folder, plugins, splits, backbone, observers)
        set_seed(settings.seed)
        model = session.build()
        if settings.gradient_checkpointing:
            model.activation_checkpointing_enable()
        session.model = model.to(settings.device)
        if rank() == 0:
            session._mark()
        return session

    @staticmethod
    @abstractmethod
    def directions(task: Task, plugins: Plugins) -> Mapping[str, str]:
        """Return what is measured on validation, with the direction (higher, lower) in which each figure improves."""

    @property
    def reads_embedding(self) -> bool:
        """Whether the loss weighs every token against all others, so that every row of the embedding moves."""
        return self.settings.lm_weight > 0

    @abstractmethod
    def build(self) -> Any:
        """Join the backbone, as the method prepares it, with what the task trains on it; new weights are drawn."""

    @abstractmethod
    def judge(self, validation: EncodedExamples) -> Mapping[str, float]:
        """Return the loss, and the figures of `directions`, of the model as it is now on the validation split."""

    @abstractmethod
    def finish(self) -> Report:
        """Save the model, evaluate it on the test split, and write the report."""

    def train(self) -> None:
        """Train, from the last checkpoint where there is one."""
        self.observers.tell(Event("run_started", self.folder.path, values={"task": self.task.name}))
        started = time.monotonic()
        train = self.encoded(self.splits.train, "train")
        validation = self.encoded(self.splits.validation, "validation")
        self.learn(train, validation)
        seconds = time.monotonic() - started
        self.training |= {
            "seconds": round(seconds, 3),
            "examples_per_second": round(self.training.pop("examples_now") / seconds, 2),
            "peak_memory_mb": round(_peak_memory_mb(self.settings.device), 1),
            "truncated_examples": train.truncated,
            **({"windowed_examples": train.windowed} if train.windowed else {}),
            "device": self.settings.device,
            "precision": self.settings.precision,
        }

    def learn(self, train: EncodedExamples, validation: EncodedExamples) -> None:
        """Move the weights, from the last checkpoint where there is one."""
        if self.config.epochs is None:
            enough = math.ceil(LEAST_UPDATES / updates_per_epoch(train, self.settings))
            self.settings = replace(self.settings, epochs=max(self.settings.epochs, enough))
        bar = ProgressBar(self.settings.best_by)
        trainer = TaskTrainer(
            self.model,
            self.settings,
            train=train,
            validation=validation,
            judge=lambda: self.judge(validation),
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
            base = self.backbone.model.base_model
            with nullcontext() if self.reads_embedding else training_used_rows(base, used):
                trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        finally:
            bar.stop()
        epochs, rows = trainer.state.epoch or 0.0, len(self.splits.train)
        self.training |= {
            "updates": trainer.state.global_step,
            "epochs": round(epochs, 3),
            "examples_seen": round(rows * epochs),
            "examples_now": rows * (epochs - before),
            "best_checkpoint": trainer.state.best_global_step or trainer.state.global_step,
        }
        if rank() == 0:
            self.folder.logs.mkdir(exist_ok=True)
            write_json(self.folder.logs / "history.json", trainer.state.log_history)
            plot_learning_curve(
                trainer.state.log_history, self.settings.best_by, self.folder.path / "learning_curve.png"
            )

    def encoded(self, examples: Examples, split: str) -> EncodedExamples:
        """Encode the examples of a split into a file. Raises DataError where there is none."""
        if not len(examples):
            raise DataError(f"The {split} split is empty", "Give more rows.")
        scratch = self.folder.scratch / f"rank-{rank()}"
        return encode_examples(self.task, examples, self.backbone.tokenizer, self.settings.max_length, scratch)

    def close(self, seconds: float) -> None:
        """Leave model, report and card in the folder, and mark the run, of so many seconds, as finished."""
        self.training["total_seconds"] = round(seconds, 3)
        report = self.finish()
        self._write_card(report)
        self.folder.write(self.record(), "finished")
        # Only now: until the run is marked as finished, its checkpoints are what it goes on from.
        shutil.rmtree(self.folder.checkpoints, ignore_errors=True)
        figures = {name: score.value for name, score in report.metrics.items()}
        self.observers.tell(Event("run_ended", self.folder.path, values={"status": "finished", **figures}))

    def _write_card(self, report: Report) -> None:
        card = model_card(
            report,
            run=self.folder.path.name,
            backbone=self.config.backbone,
            method=self.method.name,
            rows=self.rows(),
            settings=self.settings.as_json(),
            data=self.config.data or "the task's embedded samples",
            fields=self.splits.train.fields,
            plots=sorted(plot.name for plot in self.folder.path.glob("*.png")),
            command=self.task.command,
        )
        with atomic_write(self.folder.path / "README.md") as file:
            file.write(card)

    def task_record(self, head: str, outputs: int, method: str = "") -> TaskRecord:
        """Return what is kept of the task beside the model, and of the method that the model needs."""
        plugin = self.plugins.find(self.plugins.registry.tasks.owner(self.task.name))
        return TaskRecord(
            task=self.task.name,
            plugin=plugin.distribution,
            plugin_version=plugin.version,
            head=head,
            outputs=outputs,
            state=self.task.state(),
            method=method,
        )

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
            "labels": list(getattr(self.task, "labels", ())),
            "fingerprints": {"data": self.splits.fingerprint, "backbone": self.backbone.fingerprint},
            "rows": self.rows(),
            "duplicates_left_out": dict(self.splits.duplicates),
        }

    def rows(self) -> dict[str, int]:
        """Return how many rows each split holds."""
        return {name: len(getattr(self.splits, name)) for name in ("train", "validation", "test")}


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
