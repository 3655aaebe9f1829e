"""One fine-tuning from the inside: its data, its model and its training."""

from __future__ import annotations

import json
import math
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import torch
from transformers import set_seed

from gpt_tasks.backbone.layers import freeze_layers
from gpt_tasks.backbone.load import Backbone, open_backbone
from gpt_tasks.backbone.locate import Location
from gpt_tasks.backbone.precision import resolve_device, resolve_precision
from gpt_tasks.backbone.quantized import quantization
from gpt_tasks.backbone.speed import keep_freed_memory, training_used_rows
from gpt_tasks.backbone.tensors import moving
from gpt_tasks.data.encoded import EncodedExamples, FeaturesError, store_features
from gpt_tasks.data.examples import Examples, chunks, text_length
from gpt_tasks.data.leaks import load_trained, note_on_training
from gpt_tasks.data.oddities import very_long
from gpt_tasks.data.splits import Splits, load_splits
from gpt_tasks.errors import DataError, PluginError, UsageError
from gpt_tasks.evaluation.plots import plot_learning_curve
from gpt_tasks.evaluation.statistics import check_metrics
from gpt_tasks.events import Observers
from gpt_tasks.extensions import HeadSpec, Method, Metric
from gpt_tasks.files import write_json
from gpt_tasks.learners.base import Learner, LearnerSettings
from gpt_tasks.plugins import Plugin, Plugins
from gpt_tasks.processes import rank
from gpt_tasks.shown import tell
from gpt_tasks.tasks.base import Task
from gpt_tasks.threads import LOADING
from gpt_tasks.training.checkpoint_files import last_checkpoint
from gpt_tasks.training.checkpoints import chosen_by_loss
from gpt_tasks.training.config import FinetuneConfig
from gpt_tasks.training.progress import ObserverCallback, ProgressBar
from gpt_tasks.training.record import FOLDER
from gpt_tasks.training.run_folder import RunFolder
from gpt_tasks.training.settings import (
    EXAMPLES_OF_AN_UPDATE,
    FEWEST_OF_AN_UPDATE,
    LEAST_UPDATES,
    Settings,
    settle,
)
from gpt_tasks.training.trainer import LearnerTrainer, updates_per_epoch
from gpt_tasks.types import Example

ENCODED_AT_ONCE = 1024


@dataclass
class Session:
    """What a fine-tuning holds from reading its data on; `results` writes what comes of it."""

    learner: Learner[Any]
    method: Method
    head: HeadSpec | None
    metrics: list[Metric]
    config: FinetuneConfig
    settings: Settings
    folder: RunFolder
    plugins: Plugins
    splits: Splits
    training: dict[str, Any] = field(default_factory=dict)
    validation: EncodedExamples | None = None
    added_tokens: tuple[str, ...] = ()
    frozen: tuple[Any, ...] = ()

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
        """Read the data and the backbone, settle the settings, build the model; mark the folder as unfinished."""
        scratch = folder.scratch / f"rank-{rank()}"
        scratch.mkdir(parents=True, exist_ok=True)
        registry = plugins.registry
        splits = load_splits(
            task,
            data=config.data,
            validation=config.validation,
            test=config.test,
            columns=config.column,
            limit=config.limit,
            encoding=config.encoding,
            skip_invalid=config.skip_invalid,
            limit_validation=config.limit_validation,
            limit_test=config.limit_test,
            seed=config.seed,
            private=config.private,
            schemes=registry.sources,
            scratch=scratch,
        )
        quantized = None
        if config.load_in:
            quantized = quantization(config.load_in, resolve_precision(config.precision, resolve_device(config.device)))
        backbone = open_backbone(location, quantization=quantized)
        task = splits.task
        seen = [f"test: {note}" for note in note_on_training(splits.test, load_trained(location.folder))]
        splits = replace(splits, notes=(*splits.notes, *seen))
        assert task.learner is not None
        kind: type[Learner[Any]] = registry.learners[task.learner].load()
        settings = settle(config, task, method, backbone.parameters, backbone.context_length)
        learner = kind(task, backbone, learner_settings(settings, lambda: open_backbone(location), config.private))
        metrics = registry.metrics_of(task, [*task.metrics, *config.metric])
        check_metrics(metrics, task, splits.train[0])
        settings = settings.choose_best_by(learner.validation_metrics(metrics), config.best_by, task)
        for note in splits.notes if rank() == 0 else ():
            tell(note)
        head = None if task.head is None else registry.heads[task.head]
        if head is not None and method.frozen and head.frozen:
            head = registry.heads[head.frozen]
        session = cls(learner, method, head, metrics, config, settings, folder, plugins, splits)
        set_seed(settings.seed)
        with LOADING:
            session._build()
        if rank() == 0:
            session._mark()
        return session

    @property
    def task(self) -> Task:
        """The task, fitted to the training data."""
        task: Task = self.learner.task
        return task

    @property
    def backbone(self) -> Backbone:
        """The language model that is tuned."""
        return self.learner.backbone

    def _build(self) -> None:
        """Join the backbone, as the method prepares it, with a new head; new weights are drawn."""
        learner, settings = self.learner, self.settings
        tokenizer = self.backbone.tokenizer
        known = tokenizer.get_vocab().keys()
        learner.prepare_backbone(self.splits.train)
        vocabulary = tokenizer.get_vocab()
        self.added_tokens = tuple(sorted(vocabulary.keys() - known, key=vocabulary.__getitem__))
        causal_lm: Any = self.backbone.model
        head = None if self.head is None else self.head.build(self.backbone.hidden_size, learner.outputs)
        matrix = None
        if settings.lm_weight:
            matrix, embedding = causal_lm.get_output_embeddings().weight, causal_lm.get_input_embeddings().weight
            # An untied output matrix stays unchanged.
            matrix = matrix if matrix is embedding else matrix.detach()
        transformer = self.method.prepare(causal_lm.base_model)
        if settings.freeze_layers is not None:
            self.frozen = tuple(freeze_layers(transformer, settings.freeze_layers))
        model: Any = learner.join(transformer, head, output_matrix=matrix, lm_weight=settings.lm_weight)
        if self.frozen and not any(parameter.requires_grad for parameter in model.parameters()):
            raise UsageError(
                f"--freeze-layers {settings.freeze_layers}: nothing is left that could be trained", "Freeze fewer."
            )
        if settings.gradient_checkpointing:
            model.activation_checkpointing_enable()
        learner.model = model.to(settings.device)
        learner.begin()

    def train(self, observers: Observers) -> None:
        """Train, from the last checkpoint where there is one."""
        started = time.monotonic()
        train = self.encoded(self.splits.train, "train")
        self.validation = validation = self.encoded(self.splits.validation, "validation")
        if self.method.frozen:
            self._fit_frozen(train, validation)
        else:
            self._fit(train, validation, observers)
            # What the method trains is saved as a whole.
            for parameter in self.frozen:
                parameter.requires_grad_(True)
            if self.settings.load_in:
                with LOADING:
                    self._unquantize()
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

    def _fit(self, train: EncodedExamples, validation: EncodedExamples, observers: Observers) -> None:
        """Train the weights, from the last checkpoint where there is one."""
        self._accumulate(train)
        if self.config.epochs is None:
            enough = math.ceil(LEAST_UPDATES / updates_per_epoch(train, self.settings, self.learner))
            self.settings = replace(self.settings, epochs=max(self.settings.epochs, enough))
        bar = ProgressBar(self.settings.best_by)
        metrics = self.learner.validation_metrics(self.metrics)
        trainer = LearnerTrainer(
            self.learner,
            self.settings,
            train=train,
            validation=validation,
            validate=lambda: self.learner.validate(self.splits.validation, validation, metrics),
            checkpoints=self.folder.checkpoints,
            callbacks=[ObserverCallback(observers), bar],
        )
        checkpoint = last_checkpoint(self.folder.checkpoints)
        before = _epochs_at(checkpoint) if checkpoint else 0.0
        used = torch.from_numpy(train.used_tokens).to(self.settings.device)
        keep_freed_memory()
        moves_all = self.learner.trains_embedding or self.settings.lm_weight > 0
        try:
            base = self.backbone.model.base_model
            with nullcontext() if moves_all else training_used_rows(base, used):
                trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        finally:
            bar.stop()
        if chosen_by_loss(trainer.state.log_history, trainer.args) is not None:
            by = self.settings.best_by
            self.note((f"On validation {by} is the same at every checkpoint: the loss has chosen the best one.",))
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

    def _unquantize(self) -> None:
        """Put the weights of the backbone's own precision in the place of the quantized ones, beside what was trained.

        So what is evaluated is what is saved.
        """
        trained, head = moving(self.learner.model.backbone), getattr(self.learner.model, "head", None)
        backbone = open_backbone(self.backbone.location)
        self.learner = type(self.learner)(self.task, backbone, self.learner.settings)
        self.learner.prepare_backbone(self.splits.train)
        causal_lm: Any = backbone.model
        transformer = self.method.prepare(causal_lm.base_model)
        transformer.load_state_dict(trained, strict=False)
        joined: Any = self.learner.join(transformer, head)
        self.learner.model = joined.to(self.settings.device).eval()

    def _accumulate(self, train: EncodedExamples) -> None:
        """Make an update of several batches where texts are so long that one batch holds next to no examples.

        The gradient of one example says little of the others, at the learning rates that are for many.
        """
        if self.config.accumulate is not None or self.learner.batch_examples is not None:
            return
        held = len(train) / max(1, updates_per_epoch(train, self.settings, self.learner))
        if held < FEWEST_OF_AN_UPDATE:
            batches = math.ceil(EXAMPLES_OF_AN_UPDATE / held)
            self.settings = replace(self.settings, accumulate=batches)
            self.note((f"A batch holds {held:.1f} examples: an update is of {batches} batches (--accumulate).",))

    def _fit_frozen(self, train: EncodedExamples, validation: EncodedExamples) -> None:
        """Compute a frozen backbone's features once, and fit the head on them."""
        fit = self.learner.fit_frozen(train, validation)
        seen = round(len(self.splits.train) * fit.rows / len(train))
        self.note(fit.notes)
        self.training |= {"updates": 0, "epochs": 1, "examples_seen": seen, "examples_now": seen, **fit.figures}

    def encoded(self, examples: Examples, split: str) -> EncodedExamples:
        """Encode the examples of a split into a file. Raises DataError where there is none."""
        if not len(examples):
            raise DataError(f"The {split} split is empty", "Give more rows.")
        encode = self.learner.encode_training if split == "train" else self.learner.encode
        try:
            encoded = store_features(map(encode, self._chunks(examples)), self.folder.scratch / f"rank-{rank()}")
        except FeaturesError as error:
            raise PluginError(
                f"Learner '{self.task.learner}' ({self.learner_source()}): {error}", "Fix the learner."
            ) from error
        if split == "train":
            remarks = self.learner.remarks(self.config.recorded()["data"] or f"the samples of '{self.task.name}'")
            self.training |= remarks.figures
            self.note(remarks.notes)
        if not len(encoded):
            raise DataError(f"No example of the {split} split can be learned", "Give other rows.")
        return encoded

    def _chunks(self, examples: Examples) -> Iterator[list[Example]]:
        """Yield examples to encode, and say which are very long."""
        for chunk in chunks(examples, ENCODED_AT_ONCE, text_length):
            for note in very_long(chunk) if rank() == 0 else ():
                tell(note)
            yield chunk

    def learner_source(self) -> str:
        """Return the plugin that provides the learner, with its distribution, as in `ner (gpt-tasks 0.1.0)`."""
        plugin = self.plugins.find(self.plugins.registry.learners.owner(str(self.task.learner)))
        return f"{plugin.name} of {plugin.source}"

    def note(self, notes: tuple[str, ...]) -> None:
        """Keep notes for the report, and print them."""
        self.splits = replace(self.splits, notes=(*self.splits.notes, *notes))
        for note in notes if rank() == 0 else ():
            tell(note)

    def _mark(self) -> None:
        """Write run.json. The data and backbone of a resumed run must be those that it was started with."""
        record = self.record()
        found = self.folder.record()
        before = found.get("fingerprints", record["fingerprints"])
        for what in ("data", "backbone"):
            if before[what] != record["fingerprints"][what]:
                raise DataError(
                    f"The {what} changed since the run in {self.folder.path} was started",
                    f"Restore the {what}, or start another run.",
                )
        self.folder.write({**record, FOLDER: found.get(FOLDER)}, "unfinished")

    def record(self) -> dict[str, Any]:
        """Return what run.json says of this run."""
        plugin = self.plugin
        return {
            "task": self.task.name,
            "plugin": {"name": plugin.name, "distribution": plugin.distribution, "version": plugin.version},
            "config": self.config.recorded(),
            "origins": self.config.origins(self.method, self.task, self.backbone.parameters),
            "settings": self.settings.as_json(),
            "labels": list(self.task.labels),
            "fingerprints": {"data": self.splits.fingerprint, "backbone": self.backbone.fingerprint},
            "rows": self.rows(),
            "duplicates_left_out": dict(self.splits.duplicates),
        }

    def rows(self) -> Mapping[str, int]:
        """Return how many rows each split holds."""
        return {name: len(getattr(self.splits, name)) for name in ("train", "validation", "test")}

    @property
    def plugin(self) -> Plugin:
        """The plugin that provides the task."""
        return self.plugins.find(self.plugins.registry.tasks.owner(self.task.name))


def learner_settings(settings: Settings, untrained: Callable[[], Backbone], private: bool = False) -> LearnerSettings:
    """Return what a learner needs of a training's settings."""
    return LearnerSettings(
        settings.max_length,
        settings.batch_tokens,
        settings.precision,
        torch.device(settings.device),
        settings.seed,
        settings.class_weights,
        untrained=untrained,
        private=private,
    )


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
