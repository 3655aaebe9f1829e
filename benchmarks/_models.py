"""The models that benchmarks of speed take: `--model gpt2|smollm2|FOLDER`."""

from __future__ import annotations

import argparse
from pathlib import Path

SHARED = Path(__file__).parents[2] / "shared"
GPT2 = "gpt2"


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add `--model` and `--tokenizer` to a benchmark's arguments."""
    parser.add_argument(
        "--model", default=GPT2, help="gpt2: its shape with random weights; smollm2: the preset; or a model's folder"
    )
    parser.add_argument(
        "--tokenizer", type=Path, default=SHARED / "models" / "gpt2-tokenizer", help="GPT-2's, for --model gpt2"
    )


def write_model(model: str, tokenizer: Path, folder: Path) -> None:
    """Write the model that was asked for into a folder that transformers opens, in float32."""
    from transformers import GPT2Config, GPT2LMHeadModel, GPT2TokenizerFast, set_seed

    if model != GPT2:
        from gpt_tasks.backbone.load import load_backbone
        from gpt_tasks.plugins import installed_plugins

        backbone = load_backbone(model, installed_plugins().registry.backbones)
        backbone.model.save_pretrained(folder)
        backbone.tokenizer.save_pretrained(folder)
        return
    if not tokenizer.is_dir():
        raise SystemExit(f"There is no folder {tokenizer}: say where it is with --tokenizer")
    set_seed(0)
    GPT2LMHeadModel(GPT2Config()).save_pretrained(folder)
    GPT2TokenizerFast.from_pretrained(tokenizer).save_pretrained(folder)


def case_of(model: str, case: str) -> str:
    """Return the name of a case: of the shape of GPT-2 as it is, of others with the model's."""
    return case if model == GPT2 else f"{Path(model).name}: {case}"
