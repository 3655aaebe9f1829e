"""What a pretraining leaves behind: the model in bfloat16, its card, the loss curve and the figures."""

from __future__ import annotations

import platform
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    GPT2LMHeadModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from gpt_tasks.files import give_usual_rights, write_json
from gpt_tasks.pretraining.bits_per_byte import bits_per_byte
from gpt_tasks.pretraining.config import PretrainConfig, read_about
from gpt_tasks.pretraining.corpus import Shards, ValidationText
from gpt_tasks.pretraining.loop import PretrainTrainer, sample, spent
from gpt_tasks.pretraining.packed import PackedGPT2
from gpt_tasks.shown import markdown, markdown_code
from gpt_tasks.threads import LOADING

FIGURES = "training.json"
ABOUT_NOTHING = "Where this text comes from, and under which licence, was not said when the model was trained."


def finish(
    config: PretrainConfig,
    trainer: PretrainTrainer,
    tokenizer: PreTrainedTokenizerFast,
    shards: Shards,
    *,
    validation: ValidationText | None,
    overlap: float,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Write the model, measure it as a user will open it, and write the card; return the figures."""
    assert isinstance(trainer.model, PackedGPT2)
    with LOADING:
        save_model(trainer.model, tokenizer, config.output)
        model: Any = AutoModelForCausalLM.from_pretrained(config.output, dtype=torch.float32)
    model.to(device=trainer.args.device)
    figures = _figures(config, trainer, model, shards)
    if validation is not None:
        say(f"Measuring bits per byte on {validation.bytes:,} bytes")
        context = model.config.n_positions
        figures["validation"] = {
            "file": config.validation.name if config.validation else "",
            "bytes": validation.bytes,
            "tokens": len(validation) - 1,
            "overlap": overlap,
            "bits_per_byte": bits_per_byte(model, validation, stride=context // 2, bf16=trainer.args.bf16),
            "bits_per_byte_plain_windows": bits_per_byte(model, validation, stride=context, bf16=trainer.args.bf16),
        }
        say(f"validation: {figures['validation']['bits_per_byte']:.4f} bits per byte")
    figures["samples"] = [sample(model, tokenizer, prompt, config.seed, tokens=80) for prompt in config.prompt]
    figures["history"] = trainer.state.log_history
    write_json(config.output / FIGURES, figures)
    _draw(trainer.state.log_history, config.output / "loss.png")
    about = read_about(config.about_text) if config.about_text else ABOUT_NOTHING
    (config.output / "README.md").write_text(model_card(figures, about), encoding="utf-8")
    return {name: value for name, value in figures.items() if name not in ("history", "samples")}


def save_model(model: PackedGPT2, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Save the model in bfloat16 and its tokenizer as a folder that transformers loads directly."""
    settings = {name: value for name, value in model.config.to_dict().items() if name not in ("dtype", "architectures")}
    settings["use_cache"] = True  # the Trainer turns it off
    # Pretraining drops nothing out; fine-tuning, which reads its text several times, does so at GPT-2's own rate.
    settings |= dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.1)
    plain: Any = GPT2LMHeadModel(type(model.config)(**settings))
    plain.load_state_dict(model.state_dict())
    plain.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    plain.to(dtype=torch.bfloat16)
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    give_usual_rights(folder)


def model_card(figures: dict[str, Any], about_text: str) -> str:
    """The model card of a pretrained model, in Markdown, from its figures and what is known about its text."""
    shape, training, text = figures["shape"], figures["training"], figures["text"]
    lines = [
        "---",
        "library_name: transformers",
        "pipeline_tag: text-generation",
        "tags: [gpt2, gpt-tasks]",
        "---",
        "",
        f"# A GPT-2 of {figures['parameters'] / 1e6:.1f} million parameters",
        "",
        f"Trained from nothing with `gpt-tasks pretrain`: {shape['layers']} blocks of width {shape['width']} with "
        f"{shape['heads']} attention heads, a byte-level BPE vocabulary of {shape['vocab_size']:,} entries, and a "
        f"context of {shape['context']} tokens. The weights are stored in bfloat16.",
        "",
        "## The text",
        "",
        f"{text['documents']:,} documents, {text['bytes'] / 1e6:,.1f} MB, {text['tokens'] / 1e6:,.2f} million tokens, "
        f"from {', '.join(f'`{markdown_code(name)}`' for name in text['files'])}. Windows are packed, and nothing "
        "attends across the border of two documents.",
        "",
        about_text.strip(),
        "",
        "## The training",
        "",
        "| | |",
        "| --- | --- |",
        f"| tokens seen | {training['tokens_seen']:,} ({training['epochs']:.2f} of the text) |",
        f"| updates | {training['updates']:,} of {training['batch_tokens']:,} tokens |",
        f"| optimizer | {training['optimizer']} |",
        f"| schedule | warm-up over {training['warmup']:.0%}, then a cosine to zero |",
        f"| precision | {training['precision']} |",
        f"| time | {training['seconds'] / 60:.0f} minutes, {training['tokens_per_second']:,.0f} tokens a second |",
        f"| hardware | {training['hardware']} |",
        *([f"| energy | {training['kwh']:.4g} kWh, as codecarbon estimates it |"] if training["kwh"] else []),
        f"| last training loss | {training['loss']:.3f} nats a token |",
        "",
    ]
    if "validation" in figures:
        held_out = figures["validation"]
        lines += [
            "## How well it predicts a text it has not seen",
            "",
            f"On `{markdown_code(held_out['file'])}` ({held_out['bytes']:,} bytes, {held_out['tokens']:,} tokens): "
            f"**{held_out['bits_per_byte']:.3f} bits per byte**, each token given at least half a context of what came "
            f"before it; {held_out['bits_per_byte_plain_windows']:.3f} in windows that do not overlap. Counted are the "
            "bits of all tokens, the ends of documents among them, by the UTF-8 bytes of the text. "
            f"{held_out['overlap']:.1%} of its stretches of 32 tokens are in the training text too.",
            "",
        ]
    lines += ["## What it writes", ""]
    for text_written in figures["samples"]:
        lines += [*(f"> {markdown(line)}" for line in text_written.strip().splitlines()), ""]
    lines += [
        "## What it is not for",
        "",
        "It is a small model: it knows no facts worth relying on, follows no instructions, and loses the thread after "
        "a few sentences. It has the views and the words of the texts it read, and nothing was done to remove what is "
        "hurtful in them. It is made to be fine-tuned to a task and then measured on that task.",
        "",
    ]
    return "\n".join(lines)


def _figures(
    config: PretrainConfig, trainer: PretrainTrainer, model: PreTrainedModel, shards: Shards
) -> dict[str, Any]:
    state, args = trainer.state, trainer.args
    rows = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    tokens_seen = state.global_step * rows * config.shape().context
    seconds = spent(state.log_history, "seconds")
    rates = f"AdamW ({config.learning_rate:g})"
    if config.optimizer == "muon":
        rates = f"Muon ({config.muon_learning_rate:g}) for the matrices of the blocks, {rates} for everything else"
    return {
        "schema_version": 1,
        "shape": config.shape().model_dump(),
        "parameters": model.num_parameters(),
        "text": {
            "files": [path.name for path in config.text],
            "documents": shards.documents,
            "bytes": shards.bytes,
            "tokens": shards.tokens,
        },
        "training": {
            "updates": state.global_step,
            "batch_tokens": rows * config.shape().context,
            "tokens_seen": tokens_seen,
            "epochs": tokens_seen / shards.tokens,
            "optimizer": rates,
            "warmup": config.warmup,
            "weight_decay": config.weight_decay,
            "seed": config.seed,
            "precision": "bf16" if args.bf16 else "float32",
            "seconds": seconds,
            "tokens_per_second": tokens_seen / max(seconds, 1e-9),
            "kwh": spent(state.log_history, "kwh") or None,
            "hardware": _hardware(args.device, args.world_size),
            "loss": next((entry["loss"] for entry in reversed(state.log_history) if "loss" in entry), float("nan")),
        },
        "versions": {name: version(name) for name in ("gpt-tasks", "torch", "transformers", "tokenizers")},
    }


def _hardware(device: torch.device, processes: int) -> str:
    if device.type == "cuda":
        what = torch.cuda.get_device_name(device)
    else:
        what = f"{torch.get_num_threads()} threads of a processor ({platform.machine()})"
    return what if processes == 1 else f"{processes} processes, each on {what}"


def _draw(history: list[dict[str, float]], file: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    losses = [(entry["step"], entry["loss"]) for entry in history if "loss" in entry]
    axes.plot(*zip(*losses, strict=True), color="tab:blue", linewidth=1)
    axes.set(xlabel="update", ylabel="training loss (nats per token)")
    axes.grid(alpha=0.3)
    measured = [(entry["step"], entry["eval_bits_per_byte"]) for entry in history if "eval_bits_per_byte" in entry]
    if measured:
        right = axes.twinx()
        right.plot(*zip(*measured, strict=True), color="tab:orange", marker="o", markersize=3, linewidth=1)
        right.set_ylabel("validation bits per byte", color="tab:orange")
    figure.savefig(file, dpi=120)
