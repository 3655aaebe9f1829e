"""Tensors in safetensors files: those that a module is filled from, and the precision that a model's are stored in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from gpt_tasks.backbone import hub
from gpt_tasks.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor, nn

_HALVES = {"BF16": torch.bfloat16, "F16": torch.float16}


def moving(module: nn.Module) -> dict[str, Tensor]:
    """Return the trainable weights, by name."""
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


def write_tensors(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors by their names."""
    from safetensors.torch import save_file

    state = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(state, file, metadata={"format": "pt"})


def fill(module: nn.Module, places: Mapping[str, Tensor], file: Path, whose: str) -> None:
    """Load the tensors `places` of a module, as of a head, from a file. Raises ModelError where it does not fit."""
    from safetensors.torch import load_file

    stored = load_file(file)
    asking = "the labels and the backbone ask" if whose == "head" else "the method and the backbone ask"
    for name, tensor in places.items():
        found = list(stored[name].shape) if name in stored else "missing"
        if found != list(tensor.shape):
            raise ModelError(
                f"{file}: '{name}' is {found}, but {asking} for {list(tensor.shape)}",
                "Labels, head, method and backbone must belong together; copy the run again.",
            )
    odd = sorted(set(stored) - set(places))
    if odd:
        raise ModelError(f"{file}: the {whose} has no place for '{odd[0]}'", "Was it saved by another version?")
    module.load_state_dict(stored, strict=False)


def stored_precision(folder: Path) -> torch.dtype:
    """Return the 16-bit precision that weights of a model's folder are stored in; float32 where none are."""
    from safetensors import safe_open

    for file in sorted({file for pattern in hub.WEIGHT_FILES[:2] for file in folder.glob(pattern)}):
        with safe_open(file, framework="pt") as weights:
            for name in weights.keys():  # noqa: SIM118
                found = _HALVES.get(weights.get_slice(name).get_dtype())
                if found is not None:
                    return found
    return torch.float32


@contextmanager
def in_stored_precision(model: nn.Module, precision: torch.dtype) -> Iterator[bool]:
    """Hold the weights of a model that lose nothing by it in a precision, and in their own again afterwards.

    These are the weights that were read in that precision and not trained. Yields whether they are all of them.
    """
    changed = []
    with torch.no_grad():
        parameters = list(model.parameters())
        for parameter in parameters:
            lower = parameter.data.to(precision)
            if lower.dtype != parameter.dtype and torch.equal(lower.to(parameter.dtype), parameter.data):
                changed.append((parameter, parameter.dtype))
                parameter.data = lower
    try:
        yield len(changed) == len(parameters)
    finally:
        for parameter, dtype in changed:
            parameter.data = parameter.data.to(dtype)
