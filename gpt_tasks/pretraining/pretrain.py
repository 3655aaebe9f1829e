"""Pretraining: from raw text to a causal language model that transformers loads directly.

gpt-tasks pretrain --text books/ --validation held_out.txt --preset tiny --minutes 60 --output my-gpt
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpt_tasks.backbone.quiet import quiet_transformers
from gpt_tasks.errors import DataError, GptTasksError, MachineError, ModelError, UsageError
from gpt_tasks.events import Observers, observed
from gpt_tasks.paths import OutputFolder
from gpt_tasks.plugins import installed_plugins
from gpt_tasks.pretraining.config import PretrainConfig, begin, write_record
from gpt_tasks.processes import alone_in, barrier, broadcast, init_processes, rank, world_size
from gpt_tasks.signals import uninterrupted
from gpt_tasks.threads import LOADING, one_training
from gpt_tasks.training.checkpoint_files import last_checkpoint, remove_damaged

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, TrainingArguments

    from gpt_tasks.pretraining.corpus import Shards, ValidationText
    from gpt_tasks.pretraining.loop import PretrainTrainer
    from gpt_tasks.pretraining.windows import PackedWindows

__all__ = ["PretrainConfig", "pretrain"]

# Of a budget in minutes: the rest is for validations, checkpoints and the measurements at the end.
TRAINING_SHARE = 0.92
# Two texts of one language share a few set phrases and quotations.
NOTABLE_OVERLAP = 0.01


def pretrain(config: PretrainConfig, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Train a causal language model from nothing and leave it in `config.output`; return what was measured.

    The folder then holds the model with its tokenizer, README.md, training.json and loss.png. After an interruption
    `config.resume` continues exactly from the last checkpoint. Trainings in several threads wait for each other. Raises
    UsageError, DataError, ModelError, MachineError; a text or a setting that cannot be used leaves no folder behind.
    """
    written = OutputFolder.of(config.output)
    begun = False
    try:
        with uninterrupted() if world_size() == 1 else nullcontext():
            opened, steps = _begin_together(config)
            begun = not config.resume and rank() == 0
        configuration = opened.model_dump(mode="json")
        with (
            one_training(),
            alone_in(config.output),
            observed(installed_plugins(), "pretrain", config.output, configuration) as observers,
        ):
            with quiet_transformers():
                figures = _pretrain(opened, steps, say, observers)
            observers.finish(figures.get("validation", {}), [config.output])
            return figures
    except BaseException as error:
        useless = isinstance(error, GptTasksError) and not isinstance(error, MachineError)
        useless &= last_checkpoint(config.output / "checkpoints") is None
        with uninterrupted():
            if begun and (useless or not (config.output / "tokenizer").is_dir()):
                written.clear()
            elif rank() == 0:
                written.remove_empty()
        if isinstance(error, OSError):
            where = error.filename or config.output
            raise MachineError(f"{where}: {error.strerror}", "Make room, then continue with --resume") from error
        raise


def _begin_together(config: PretrainConfig) -> tuple[PretrainConfig, int | None]:
    """Begin on the first process, and then on the others, which find what it has begun."""
    if world_size() == 1:
        return begin(config)
    from gpt_tasks.backbone.precision import resolve_device

    init_processes(resolve_device(config.device).type)
    if rank() > 0:
        barrier()
        return begin(config.model_copy(update={"resume": True}))
    begun = begin(config)
    barrier()
    return begun


def _pretrain(
    config: PretrainConfig, steps: int | None, say: Callable[[str], None], observers: Observers
) -> dict[str, Any]:
    from transformers import set_seed

    from gpt_tasks.pretraining.contamination import overlap
    from gpt_tasks.pretraining.loop import PretrainTrainer, ProgressLines, make_optimizer, seconds_per_update
    from gpt_tasks.pretraining.packed import build_gpt2
    from gpt_tasks.pretraining.report import finish
    from gpt_tasks.pretraining.windows import PackedWindows, WindowBatches, collate_windows
    from gpt_tasks.training.progress import ObserverCallback

    arguments = _arguments(config)
    first = rank() == 0
    tell = say if first else _silent
    tokenizer, shards, validation = _prepare_text(config, arguments, tell)

    windows = PackedWindows(shards, config.shape().context)
    _check_text(config, windows, shards, arguments)
    shared = overlap(shards, validation) if first and validation is not None else 0.0
    if shared >= NOTABLE_OVERLAP:
        tell(
            f"Warning: {shared:.1%} of {config.validation} is in the training text too; its bits per byte will "
            "look better than they are"
        )
    batches = WindowBatches(
        len(windows),
        arguments.per_device_train_batch_size,
        config.seed,
        rank(),
        world_size(),
    )
    checkpoints = config.output / "checkpoints"
    if first:
        remove_damaged(checkpoints, tell)
    barrier()
    checkpoint = last_checkpoint(checkpoints)
    done = int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0

    set_seed(config.seed)
    with LOADING:
        model = build_gpt2(config.shape(), shards.end_of_text)
    collate = partial(collate_windows, end_of_text=shards.end_of_text)
    if steps is None:
        if config.minutes is not None:
            few = [collate([windows[row] for row in rows]) for rows in islice(batches, config.accumulate)]
            seconds = broadcast(seconds_per_update(model, config, few, arguments))
            more = TRAINING_SHARE * 60 * config.minutes / seconds
        elif config.tokens is not None:
            more = config.tokens / config.batch_tokens
        else:
            more = (config.epochs or 1) * math.ceil(len(batches) / config.accumulate)
        steps = done + max(1, int(more))
        if first:
            write_record(config, steps)
    arguments.max_steps = steps
    arguments.warmup_steps = math.ceil(config.warmup * steps)
    arguments.save_steps = config.checkpoint_steps or max(1, steps // 20)
    arguments.eval_steps = config.evaluate_steps or max(1, steps // 20)
    arguments.logging_steps = max(1, min(10, steps // 50))

    trainer = PretrainTrainer(
        model=model,
        args=arguments,
        train_dataset=windows,
        eval_dataset=validation,
        train_batches=batches,
        data_collator=collate,
        optimizers=(make_optimizer(model, config), None),
        end_of_text=shards.end_of_text,
    )
    trainer.add_callback(ProgressLines(tell, model, tokenizer, config))
    trainer.add_callback(ObserverCallback(observers))
    tell(
        f"{sum(parameter.numel() for parameter in model.parameters()):,} parameters, {steps:,} updates of "
        f"{config.batch_tokens:,} tokens, {'bf16' if arguments.bf16 else 'float32'} on {arguments.device.type}"
    )
    _train(trainer, checkpoint if done else None, done >= steps)
    return finish(config, trainer, tokenizer, shards, validation=validation, overlap=shared, say=tell) if first else {}


def _arguments(config: PretrainConfig) -> TrainingArguments:
    from transformers import TrainingArguments

    from gpt_tasks.backbone.precision import resolve_device, resolve_precision
    from gpt_tasks.training.checkpoints import one_device_a_process

    device = resolve_device(config.device)
    arguments = TrainingArguments(
        output_dir=str(config.output / "checkpoints"),
        use_cpu=device.type == "cpu",
        bf16=resolve_precision(config.precision, device) == "bf16",
        gradient_accumulation_steps=config.accumulate,
        seed=config.seed,
        lr_scheduler_type="cosine",
        max_grad_norm=1.0,
        save_strategy="steps",
        eval_strategy="steps" if config.validation else "no",
        logging_nan_inf_filter=False,
        disable_tqdm=True,
        report_to="none",
        remove_unused_columns=False,
    )
    one_device_a_process(arguments)
    parts = config.shape().context * world_size() * config.accumulate
    if config.batch_tokens < parts:
        raise UsageError(f"--batch-tokens {config.batch_tokens} holds no window", f"Give at least {parts}")
    arguments.per_device_train_batch_size = config.batch_tokens // parts
    return arguments


def _prepare_text(
    config: PretrainConfig, arguments: TrainingArguments, tell: Callable[[str], None]
) -> tuple[PreTrainedTokenizerFast, Shards, ValidationText | None]:
    """The tokenizer, the tokenized text and the validation text; made by the first process, read by the others."""
    from transformers import PreTrainedTokenizerFast

    from gpt_tasks.pretraining.corpus import ValidationText, tokenize, train_tokenizer
    from gpt_tasks.pretraining.texts import find_texts

    folder = config.output / "tokenizer"
    with arguments.main_process_first(desc="tokenizing"):
        files = find_texts(config.text, config.output)
        held_out = find_texts([config.validation]) if config.validation else []
        if not (folder / "tokenizer_config.json").is_file():
            tell(f"Training a tokenizer of {config.shape().vocab_size} entries on {len(files)} files")
            trained = train_tokenizer(files, config.shape().vocab_size, config.shape().context)
            part = config.output / "tokenizer.part"
            trained.save_pretrained(part)
            part.replace(folder)
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        shards = tokenize(files, tokenizer, config.output / "shards", tell)
    tell(f"{shards.tokens:,} tokens, {shards.documents:,} documents, {shards.bytes / shards.tokens:.2f} bytes a token")
    return tokenizer, shards, ValidationText.read(held_out, tokenizer) if held_out else None


def _check_text(config: PretrainConfig, windows: PackedWindows, shards: Shards, arguments: TrainingArguments) -> None:
    needed = arguments.per_device_train_batch_size * world_size() * config.accumulate
    if len(windows) < needed:
        raise DataError(
            f"The text is too short: {shards.tokens:,} tokens make {len(windows)} windows of {windows.context}, "
            f"and one update takes {needed}",
            "Give more text, or a smaller --context or --batch-tokens",
        )


def _train(trainer: PretrainTrainer, checkpoint: Path | None, finished: bool) -> None:
    """Train from the checkpoint on; where that is the last one already, only take its weights and its history."""
    import torch

    from gpt_tasks.pretraining.energy import energy_meter
    from gpt_tasks.training.checkpoints import LossError

    if checkpoint is not None and finished:
        trainer.take(checkpoint)
        return
    torch.set_flush_denormal(True)
    try:
        with energy_meter() as trainer.energy:
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except LossError as error:
        told = str(error)
        raise ModelError(
            f"{told[0].upper()}{told[1:]}",
            "Lower --learning-rate and --muon-learning-rate, or give --precision float32.",
        ) from error
    finally:
        torch.set_flush_denormal(False)


def _silent(line: str) -> None:
    """Say nothing: one process speaks."""
