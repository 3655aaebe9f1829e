"""What trials of models have found, in the user's cache: by the model's configuration and the library's versions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path
from pydantic import BaseModel, ConfigDict

from gpt_tasks.files import write_json
from gpt_tasks.scoring.model import ScoredModel

# What says where a model comes from, and not how it computes.
NOT_COMPUTED = ("_name_or_path", "transformers_version", "dtype", "torch_dtype")
LIBRARIES = ("gpt-tasks", "torch", "transformers")


class Finding(BaseModel):
    """Up to which depth of paths a model was found to work, and from which it was not, for which `fault`."""

    model_config = ConfigDict(extra="forbid")

    works: int = 0
    fails: int | None = None
    fault: str | None = None


def remembered(trial: Callable[[ScoredModel, int], str | None], model: ScoredModel, depth: int) -> str | None:
    """Return what a trial of paths of `depth` tokens finds, from earlier ones where these have tried so deep.

    The code of models that bring their own may change without their configuration: they are always tried. So is every
    model where the cache cannot be read or written.
    """
    if getattr(model.model.config, "auto_map", None):
        return trial(model, depth)
    file = user_cache_path("gpt-tasks") / "tree-attention" / f"{_key(model)}.json"
    known = _read(file)
    if depth <= known.works:
        return None
    if known.fails is not None and depth >= known.fails:
        return known.fault
    fault = trial(model, depth)
    update = {"works": depth} if fault is None else {"fails": depth, "fault": fault}
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, known.model_copy(update=update).model_dump())
    return fault


def _read(file: Path) -> Finding:
    with suppress(OSError, ValueError):
        return Finding.model_validate_json(file.read_bytes())
    return Finding()


def _key(model: ScoredModel) -> str:
    kind, config = type(model.model), model.model.config
    said: dict[str, Any] = {
        "class": f"{kind.__module__}.{kind.__qualname__}",
        "config": {name: value for name, value in config.to_dict().items() if name not in NOT_COMPUTED},
        "attention": config._attn_implementation,
        "device": model.device.type,
        "versions": {name: version(name) for name in LIBRARIES},
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()[:32]
