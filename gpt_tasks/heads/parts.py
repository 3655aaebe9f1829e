"""Compute many sequences in parts that are forgotten at once, and computed again for their gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

Read = Callable[[int], tuple[Tensor, ...]]
"""From the number of a part to its outputs, of which the first is `[rows, ...]` and others, if any, are numbers."""


def in_parts(read: Read, parts: int, module: nn.Module) -> tuple[Tensor, ...]:
    """Return the first outputs of all parts one after the other, and the sums of the others.

    Their gradients reach the parameters of `module` alone. Nothing of a part stays in memory but its outputs: not even
    the nodes of a graph, among which the C library could not put the next part, so that memory would grow with each.
    """
    moving = [each for each in module.parameters() if each.requires_grad] if torch.is_grad_enabled() else []
    if not moving:
        return _joined(map(read, range(parts)))
    outputs: tuple[Tensor, ...] = _Recomputed.apply(read, parts, *moving)  # type: ignore[no-untyped-call]
    return outputs


class _Recomputed(torch.autograd.Function):
    """Parts of which the backward pass computes each again, from the random numbers of the forward pass."""

    @staticmethod
    def forward(context: Any, read: Read, parts: int, *moving: Tensor) -> tuple[Tensor, ...]:
        device = moving[0].device
        context.read, context.parts, context.device = read, parts, device
        context.autocast = torch.is_autocast_enabled(device.type), torch.get_autocast_dtype(device.type)
        context.random = _random_states(device)
        context.save_for_backward(*moving)
        return _joined(map(read, range(parts)))

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        moving = context.saved_tensors
        sums: list[Tensor | None] = [None] * len(moving)
        device, (enabled, dtype) = context.device, context.autocast
        place = 0
        with (
            torch.random.fork_rng([] if device.type == "cpu" else [device], device_type=device.type),
            torch.autocast(device.type, dtype, enabled=enabled),
        ):
            _set_random_states(device, context.random)
            for part in range(context.parts):
                with torch.enable_grad():
                    outputs = context.read(part)
                rows = len(outputs[0])
                given = [gradients[0][place : place + rows], *gradients[1:]]
                place += rows
                found = torch.autograd.grad(outputs, moving, given, allow_unused=True)
                del outputs
                for number, gradient in enumerate(found):
                    if gradient is not None:
                        before = sums[number]
                        sums[number] = gradient if before is None else before + gradient
        return None, None, *sums


def _joined(found: Any) -> tuple[Tensor, ...]:
    parts: Sequence[tuple[Tensor, ...]] = list(found)
    first, *others = zip(*parts, strict=True)
    return torch.cat(first), *(torch.stack(each).sum() for each in others)


def _random_states(device: torch.device) -> list[Tensor]:
    states = [torch.get_rng_state()]
    return states if device.type == "cpu" else [*states, torch.get_device_module(device).get_rng_state(device)]


def _set_random_states(device: torch.device, states: Sequence[Tensor]) -> None:
    torch.set_rng_state(states[0])
    for state in states[1:]:
        torch.get_device_module(device).set_rng_state(state, device)
