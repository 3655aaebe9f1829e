"""Products with constant weights: laid out once as the CPU's matrix kernels read them, in one of three precisions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from gpt_tasks.backbone.precision import WritingPrecision

Product = Callable[[Tensor], Tensor]
"""Multiplies states `[n, inputs]` to `[n, outputs]`; what comes out is in float32 or in bfloat16."""

FEW_ROWS = 4
"""At most so many rows are few, for which other kernels are faster than for many."""

_LARGEST = 127  # of an int8, with the same number below zero
_onednn: Any = torch.ops.mkldnn
_quantized: Any = torch.ops.onednn
_fbgemm: Any = torch.ops.quantized


def product(weight: Tensor, bias: Tensor | None, precision: WritingPrecision, *, gelu: bool = False) -> Product:
    """Return what multiplies by `weight` `[outputs, inputs]` and adds `bias` `[outputs]`; both are copied.

    With `gelu` what comes out has gone through GPT-2's activation.
    """
    if precision == "int8":
        return _int8(weight.float(), bias, gelu)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    return _dense(weight.to(dtype), None if bias is None else bias.to(dtype, copy=True), gelu)


def multiplies_int8() -> bool:
    """Whether the CPU multiplies int8 in hardware, and torch supports it."""
    capabilities = torch.cpu.get_capabilities()
    native = any(capabilities.get(name, False) for name in ("avx512_vnni", "avx_vnni", "amx_int8"))
    return native and torch.backends.mkldnn.is_available() and hasattr(_quantized, "qlinear_prepack")


def _dense(weight: Tensor, bias: Tensor | None, gelu: bool) -> Product:
    dtype, packed = weight.dtype, _packed(weight)
    reads_half = dtype == torch.bfloat16 and _reads_half(weight)
    if packed is None and reads_half:
        return _HalfPrecision(weight.clone(), bias, gelu)
    if packed is None:
        kept = weight.clone(memory_format=torch.contiguous_format)

        def multiply(states: Tensor) -> Tensor:
            found = functional.linear(states.to(dtype), kept, bias)
            return functional.gelu(found, approximate="tanh") if gelu else found

        return multiply
    run, then, algorithm = _onednn._linear_pointwise, "gelu" if gelu else "none", "tanh" if gelu else ""

    def multiply_many(states: Tensor) -> Tensor:
        found: Tensor = run(states.to(dtype), packed, bias, then, [], algorithm)
        return found

    if not reads_half:
        return multiply_many
    multiply_few = _HalfPrecision(packed, bias, gelu)
    return lambda states: multiply_few(states) if len(states) <= FEW_ROWS else multiply_many(states)


def _packed(weight: Tensor) -> Tensor | None:
    """Return a weight as oneDNN reads it; None where that is not there, or has no kernel: bfloat16 without AVX-512."""
    if not torch.backends.mkldnn.is_available():
        return None
    try:
        packed: Tensor = _onednn._reorder_linear_weight(weight.contiguous())
    except RuntimeError:
        return None
    return packed


class _HalfPrecision:
    """Weights in float16, states in float32: for few rows FBGEMM reads them faster than oneDNN reads bfloat16, and for
    any number where oneDNN does not.

    A number of bfloat16 has the same value there, unless it is below 6e-5. They take as much memory again, from the
    first use on.
    """

    def __init__(self, packed: Tensor, bias: Tensor | None, gelu: bool) -> None:
        self._source: Tensor | None = packed
        self._bias = None if bias is None else bias.float()
        self._gelu = gelu
        self._packed: Any = None

    def __call__(self, states: Tensor) -> Tensor:
        source = self._source  # another thread may be here at the same time
        if source is not None:
            self._packed = _fbgemm.linear_prepack_fp16(source.to_dense().float(), self._bias)
            self._source = None
        found: Tensor = _fbgemm.linear_dynamic_fp16(states.float(), self._packed)
        return functional.gelu(found, approximate="tanh") if self._gelu else found


def _reads_half(weight: Tensor) -> bool:
    """Whether torch has FBGEMM's product, and float16 holds the weight's largest numbers."""
    return (
        torch.backends.quantized.engine in ("x86", "fbgemm")
        and hasattr(_fbgemm, "linear_dynamic_fp16")
        and bool(weight.abs().max() <= torch.finfo(torch.float16).max)
    )


def _int8(weight: Tensor, bias: Tensor | None, gelu: bool) -> Product:
    """Each row of the weight has its own scale, and so has each state, computed on the fly (LLM.int8(), eq. 4)."""
    scales = weight.abs().amax(1).clamp(min=torch.finfo(torch.float32).tiny) / _LARGEST
    packed = _quantized.qlinear_prepack((weight / scales[:, None]).round().to(torch.int8).contiguous(), None)
    zeros = torch.zeros(len(scales), dtype=torch.long)
    added = None if bias is None else bias.to(torch.float32, copy=True)
    middle = torch.tensor(128.5)

    def multiply(states: Tensor) -> Tensor:
        states = states.float()  # in bfloat16, the sum with 128 would lose a bit
        largest = states.abs().amax(-1, keepdim=True).clamp_(min=1e-12)
        # Above zero, with the middle at 128: oneDNN has no fast kernel for states of both signs.
        whole = torch.addcmul(middle, states, _LARGEST / largest).to(torch.uint8)
        found = _quantized.qlinear_pointwise(
            whole, 1.0, 128, packed, scales, zeros, None, 1.0, 0, torch.float32, "none", [], ""
        )
        if added is None:
            found.mul_(largest.mul_(1 / _LARGEST))
        else:
            found = torch.addcmul(added, found, largest, value=1 / _LARGEST)
        return functional.gelu(found, approximate="tanh") if gelu else found

    return multiply
