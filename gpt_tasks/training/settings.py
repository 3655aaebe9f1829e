"""Settle what the configuration leaves open: by the method's defaults, the backbone's size and the machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from gpt_tasks.backbone.precision import resolve_device, resolve_precision
from gpt_tasks.errors import UsageError
from gpt_tasks.extensions import Method, Metric
from gpt_tasks.tasks.base import Task
from gpt_tasks.training.config import FinetuneConfig

# A few hundred rows are passed over more often than the method's epochs say, unless epochs are asked for.
LEAST_UPDATES = 100
# Where a batch holds fewer examples than this, on average, an update is of as many batches as hold the other number.
FEWEST_OF_AN_UPDATE, EXAMPLES_OF_AN_UPDATE = 2.0, 8


@dataclass(frozen=True)
class Settings:
    """The settings that a training really has; see FinetuneConfig for what each is."""

    epochs: float
    learning_rate: float
    layer_lr_decay: float | None
    warmup: float
    weight_decay: float
    optimizer: str
    batch_tokens: int
    accumulate: int
    max_length: int
    patience: int | None
    best_by: str
    best_is_lowest: bool
    class_weights: str
    lm_weight: float
    gradient_checkpointing: bool
    freeze_layers: int | None
    load_in: str | None
    checkpoint_steps: int | None
    precision: str
    device: str
    seed: int
    method_options: Mapping[str, Any]
    counts: bool

    def choose_best_by(self, metrics: Sequence[Metric], given: str | None, task: Task) -> Settings:
        """Return these settings with what chooses the best checkpoint: the given metric, or the task's.

        `metrics` are those of validation. Raises UsageError for one that is not among them.
        """
        best_by = given or task.best_metric
        better = {"loss": "lower", **{metric.name: metric.better for metric in metrics}}
        if best_by not in better:
            raise UsageError(
                f"--best-by {best_by}: task '{task.name}' has no metric of that name", f"It has {', '.join(better)}."
            )
        return replace(self, best_by=best_by, best_is_lowest=better[best_by] == "lower")

    def as_json(self) -> dict[str, Any]:
        """Return the settings as JSON values; null is what a method that moves no weights has no use for."""
        values = asdict(self)
        if not self.epochs:
            useless = ("epochs", "learning_rate", "warmup", "weight_decay", "optimizer", "accumulate", "lm_weight")
            values |= dict.fromkeys(useless)
        return values


def settle(config: FinetuneConfig, task: Task, method: Method, parameters: int, context: int | None) -> Settings:
    """Settle the settings for a backbone of so many `parameters` and so many positions of `context`.

    The `method` has its options.
    Raises UsageError for a device that is not there, and a window that the method fills.
    """
    defaults = {**method.defaults(parameters), **task.defaults(method.name, parameters)}
    device = resolve_device(config.device)
    places = method.num_virtual_tokens
    assert isinstance(places, int)
    window = context - places if context else config.max_length
    if window < 1:
        raise UsageError(
            f"--method {method.name} takes {places} places of the model's window of {context}",
            "Take another method, or a model with a longer window.",
        )

    def chosen(name: str) -> Any:
        given = getattr(config, name)
        # A method that moves no weights has no use for some settings, and no default.
        return defaults.get(name, 0) if given is None else given

    return Settings(
        epochs=float(chosen("epochs")),
        learning_rate=float(chosen("learning_rate")),
        layer_lr_decay=config.layer_lr_decay,
        warmup=float(chosen("warmup")),
        weight_decay=float(chosen("weight_decay")),
        optimizer=config.optimizer,
        batch_tokens=int(chosen("batch_tokens")),
        accumulate=config.accumulate or 1,
        max_length=min(config.max_length, window),
        patience=config.patience,
        best_by="loss",
        best_is_lowest=True,
        class_weights=config.class_weights,
        lm_weight=config.lm_weight,
        gradient_checkpointing=config.gradient_checkpointing,
        freeze_layers=config.freeze_layers,
        load_in=config.load_in,
        checkpoint_steps=config.checkpoint_steps,
        precision=resolve_precision(config.precision, device),
        device=device.type,
        seed=config.seed,
        method_options=method.options(**config.method_options).model_dump(mode="json"),
        counts=config.counts,
    )
