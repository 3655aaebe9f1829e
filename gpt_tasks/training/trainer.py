"""Train a learner's model on encoded examples, with transformers' Trainer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PrinterCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME

from gpt_tasks.backbone.layers import rates_by_layer
from gpt_tasks.data.batches import TokenBudgetBatches, collate
from gpt_tasks.data.encoded import EncodedExamples
from gpt_tasks.errors import MachineError
from gpt_tasks.files import is_out_of_memory
from gpt_tasks.learners.base import Learner
from gpt_tasks.processes import rank, world_size
from gpt_tasks.shown import tell
from gpt_tasks.tasks.encoding import pad_token
from gpt_tasks.training.checkpoints import CheckpointedTrainer, LossError, chosen_by_loss, one_device_a_process
from gpt_tasks.training.settings import Settings

LONGEST_STRETCH = 500


class LearnerTrainer(CheckpointedTrainer):
    """Trains a learner's model, which returns its loss, on batches formed by token budget or by number.

    The loss of an update is normalised over all labels of its accumulated batches on all processes. `validate` returns
    the figures of the current model on the whole validation set. When memory runs out the batch is computed in
    halves from then on, which changes gradients only by rounding; unless the learner is not divisible.
    """

    def __init__(
        self,
        learner: Learner[Any],
        settings: Settings,
        *,
        train: EncodedExamples,
        validation: EncodedExamples,
        validate: Callable[[], Mapping[str, float]],
        checkpoints: Path,
        callbacks: list[TrainerCallback],
    ) -> None:
        self.settings = settings
        self.learner = learner
        self.validate = validate
        self.pieces = 1
        args = _arguments(settings, updates_per_epoch(train, settings, learner), checkpoints)
        if settings.patience is not None:
            callbacks = [*callbacks, Patience(settings.patience)]
        super().__init__(
            model=learner.model,
            args=args,
            train_dataset=train,
            eval_dataset=validation,
            train_batches=_batches(train, settings, learner),
            data_collator=partial(collate, pad_token_id=pad_token(learner.backbone.tokenizer)),
            callbacks=callbacks,
        )
        self.remove_callback(PrinterCallback)
        # So that the examples of an update are counted before its first batch is computed.
        self.model_accepts_loss_kwargs = True

    def train(self, resume_from_checkpoint: str | None = None, **kwargs: Any) -> Any:  # type: ignore[override]
        """Train; a run that had lost its patience at the checkpoint only takes its best weights again."""
        if resume_from_checkpoint and self.settings.patience is not None:
            state = TrainerState.load_from_json(str(Path(resume_from_checkpoint) / TRAINER_STATE_NAME))
            if rounds_without_improvement(state.log_history, self.args) >= self.settings.patience:
                self.take_best(state)
                return None
        return super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Return the optimizer, by layers where their learning rates differ: the first group has the highest.

        Raises UsageError for an architecture whose layers are not known.
        """
        if self.optimizer is None and self.settings.layer_lr_decay is not None:
            trained: Any = self.model if model is None else model
            rates, decaying = (
                rates_by_layer(trained, self.settings.layer_lr_decay),
                self.get_decay_parameter_names(trained),
            )
            groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
            for name, parameter in trained.named_parameters():
                if parameter.requires_grad:
                    groups.setdefault((rates[name], name in decaying), []).append(parameter)
            kind, settings = self.get_optimizer_cls_and_kwargs(self.args, trained)
            self.optimizer = kind(
                [
                    {
                        "params": groups[rate, decays],
                        "lr": settings["lr"] * rate,
                        "weight_decay": self.args.weight_decay if decays else 0.0,
                    }
                    for rate, decays in sorted(groups, reverse=True)
                ],
                **settings,
            )
        return super().create_optimizer(model)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """Return this batch's share of the update's loss: the sum over its labels by the update's labels.

        Raises LossError for one that is not a finite number.
        """
        loss: torch.Tensor = model(**inputs, num_items_in_batch=num_items_in_batch)["loss"]
        if loss.dim():
            raise LossError(f"the loss is of shape {list(loss.shape)}, and must be one number")
        # Processes' gradients are averaged, but the divisor already counts the examples of all of them.
        share: torch.Tensor = self.check_loss(loss) * self.accelerator.num_processes
        return share

    def training_step(
        self,
        model: nn.Module,
        inputs: dict[str, torch.Tensor],
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """Add one batch's gradients, in halves where memory does not hold it whole."""
        while True:
            divisible = self.learner.is_divisible and self.pieces < len(inputs["input_ids"]) and world_size() == 1
            before = _gradients(model) if divisible else None
            try:
                return self._in_pieces(model, inputs, num_items_in_batch)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if before is None:
                    lower = "--batch-tokens" if self.learner.batch_examples is None else "the task's batch of examples"
                    raise MachineError(
                        f"{self.args.device}: out of memory with a batch of {inputs['input_ids'].numel()} tokens",
                        f"Lower {lower} or --max-length, or give --gradient-checkpointing.",
                    ) from error
            _restore_gradients(model, before)
            self.pieces *= 2
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            whole, unit = (
                (self.settings.batch_tokens, "tokens")
                if self.learner.batch_examples is None
                else (self.learner.batch_examples, "examples")
            )
            tell(f"Out of memory: continuing with half a batch at a time ({whole // self.pieces} {unit})")

    def evaluate(self, *_: Any, metric_key_prefix: str = "eval", **__: Any) -> dict[str, float]:
        """Validate, with any number of processes."""
        figures = {f"{metric_key_prefix}_{name}": value for name, value in self.validate().items()}
        self.log(dict(figures))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, figures)
        return figures

    def _in_pieces(
        self, model: nn.Module, inputs: dict[str, torch.Tensor], num_items_in_batch: torch.Tensor | int | None
    ) -> torch.Tensor:
        if self.pieces == 1:
            whole: torch.Tensor = super().training_step(model, inputs, num_items_in_batch)
            return whole
        rows = len(inputs["input_ids"])
        size = -(-rows // self.pieces)
        return sum(
            (
                super(LearnerTrainer, self).training_step(
                    model, {name: value[start : start + size] for name, value in inputs.items()}, num_items_in_batch
                )
                for start in range(0, rows, size)
            ),
            start=torch.zeros((), device=self.args.device),
        )


class Patience(TrainerCallback):
    """Early stopping that continues counting after a resume, from the history that the checkpoint holds."""

    def __init__(self, evaluations: int) -> None:
        self.evaluations = evaluations

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Stop after so many evaluations without improvement."""
        if rounds_without_improvement(state.log_history, args) >= self.evaluations:
            control.should_training_stop = True


def rounds_without_improvement(history: list[dict[str, float]], args: TrainingArguments) -> int:
    """Return how many of the last evaluations were no better than the best before them.

    By the loss where the metric was the same at all of them. Undefined figures are never better.
    """
    by_loss = chosen_by_loss(history, args) is not None
    name = "eval_loss" if by_loss else str(args.metric_for_best_model)
    sign = 1 if args.greater_is_better and not by_loss else -1
    best, rounds = None, 0
    for value in (entry[name] for entry in history if name in entry):
        height = -math.inf if value is None or math.isnan(value) else sign * value
        if best is None or height > best:
            best, rounds = height, 0
        else:
            rounds += 1
    return rounds


def updates_per_epoch(train: EncodedExamples, settings: Settings, learner: Learner[Any]) -> int:
    """Return the number of updates in one pass over the training data."""
    return -(-len(_batches(train, settings, learner)) // settings.accumulate)


def _batches(train: EncodedExamples, settings: Settings, learner: Learner[Any]) -> TokenBudgetBatches:
    return TokenBudgetBatches(
        train.lengths,
        batch_tokens=settings.batch_tokens,
        seed=settings.seed,
        shuffle=True,
        rank=rank(),
        world_size=world_size(),
        examples=learner.batch_examples,
    )


def _arguments(settings: Settings, updates: int, checkpoints: Path) -> TrainingArguments:
    stretches = -(-updates // LONGEST_STRETCH)
    every = settings.checkpoint_steps or -(-updates // stretches)
    total = max(1, int(-(-settings.epochs * updates // 1)))
    arguments = TrainingArguments(
        output_dir=str(checkpoints),
        num_train_epochs=settings.epochs,
        max_steps=-1,
        learning_rate=settings.learning_rate,
        warmup_steps=int(settings.warmup * total),
        weight_decay=settings.weight_decay,
        lr_scheduler_type="linear",
        optim=settings.optimizer,
        max_grad_norm=1.0,
        gradient_accumulation_steps=settings.accumulate,
        eval_strategy="steps",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        load_best_model_at_end=True,
        metric_for_best_model=f"eval_{settings.best_by}",
        greater_is_better=not settings.best_is_lowest,
        logging_strategy="steps",
        logging_steps=max(1, min(every, total // 100)),
        logging_nan_inf_filter=False,
        report_to="none",
        seed=settings.seed,
        data_seed=settings.seed,
        use_cpu=settings.device == "cpu",
        bf16=settings.precision == "bf16",
        remove_unused_columns=False,
        label_names=["labels"],
        disable_tqdm=True,
        ddp_find_unused_parameters=False,
    )
    one_device_a_process(arguments)
    return arguments


def _gradients(model: nn.Module) -> list[torch.Tensor | None]:
    """Remember the gradients of the update's earlier batches, to which a failed attempt may add. The first has none."""
    gradients = [parameter.grad for parameter in model.parameters() if parameter.requires_grad]
    return [None if gradient is None else gradient.clone() for gradient in gradients]


def _restore_gradients(model: nn.Module, before: list[torch.Tensor | None]) -> None:
    moving = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter, gradient in zip(moving, before, strict=True):
        parameter.grad = gradient
