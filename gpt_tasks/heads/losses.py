"""What a head learns by: the loss of its logits beside their goals, summed over examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor
from torch.nn import functional

from gpt_tasks.tasks.headed import Loss

UNLABELLED = -100
"""The goal that counts in no loss."""


def cross_entropy(logits: Tensor, goals: Tensor, class_weights: Tensor | None) -> Tensor:
    """The cross-entropy of logits `[n, labels]` and labels `[n]`, in nats, weighed by `class_weights` `[labels]`."""
    return functional.cross_entropy(logits, goals, weight=class_weights, ignore_index=UNLABELLED, reduction="sum")


def binary(logits: Tensor, goals: Tensor, class_weights: Tensor | None) -> Tensor:
    """The binary cross-entropy, in nats, of every label for itself; logits and goals are `[n, labels]`."""
    counts = goals != UNLABELLED
    each = functional.binary_cross_entropy_with_logits(
        logits, goals.clamp(min=0), weight=class_weights, reduction="none"
    )
    return (each * counts).sum()


def squared(logits: Tensor, goals: Tensor, class_weights: Tensor | None) -> Tensor:
    """The squared error of logits `[n, 1]` and numbers `[n]`; there are no classes to be weighed."""
    counts = goals != UNLABELLED
    return ((logits[:, 0] - goals)[counts] ** 2).sum()


def choice(logits: Tensor, goals: Tensor, class_weights: Tensor | None) -> Tensor:
    """The cross-entropy of scores `[n, choices]`, minus infinity where an example has fewer, and places `[n]`."""
    return cross_entropy(logits, goals, None)


def span(logits: Tensor, goals: Tensor, class_weights: Tensor | None) -> Tensor:
    """The cross-entropy of the positions of first and last tokens: logits `[n, length, 2]`, positions `[n, 2]`."""
    return sum(
        (cross_entropy(logits[..., side], goals[:, side], None) for side in range(2)), start=logits.new_zeros(())
    )


LOSSES: Mapping[Loss, Callable[[Tensor, Tensor, Tensor | None], Tensor]] = {
    "cross_entropy": cross_entropy,
    "binary": binary,
    "squared": squared,
    "choice": choice,
    "span": span,
}
