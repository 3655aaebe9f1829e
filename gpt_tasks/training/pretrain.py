"""Pretraining: raw text in, a causal language model that transformers opens by itself out.

    gpt-tasks pretrain --text books/ --validation held_out.txt --preset tiny --minutes 60 --output my-gpt
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from gpt_tasks.backbone.shapes import SHAPES, Shape
from gpt_tasks.errors import DataError, UsageError

CONFIG_NAME = "pretrain.json"


class PretrainConfig(BaseModel):
    """Everything that decides a pretraining; recorded whole in `pretrain.json` of the output folder."""

    model_config = ConfigDict(extra="forbid")

    text: list[Path] = Field(min_length=1, description="Files, folders or globs of .txt and .jsonl, also .gz and .xz.")
    output: Path = Field(description="Folder for the model, its checkpoints and its card.")
    validation: Path | None = Field(None, description="A held-out text; bits per byte are measured on it.")
    preset: str = Field("tiny", description="The model's shape; see `layers` to `context`.")
    layers: int | None = Field(None, ge=1)
    heads: int | None = Field(None, ge=1)
    width: int | None = Field(None, ge=1)
    vocab_size: int | None = Field(None, ge=258)
    context: int | None = Field(None, ge=8, description="Tokens in a window.")
    epochs: float | None = Field(None, gt=0, description="Passes over the text (1 where no budget is given).")
    tokens: int | None = Field(None, gt=0, description="Tokens to train on, instead of epochs.")
    minutes: float | None = Field(None, gt=0, description="Wall-clock budget: speed is measured, then steps are fixed.")
    optimizer: Literal["muon", "adamw"] = "muon"
    batch_tokens: int = Field(8192, gt=0, description="Tokens in one update, over all processes.")
    accumulate: int = Field(1, ge=1, description="Parts in which a process computes its share of an update.")
    muon_learning_rate: float = Field(0.02, gt=0, allow_inf_nan=False, description="For the matrices in the blocks.")
    learning_rate: float = Field(2e-3, gt=0, allow_inf_nan=False, description="For everything that AdamW updates.")
    warmup: float = Field(0.02, ge=0, lt=1, description="Share of the steps in which the rate rises.")
    weight_decay: float = Field(0.01, ge=0, allow_inf_nan=False)
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    checkpoint_steps: int | None = Field(None, ge=1, description="Default: a twentieth of the steps.")
    evaluate_steps: int | None = Field(None, ge=1, description="Default: a twentieth of the steps.")
    prompts: list[str] = Field(["The "], description="Begin the samples that are printed as it goes.")
    resume: bool = Field(False, exclude=True)

    def shape(self) -> Shape:
        """The preset's shape with what was set instead; raises UsageError."""
        if self.preset not in SHAPES:
            raise UsageError(f"--preset {self.preset}: no such shape", f"Choose one of {', '.join(SHAPES)}.")
        own = {name: value for name in Shape.model_fields if (value := getattr(self, name)) is not None}
        shape = SHAPES[self.preset].model_copy(update=own)
        if shape.width % shape.heads:
            raise UsageError(
                f"--width {shape.width}: not divisible by --heads {shape.heads}",
                f"Use a width of {max(1, shape.width // shape.heads) * shape.heads}, or other heads.",
            )
        if sum(budget is not None for budget in (self.epochs, self.tokens, self.minutes)) > 1:
            raise UsageError("--epochs, --tokens and --minutes are three ways to say one thing", "Give one of them.")
        return shape


def pretrain(config: PretrainConfig, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Train a causal language model from nothing and leave it in `config.output`; returns what was measured.

    The folder then holds the model and its tokenizer, README.md, training.json and loss.png. Interrupted, it goes on
    with `resume` exactly where the last checkpoint was; a budget given with `resume` counts from there and replaces
    the recorded one. Raises UsageError, DataError, MachineError.
    """
    config, done = _begin(config)
    shape = config.shape()

    import torch
    from transformers import PreTrainedTokenizerFast, TrainingArguments, set_seed

    from gpt_tasks.backbone.precision import resolve_device, resolve_precision
    from gpt_tasks.training import corpus
    from gpt_tasks.training.checkpoints import clear_incomplete, last_checkpoint
    from gpt_tasks.training.packed import build_gpt2
    from gpt_tasks.training.pretrain_loop import PretrainTrainer, ProgressLines, make_optimizer
    from gpt_tasks.training.pretrain_report import finish

    started = time.time()
    device = resolve_device(config.device)
    precision = resolve_precision(config.precision, device)
    checkpoints = config.output / "checkpoints"
    arguments = TrainingArguments(
        output_dir=str(checkpoints),
        use_cpu=device.type == "cpu",
        bf16=precision == "bf16",
        gradient_accumulation_steps=config.accumulate,
        seed=config.seed,
        lr_scheduler_type="cosine",
        max_grad_norm=1.0,
        eval_strategy="steps" if config.validation else "no",
        logging_nan_inf_filter=False,
        disable_tqdm=True,
        report_to="none",
        remove_unused_columns=False,
    )
    first = arguments.process_index == 0
    tell = say if first else _silent

    with arguments.main_process_first(desc="tokenizing"):
        files = corpus.find_texts(config.text)
        folder = config.output / "tokenizer"
        if not (folder / "tokenizer.json").is_file():
            tell(f"training a tokenizer of {shape.vocab_size} entries on {len(files)} files")
            corpus.train_tokenizer(files, shape.vocab_size, shape.context).save_pretrained(folder)
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        tell("tokenizing")
        shards = corpus.tokenize(files, tokenizer, config.output / "shards")
    tell(f"{shards.tokens:,} tokens of {shards.documents:,} documents, {shards.bytes / shards.tokens:.2f} bytes a token")
    validation = corpus.ValidationText.read(config.validation, tokenizer) if config.validation else None

    windows = corpus.PackedWindows(shards, shape.context)
    per_process = config.batch_tokens // (shape.context * arguments.world_size * config.accumulate)
    if per_process < 1:
        raise UsageError(
            f"--batch-tokens {config.batch_tokens}: less than one window of {shape.context} tokens for each part",
            f"Give at least {shape.context * arguments.world_size * config.accumulate}.",
        )
    arguments.per_device_train_batch_size = per_process
    batches = corpus.WindowBatches(
        len(windows), per_process, config.seed, arguments.process_index, arguments.world_size
    )
    if len(batches) < config.accumulate:
        raise DataError(
            f"the text is too short: {shards.tokens} tokens, and one update needs {config.batch_tokens}",
            "Give more text, or a smaller --batch-tokens or --context.",
        )

    set_seed(config.seed)
    model = build_gpt2(shape, tokenizer.eos_token_id)
    optimizer = make_optimizer(model, config)
    collate = partial(corpus.collate_windows, end_of_text=shards.end_of_text)
    steps_per_epoch = math.ceil(len(batches) / config.accumulate)
    clear_incomplete(checkpoints) if first else None
    checkpoint = last_checkpoint(checkpoints)
    steps_done = int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0
    steps = done.get("steps")
    if steps is None:
        if config.minutes:
            probe = [collate([windows[row] for row in rows]) for rows, _ in zip(batches, range(2), strict=False)]
            seconds = _seconds_a_step(model, config, probe * config.accumulate, device, precision)
            steps = steps_done + max(1, int(0.93 * 60 * config.minutes / seconds))
        elif config.tokens:
            steps = steps_done + max(1, config.tokens // config.batch_tokens)
        else:
            steps = steps_done + max(1, round((config.epochs or 1) * steps_per_epoch))
        if first:
            _record(config, {"steps": steps})
    if steps <= steps_done and checkpoint is None:
        raise UsageError("the budget leaves no step to train", "Give more --tokens, --epochs or --minutes.")
    arguments.max_steps = steps
    arguments.warmup_steps = max(1, round(config.warmup * steps)) if config.warmup else 0
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
        optimizers=(optimizer, None),
        precision=precision,
        end_of_text=shards.end_of_text,
    )
    trainer.add_callback(ProgressLines(tell, trainer, tokenizer, config))
    count = sum(parameter.numel() for parameter in model.parameters())
    tell(f"{count:,} parameters, {steps:,} steps of {config.batch_tokens:,} tokens, {precision} on {device.type}")
    torch.set_flush_denormal(True)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if not first:
        return {}
    return finish(config, trainer, tokenizer, shards, validation, seconds=time.time() - started, say=tell)


def _begin(config: PretrainConfig) -> tuple[PretrainConfig, dict[str, Any]]:
    """The configuration to train with and what an earlier call recorded; refuses a folder that is in use."""
    config.shape()
    record = config.output / CONFIG_NAME
    if not config.resume:
        if config.output.exists() and any(config.output.iterdir()):
            raise UsageError(
                f"--output {config.output}: the folder is not empty", "Give another, or --resume to go on in it."
            )
        config.output.mkdir(parents=True, exist_ok=True)
        _record(config, {})
        return config, {}
    if not record.is_file():
        raise UsageError(f"--resume: {config.output} holds no pretraining", "Leave --resume out to begin one.")
    recorded = json.loads(record.read_text())
    kept = PretrainConfig(**recorded["config"])
    budget = {"epochs": config.epochs, "tokens": config.tokens, "minutes": config.minutes}
    if any(value is not None for value in budget.values()):
        kept = kept.model_copy(update=budget)
        recorded["progress"].pop("steps", None)
    free = {"device", "precision", *budget}
    for name in config.model_fields_set - {"resume", "output", *free}:
        if getattr(config, name) != getattr(kept, name):
            raise UsageError(
                f"--resume: {name} was {getattr(kept, name)!r} and is now {getattr(config, name)!r}",
                "Leave it as it was, or begin in another folder.",
            )
    changed = {name: getattr(config, name) for name in free & config.model_fields_set if name not in budget}
    return kept.model_copy(update=changed), recorded["progress"]


def _record(config: PretrainConfig, progress: dict[str, Any]) -> None:
    content = {"schema_version": 1, "config": config.model_dump(mode="json"), "progress": progress}
    part = config.output / f"{CONFIG_NAME}.part"
    part.write_text(json.dumps(content, indent=2))
    part.replace(config.output / CONFIG_NAME)


def _seconds_a_step(model: Any, config: PretrainConfig, batches: list[Any], device: Any, precision: str) -> float:
    """How long one update takes here, on a copy of the model that is then thrown away."""
    import torch

    from gpt_tasks.training.pretrain_loop import make_optimizer

    copy = deepcopy(model).to(device).train()
    optimizer = make_optimizer(copy, config)
    taken: list[float] = []
    for _ in range(6):
        began = time.perf_counter()
        for batch in batches[: config.accumulate]:
            inputs = {name: tensor.to(device) for name, tensor in batch.items()}
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                loss = copy(**inputs).loss
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        loss.item()
        taken.append(time.perf_counter() - began)
    return sum(taken[2:]) / len(taken[2:])


def _silent(line: str) -> None:
    """Only one rank speaks."""
