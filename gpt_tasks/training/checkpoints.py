"""transformers' Trainer with checkpoints that survive a kill at any moment and a resume that changes no bit."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME

from gpt_tasks.files import write_json
from gpt_tasks.training.checkpoint_files import COMPLETE, check, complete_checkpoints, mark_complete, remove, sync
from gpt_tasks.training.schedule import rate_at


@runtime_checkable
class TrainBatches(Protocol):
    """What `CheckpointedTrainer` draws its training batches from: lists of row numbers, for this rank only.

    The lists must be a pure function of (seed, epoch, position), and `len` the same in every epoch and on every rank:
    a resume makes the same lists again and leaves out those already trained on, without loading a row of them.
    """

    def set_epoch(self, epoch: int) -> None:
        """Make the next iteration that of this epoch."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[list[int]]: ...


class LossError(ValueError):
    """A loss that nothing can be learned by."""


class CheckpointedTrainer(Trainer):
    """The Trainer, drawing its batches from `train_batches`, with atomic checkpoints in `<output_dir>/checkpoint-N`.

    The seam for both pretraining and fine-tuning is `train_batches` (see `TrainBatches`): the batch sampler shards by
    rank itself, so neither the Trainer nor accelerate samples, shards or re-orders anything. Subclasses override
    `compute_loss` and `evaluate` as with any Trainer. `train(resume_from_checkpoint=str(last_checkpoint(folder)))`
    continues as if nothing had happened: weights, optimizer, schedule, random numbers and the place in the data, in any
    epoch and under gradient accumulation.

    Only this module overrides or calls private parts of the Trainer; a test detects their changes.

    A checkpoint counts once its `COMPLETE` marker exists, written last, with the checksums of its files, after all
    ranks have saved their part. Older ones are removed only then: the newest `keep_checkpoints` stay, and the best one
    at any age.
    """

    def __init__(self, *args: Any, train_batches: TrainBatches, keep_checkpoints: int = 2, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.train_batches = train_batches
        self.keep_checkpoints = max(1, keep_checkpoints)
        self.args.save_total_limit = None  # its rotation removes the old checkpoint before the new one is whole

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Load what `train_batches` names, with nothing between."""
        assert self.train_dataset is not None
        return _EpochLoader(
            self.train_dataset,
            batch_sampler=self.train_batches,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory and self.args.device.type == "cuda",
            # Its own generator: starting an epoch must not draw from the stream that dropout reads.
            generator=torch.Generator().manual_seed(self.args.seed),
        )

    def create_scheduler(self, num_training_steps: int, optimizer: Optimizer | None = None) -> LRScheduler:
        """Return what sets the learning rate of each update: see `rate_at`."""
        if self.lr_scheduler is None:
            rate = partial(
                rate_at,
                warmup=self.args.get_warmup_steps(num_training_steps),
                updates=num_training_steps,
                decay="cosine" if self.args.lr_scheduler_type == "cosine" else "linear",
            )
            chosen = self.optimizer if optimizer is None else optimizer
            assert chosen is not None
            self.lr_scheduler = LambdaLR(chosen, rate)
        return self.lr_scheduler

    @property
    def _folder(self) -> Path:
        assert self.args.output_dir is not None
        return Path(self.args.output_dir)

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        folder = self._folder / f"checkpoint-{self.state.global_step}"
        if self.is_world_process_zero():
            (folder / COMPLETE).unlink(missing_ok=True)
        self.accelerator.wait_for_everyone()
        super()._save_checkpoint(model, trial)
        if self.is_world_process_zero():
            # Figures of its history may be undefined, for which the Trainer writes what is no JSON.
            state = folder / TRAINER_STATE_NAME
            write_json(state, json.loads(state.read_text(encoding="utf-8")))
        self.accelerator.wait_for_everyone()  # a draft that becomes a file meanwhile is on nobody's list of files
        if self.args.metric_for_best_model and self.state.best_model_checkpoint is None:
            self.state.best_model_checkpoint = str(folder)  # a metric that is no number is better nowhere
        sync(folder)
        self.accelerator.wait_for_everyone()
        if self.is_world_process_zero():
            mark_complete(folder)
            self._rotate()
        self.accelerator.wait_for_everyone()

    def _init_training_state(self, *args: Any, **kwargs: Any) -> tuple[int, int]:
        begun: tuple[int, int] = super()._init_training_state(*args, **kwargs)
        self.find_best_checkpoint()
        return begun

    def find_best_checkpoint(self) -> None:
        """Name the best checkpoint by its current path: the folder may have been moved since it was recorded."""
        best = self._folder / f"checkpoint-{self.state.best_global_step}"
        if best.is_dir():
            self.state.best_model_checkpoint = str(best)

    def check_loss(self, loss: torch.Tensor) -> torch.Tensor:
        """Return a batch's loss. Raises LossError for one that is not a finite number, or else `log` does."""
        # On an accelerator, to look at it would wait for all that is computed.
        if loss.device.type == "cpu" and not torch.isfinite(loss):
            raise LossError(f"the loss is {loss.item()} in update {self.state.global_step + 1}")
        return loss

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Log figures. Raises LossError for a loss that is not a finite number."""
        if not math.isfinite(logs.get("loss", 0.0)):
            raise LossError(f"the loss is {logs['loss']} in update {self.state.global_step}")
        super().log(logs, *args, **kwargs)

    def take_best(self, state: TrainerState) -> None:
        """Take the weights of the best checkpoint of a training that ended in this state."""
        self.state = state
        self.find_best_checkpoint()
        self._load_best_model()

    def _load_best_model(self) -> None:
        step = chosen_by_loss(self.state.log_history, self.args)
        if step is not None:
            self.state.best_global_step = step
            self.find_best_checkpoint()
        if self.state.best_model_checkpoint is not None:
            check(Path(self.state.best_model_checkpoint))
        super()._load_best_model()

    def take(self, checkpoint: Path) -> None:
        """Take the weights and the state of a checkpoint, without resuming from it."""
        self.state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
        self._load_from_checkpoint(str(checkpoint))

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        tied = getattr(self.model, "all_tied_weights_keys", None) or {}
        for key in set(load_result.missing_keys) & set(tied):  # stored once, under the other name
            load_result.missing_keys.remove(key)
        super()._issue_warnings_after_load(load_result)

    def _rotate(self) -> None:
        best = self.state.best_model_checkpoint
        # Which of the two is the best is known at the end of the training only.
        keep = {Path(best).name} if best else set()
        keep.add(f"checkpoint-{chosen_by_loss(self.state.log_history, self.args)}")
        for old in complete_checkpoints(self._folder)[: -self.keep_checkpoints]:
            if old.name not in keep:
                remove(old)


def chosen_by_loss(history: Sequence[Mapping[str, float]], args: TrainingArguments) -> int | None:
    """Return the step of the lowest validation loss where the metric is the same at all of several evaluations.

    Such a metric chooses no checkpoint. None where it does.
    """
    evaluations = [entry for entry in history if "eval_loss" in entry and args.metric_for_best_model in entry]
    # As text NaN equals itself, and a checkpoint has null for it.
    values = {str(entry[str(args.metric_for_best_model)]).replace("None", "nan") for entry in evaluations}
    if args.metric_for_best_model == "eval_loss" or len(evaluations) < 2 or len(values) > 1:
        return None
    return int(min(evaluations, key=lambda entry: entry["eval_loss"])["step"])


def one_device_a_process(arguments: TrainingArguments) -> None:
    """Leave further GPUs of the machine to further processes (`torchrun`), instead of copying the model to them.

    Trainer would wrap the model in DataParallel, which torch advises against and which changes the loss's scale.
    """
    arguments._n_gpu = min(1, arguments.n_gpu)


class _EpochLoader(DataLoader[Any]):
    """A loader that passes the epoch to its batch sampler (accelerate's own does not reach a custom one)."""

    def set_epoch(self, epoch: int) -> None:
        assert isinstance(self.batch_sampler, TrainBatches)
        self.batch_sampler.set_epoch(epoch)
