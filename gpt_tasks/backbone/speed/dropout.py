"""Dropout on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def drop(inputs: Tensor, probability: float) -> Tensor:
    """Dropout on a CPU, from torch's random numbers, six times as fast as torch's own."""
    return inputs if probability == 0 else _Dropout.apply(inputs, probability)  # type: ignore[no-untyped-call]


class _Dropout(torch.autograd.Function):
    """Dropout by 16 random bits for each element, where torch draws 32 with a costlier generator.

    The probability is thus rounded to 1/65536, and the scale is that of the rounded one: the mean is exact.
    """

    @staticmethod
    def forward(context: Any, inputs: Tensor, probability: float) -> Tensor:
        dropped = round(probability * 2**16)
        draws = torch.empty(-(-inputs.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        bits = draws.view(torch.int16)[: inputs.numel()].view(inputs.shape)
        context.scale = 1 / (1 - dropped / 2**16)
        # As numbers of the inputs' own kind, because a product with booleans takes six times as long.
        kept = torch.ge(bits, dropped - 2**15, out=torch.empty(inputs.shape, dtype=inputs.dtype))
        # Not as an attribute, which would keep it where activations are computed again.
        context.save_for_backward(kept)
        outputs: Tensor = (inputs * context.scale).mul_(kept)
        return outputs

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (kept,) = context.saved_tensors
        return (gradient * context.scale).mul_(kept), None
