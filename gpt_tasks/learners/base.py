"""A learner: how a model is trained on a task, and how it answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from gpt_tasks.backbone.load import Backbone
from gpt_tasks.backbone.tokens import add_tokens
from gpt_tasks.data.encoded import IGNORE_INDEX, EncodedExamples
from gpt_tasks.data.examples import Examples, chunks
from gpt_tasks.errors import UsageError
from gpt_tasks.evaluation.statistics import Tally
from gpt_tasks.extensions import Metric
from gpt_tasks.heads.model import HeadModel
from gpt_tasks.learners.inference import forward, rows_of, tokens_of
from gpt_tasks.processes import all_gather, rank, world_size
from gpt_tasks.tasks.encoding import pad_token
from gpt_tasks.types import Example, Features

P = TypeVar("P")

VALIDATION_CHUNK = 4096


@dataclass(frozen=True)
class LearnerSettings:
    """What a learner computes with.

    `writing_precision` and `decoding` are for learners that generate text. `untrained` opens the backbone before
    training. Of a `private` run nothing that is saved holds texts of the data.
    """

    max_length: int
    batch_tokens: int
    precision: str
    device: torch.device
    seed: int = 0
    class_weights: str = "none"
    writing_precision: str | None = None
    decoding: Mapping[str, Any] | None = None
    untrained: Callable[[], Backbone] | None = None
    private: bool = False


@dataclass(frozen=True)
class FrozenFit:
    """What fitting a head on a frozen backbone gives: figures for the report, rows that were read, notes for users."""

    rows: int
    figures: Mapping[str, float]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Remarks:
    """What a learner says of its training data: figures for the report, notes for users."""

    figures: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Learner(ABC, Generic[P]):
    """How a model is trained on a task, and how it answers with predictions of type P. One instance for each model.

    A subclass says what the model reads and learns of an example (`encode`), by which `loss`, and what its outputs mean
    (`decode`). By default the model is a head on the backbone's last hidden states (`HeadModel`), of so many `outputs`;
    a learner of another model overrides `join`. `chunk` is how many examples are answered at a time.

    Training batches are cut by tokens; with `batch_examples` they hold that many examples. Where the loss of a batch is
    not the sum of the losses of its examples, `is_divisible` is False, and no batch is computed in parts.
    """

    chunk: ClassVar[int] = 1024
    is_divisible: ClassVar[bool] = True
    writes: ClassVar[bool] = False
    """Whether answers are written by the language model, for which there are decoding settings."""
    labels_are_tokens: ClassVar[bool] = False
    """Whether labels are the tokens themselves, which a language model learns to write."""
    per_token: ClassVar[bool] = False
    """Whether the head's logits are those of tokens, and not of whole texts."""

    def __init__(self, task: Any, backbone: Backbone, settings: LearnerSettings) -> None:
        self.task = task
        self.backbone = backbone
        self.settings = settings
        self.model: Any = None

    @classmethod
    def for_baselines(cls, task: Any, seed: int) -> Self | None:
        """Return a learner without a model, only for its baselines; None where they need one."""
        return cls(task, None, LearnerSettings(0, 0, "float32", torch.device("cpu"), seed))  # type: ignore[arg-type]

    # Building the model: called once, before training or when a run is loaded.

    @property
    def outputs(self) -> int:
        """How many numbers the head gives, as in `len(self.task.labels)`; 0 where there is no head."""
        return 0

    @property
    def batch_examples(self) -> int | None:
        """How many examples a training batch holds; None to cut batches by tokens."""
        return None

    @property
    def trains_embedding(self) -> bool:
        """Whether every row of the embedding is trained: the loss may weigh every token against all others."""
        return self.task.head is None

    def check(self, lm_weight: float) -> None:
        """Raise UsageError for settings that this learner has no use for; called before data and backbone are read."""
        if lm_weight and self.task.head is None:
            raise UsageError(
                f"--lm-weight is for tasks with a head, and task '{self.task.name}' has none: {lm_weight}",
                "Leave it out.",
            )
        if self.settings.class_weights != "none":
            raise UsageError(
                f"--class-weights is for one of several labels, and task '{self.task.name}' is not: "
                f"{self.settings.class_weights}",
                "Leave it out.",
            )

    def prepare_backbone(self, train: Examples) -> None:
        """Give the backbone what the task needs before it is trained: tokens, a chat template.

        A run that keeps its backbone by reference adds the tokens again; another change of weights would be lost.
        """
        add_tokens(self.backbone.model, self.backbone.tokenizer, self.task.special_tokens())

    def join(
        self,
        transformer: nn.Module,
        head: nn.Module | None,
        *,
        output_matrix: Tensor | None = None,
        lm_weight: float = 0,
    ) -> nn.Module:
        """Return the module to train: the transformer, as the method prepared it, with the head.

        Its attributes `backbone` and `head` (which may be missing) hold the two. It is called with what `collate` makes
        of `encode`'s features, and `num_items_in_batch`, which may be None, and returns `loss`, summed and divided by
        that number or that of the labels, and `logits`. Its `activation_checkpointing_enable()` has it recompute
        activations.
        """
        assert head is not None
        return HeadModel(
            transformer,
            head,
            self.loss,
            output_matrix=output_matrix,
            lm_weight=lm_weight,
            part_tokens=self.settings.batch_tokens or None,
        )

    def begin(self) -> None:
        """Set weights of the new model that a learner knows better than by chance. Called once, before a training."""

    def untrained_backbone(self) -> Backbone:
        """Open the backbone that the training started from, also of a run that is loaded.

        Raises ModelError where it is no longer found.
        """
        assert self.settings.untrained is not None
        return self.settings.untrained()

    # Learning.

    @abstractmethod
    def encode(self, examples: Sequence[Example]) -> Sequence[Features]:
        """Return what the model reads of each example, and what it is to learn.

        As in `Features([[464, 3290]], labels=1)`, or with `token_labels=[-100, 2]`. Called for training and validation
        before the first update, also of a run that is resumed, and for what is to be answered, which may have no
        target; then labels are not looked at. The conformance kit calls it without a model.
        """

    def encode_training(self, examples: Sequence[Example]) -> Sequence[Features]:
        """Return the features of training examples, where these are encoded otherwise than those of validation."""
        return self.encode(examples)

    def remarks(self, data: str) -> Remarks:
        """Return remarks on the training data, once they are encoded; `data` is their name.

        Raises DataError where nothing can be learned from them.
        """
        return Remarks()

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of a batch, a scalar, summed over its labels that are not -100. Called in each update.

        Where features have `values`, they are the third argument.
        """
        raise NotImplementedError(f"{type(self).__name__} has no loss")

    @classmethod
    def fits(cls, head: nn.Module) -> bool:
        """Return whether `fit_frozen` can fit this head; by default any, where a learner has the method."""
        return cls.fit_frozen is not Learner.fit_frozen

    def fit_frozen(self, train: EncodedExamples, validation: EncodedExamples) -> FrozenFit:
        """Fit the head at once on the features of a frozen backbone: called for methods that are `frozen`."""
        raise NotImplementedError(f"{type(self).__name__} fits no head on a frozen backbone")

    # Answering.

    def decode(self, examples: Iterable[Example], outputs: Sequence[np.ndarray]) -> Sequence[P]:
        """Return the predictions that the model's outputs mean: one array for each example, as `reduce` left it."""
        raise NotImplementedError(f"{type(self).__name__} answers nothing")

    def predict(self, examples: Sequence[Example], *, scored: bool = False) -> Sequence[P]:
        """Answer at most `chunk` examples. With `scored` predictions may hold more, for metrics of an evaluation."""
        return self.decode(examples, self.with_counts(examples, self.outputs_of(self.encode(examples))))

    def reduce(self, batch: Mapping[str, Tensor], computed: Any) -> Sequence[np.ndarray]:
        """Return what is left of a forward pass of each example: its row of logits, or those of its tokens.

        The numbers must be finite: others mean that the model is damaged, and nothing is answered.
        """
        return tokens_of(batch, computed) if self.per_token else rows_of(batch, computed)

    def prompt_tokens(self, example: Example) -> list[int] | None:
        """Return the tokens after which the model writes its answer to an example, where it writes one."""
        return None

    def holds_target(self, features: Features) -> bool:
        """Return whether features hold what is to be learned, and not only a part of a text without it."""
        labels = features.labels if features.token_labels is None else features.token_labels
        return bool((np.asarray(labels) != IGNORE_INDEX).any())

    def outputs_of(self, features: Sequence[Features], model: nn.Module | None = None) -> list[np.ndarray]:
        """Return what the model, or another one, computes of features; see `compute` and `reduce`."""
        chosen = self.model if model is None else model
        return forward(
            chosen,
            features,
            batch_tokens=self.settings.batch_tokens,
            pad_token_id=pad_token(self.backbone.tokenizer),
            precision=self.settings.precision,
            compute=lambda batch: self.compute(chosen, batch),
            reduce=self.reduce,
            with_labels=self.labels_are_tokens,
            name=self.backbone.spec,
        )

    def compute(self, model: Any, batch: Mapping[str, Tensor]) -> Any:
        """Return what a model computes of a batch: its logits, unless a learner overrides it."""
        return model(**batch)["logits"]

    # Judging.

    def report_metrics(self, metrics: Sequence[Metric]) -> list[Metric]:
        """Return the metrics of a report: the task's, unless the learner adds some."""
        return list(metrics)

    def validation_metrics(self, metrics: Sequence[Metric]) -> list[Metric]:
        """Return the metrics that are computed on validation, from which the best checkpoint is chosen."""
        return self.report_metrics(metrics)

    def validate(
        self, validation: Examples, encoded: EncodedExamples, metrics: Sequence[Metric]
    ) -> Mapping[str, float]:
        """Return `loss` and the metrics of the current model on validation; called at every checkpoint."""
        outputs = self.validation_outputs(encoded)
        learner = self.calibrated(outputs, encoded)
        tally = Tally(learner.task, metrics)
        # The predictions of a thousand labels take ten times the memory of the outputs.
        for start in range(0, len(outputs), self.chunk):
            some = slice(start, start + self.chunk)
            tally.add(validation[some], learner.decode(validation[some], outputs[some]))
        return {"loss": self.mean_loss(outputs, encoded), **tally.values()}

    def validation_outputs(self, encoded: EncodedExamples) -> list[np.ndarray]:
        """Return what the model computes of the validation split, to which each process contributes its share."""
        mine = [
            array
            for rows in chunks(range(rank(), len(encoded), world_size()), VALIDATION_CHUNK)
            for array in self.outputs_of(encoded.__getitems__(rows))
        ]
        found: list[np.ndarray] = [np.zeros(0)] * len(encoded)
        for start, share in enumerate(all_gather(mine)):
            found[start :: world_size()] = share
        return found

    def mean_loss(self, outputs: Sequence[np.ndarray], encoded: EncodedExamples) -> float:
        """Return the loss by label on validation; of labels of tokens, computed for each example separately."""
        if encoded.label_codes is not None:
            labels = torch.from_numpy(encoded.labels)
            parts = [torch.from_numpy(stacked(outputs)), labels]
            if encoded.values is not None:
                parts.append(torch.from_numpy(encoded.values))
            # Where examples are compared with those of their batch, among as many as in training.
            size = len(labels) if self.is_divisible else self.batch_examples or len(labels)
            total = sum(float(self.loss(*some)) for some in zip(*(part.split(size) for part in parts), strict=True))
            return total / max(1, int((labels != IGNORE_INDEX).sum()))
        total, count = 0.0, 0
        kind = np.float32 if encoded.token_label_type.kind == "f" else np.int64
        for row, logits in enumerate(outputs):
            features = encoded[row]
            labels = torch.from_numpy(np.asarray(features.token_labels, dtype=kind))[None]
            values = (torch.from_numpy(np.asarray(features.values))[None],) if len(features.values) else ()
            total += float(self.loss(torch.from_numpy(logits)[None], labels, *values))
            count += int((labels != IGNORE_INDEX).sum())
        return total / max(1, count)

    def calibrated(self, outputs: Sequence[np.ndarray], encoded: EncodedExamples) -> Self:
        """Return this learner with what validation decides, a threshold say; called at every validation."""
        return self

    def calibrated_on(self, validation: Examples, encoded: EncodedExamples) -> Self:
        """Return this learner with what validation decides; called once, after training."""
        if type(self).calibrated is Learner.calibrated:
            return self
        return self.calibrated(self.validation_outputs(encoded), encoded)

    # Counting words beside the model, where the method says so and the learner can.

    @property
    def can_count(self) -> bool:
        """Whether counted words can answer beside the model, as in `--method full+counts`."""
        return False

    def fit_counts(self, train: Examples) -> tuple[str, ...]:
        """Count the words of the training rows, and return notes for users. Called once, before `calibrated_on`, which
        weighs model and counts.
        """
        raise NotImplementedError(f"{type(self).__name__} counts no words")

    def with_counts(self, examples: Sequence[Example], outputs: list[np.ndarray]) -> list[np.ndarray]:
        """Return the outputs of model and counts together, for the model's: called between `compute` and `decode`."""
        return outputs

    def count_figures(self) -> Mapping[str, float]:
        """Return figures for the report: `counts_weight`, and others. Called once, after `calibrated_on`."""
        return {}

    def save_counts(self, folder: Path) -> None:
        """Save what was counted, and its weight, beside the model."""

    def load_counts(self, folder: Path) -> None:
        """Load what was saved. Raises ModelError naming the file that is missing or damaged."""

    # What the model is compared with.

    def fit_baselines(self, train: Examples, validation: Examples) -> None:
        """Fit, on the same rows, what the model is compared with. Called once, after training."""

    def save_baselines(self, folder: Path) -> None:
        """Save what was fitted."""

    @property
    def baselines_hold_texts(self) -> bool:
        """Whether what `save_baselines` writes holds texts of the training data: a private run then keeps none."""
        return type(self).save_baselines is not Learner.save_baselines

    def load_baselines(self, folder: Path) -> None:
        """Load what was saved; called before a finished run is evaluated."""

    def baselines(self, examples: Sequence[Example]) -> Mapping[str, Sequence[Any]]:
        """Return the baselines' predictions, by their names: called for each chunk of an evaluation."""
        return {}

    def notes(self) -> tuple[str, ...]:
        """Return what users should know of the figures of an evaluation."""
        return ()


def stacked(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Return rows `[n, outputs]`, minus infinity where one is shorter than the longest."""
    width = max(len(row) for row in rows)
    if all(len(row) == width for row in rows):
        return np.stack(rows)
    return np.stack([np.pad(row, (0, width - len(row)), constant_values=-np.inf) for row in rows])
