"""Weights of 8 or 4 bits, which bitsandbytes computes with on a GPU: adapters are trained beside them (QLoRA)."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from gpt_tasks.errors import MachineError

if TYPE_CHECKING:
    import torch

NEEDING_BITSANDBYTES = ("adamw_8bit", "paged_adamw_32bit", "paged_adamw_8bit")
"""The optimizers that are bitsandbytes'."""


def check_bitsandbytes(flag: str, device: torch.device) -> None:
    """Raise MachineError where what a flag asks for cannot be computed: it needs a GPU, and bitsandbytes."""
    if device.type != "cuda":
        raise MachineError(
            f"{flag} needs a GPU (CUDA) and the package bitsandbytes, and the device is {device.type}",
            "Leave it out, or train on a machine with such a GPU.",
        )
    if find_spec("bitsandbytes") is None:
        raise MachineError(f"{flag} needs the package bitsandbytes", "Install it: pip install bitsandbytes")


def quantization(load_in: str, precision: str) -> Any:
    """Return how transformers is to load a model: in `8bit`, or in `4bit` as QLoRA does (arXiv 2305.14314)."""
    import torch
    from transformers import BitsAndBytesConfig

    if load_in == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16 if precision == "bf16" else torch.float32,
    )
