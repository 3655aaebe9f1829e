"""The backbones that have a short name."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from importlib.resources import files
from pathlib import Path

from gpt_tasks.extensions import BackbonePreset
from gpt_tasks.hookspecs import hookimpl

_ON_THE_HUB = (
    ("gpt2", "openai-community/gpt2", "GPT-2: 124 M parameters, 1024 tokens of context"),
    ("gpt2-medium", "openai-community/gpt2-medium", "GPT-2 medium: 355 M parameters, 1024 tokens of context"),
    ("gpt2-large", "openai-community/gpt2-large", "GPT-2 large: 774 M parameters, 1024 tokens of context"),
    ("gpt2-xl", "openai-community/gpt2-xl", "GPT-2 XL: 1.6 B parameters, 1024 tokens of context"),
    ("openai-gpt", "openai-community/openai-gpt", "The first GPT: 117 M parameters, 512 tokens of context, lower case"),
)


@hookimpl
def register_backbones() -> Sequence[BackbonePreset]:
    """Register the embedded backbone and the GPTs on the hub."""
    embedded = BackbonePreset("tiny", "A small English GPT that is part of gpt-tasks: no network needed", _embedded)
    return [embedded, *(BackbonePreset(name, says, partial(str, hub_id)) for name, hub_id, says in _ON_THE_HUB)]


def _embedded() -> Path:
    return Path(str(files("gpt_tasks.backbone") / "embedded" / "tiny"))
