"""The backbone of the checks: a GPT-2 of two layers with random weights, and the first tokens of `tiny`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

CONTEXT = 256
"""The most tokens that it reads."""
_WIDTH = 32
_TOKENS = 2048


def write_backbone(folder: Path) -> Path:
    """Write the backbone into a folder, as transformers opens it, and return the folder."""
    import torch
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

    from gpt_tasks.backbone.presets import register_backbones
    from gpt_tasks.backbone.quiet import quiet_transformers
    from gpt_tasks.threads import LOADING

    (tiny,) = (preset for preset in register_backbones() if preset.name == "tiny")
    with LOADING, quiet_transformers():
        _write_tokenizer(Path(tiny.location()), folder)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        end = tokenizer.eos_token_id
        config = GPT2Config(
            vocab_size=len(tokenizer),
            n_positions=CONTEXT,
            n_embd=_WIDTH,
            n_layer=2,
            n_head=2,
            bos_token_id=end,
            eos_token_id=end,
        )
        with torch.random.fork_rng():
            torch.manual_seed(0)
            GPT2LMHeadModel(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder


def _write_tokenizer(source: Path, folder: Path) -> None:
    """Write a tokenizer without all but the tokens that were merged first, which is read much sooner."""
    whole = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    model = whole["model"]
    model["vocab"] = {token: place for token, place in model["vocab"].items() if place < _TOKENS}
    model["merges"] = [pair for pair in model["merges"] if "".join(pair) in model["vocab"]]
    (folder / "tokenizer.json").write_text(json.dumps(whole), encoding="utf-8")
    shutil.copy(source / "tokenizer_config.json", folder)
