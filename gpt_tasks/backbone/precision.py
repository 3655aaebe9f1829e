"""Which device and which precision to compute in, and what the machine does natively."""

from __future__ import annotations

from typing import Any, Literal

import torch

from gpt_tasks.errors import MachineError, UsageError

Precision = Literal["float32", "bf16"]
WritingPrecision = Literal["float32", "bf16", "int8"]
"""The precisions of generation, which needs no gradients."""


def resolve_device(name: str) -> torch.device:
    """The device that `auto`, `cpu`, `cuda` or `mps` means on this machine; raises UsageError or MachineError."""
    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, available in here.items() if available))
    if name not in here:
        raise UsageError(f"--device {name}: no such device", "Choose auto, cpu, cuda or mps.")
    if not here[name]:
        raise MachineError(f"--device {name}: this machine has none that torch can use", "Use --device auto.")
    return torch.device(name)


def native_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 matrices in hardware, rather than by way of float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "arm_bf16", "bf16"))


def resolve_precision(name: str, device: torch.device) -> Precision:
    """The precision that `auto`, `float32` or `bf16` means on a device: `auto` is bf16 where it is native."""
    match name:
        case "auto":
            return "bf16" if native_bf16(device) else "float32"
        case "float32":
            return "float32"
        case "bf16":
            return "bf16"
        case "int8":
            raise UsageError("--precision int8 is only for generation", "Choose auto, float32 or bf16.")
        case _:
            raise UsageError(f"--precision {name}: no such precision", "Choose auto, float32 or bf16.")


def in_precision(model: Any, precision: Precision) -> Any:
    """Return a model with its weights in a precision, but rotary frequencies in float32, as transformers loads them.

    In bfloat16 they would be off by up to 0.4 %, and positions far into a text by whole turns.
    """
    exact = [
        (module, name, buffer)
        for module in model.modules()
        for name, buffer in module.named_buffers(recurse=False)
        if name.endswith("inv_freq")
    ]
    model.to(torch.bfloat16 if precision == "bf16" else torch.float32)
    for module, name, buffer in exact:
        setattr(module, name, buffer)
    return model


def resolve_writing_precision(name: str, device: torch.device) -> WritingPrecision:
    """The precision that a name means where a model only generates: also `int8`, on a CPU."""
    if name not in {"auto", "float32", "bf16", "int8"}:
        raise UsageError(f"--precision {name}: no such precision", "Choose auto, float32, bf16 or int8.")
    if name == "int8" and device.type != "cpu":
        raise UsageError(f"--precision int8 is for generation on a CPU, not on {device.type}", "Add --device cpu.")
    return "int8" if name == "int8" else resolve_precision(name, device)
