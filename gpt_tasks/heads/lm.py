"""The language model head as training needs it: a loss over a large vocabulary that stores no logits."""

from __future__ import annotations

from typing import Any

import torch

ROWS = 256


def product_type(hidden: torch.Tensor) -> torch.dtype:
    """The type that matrix products of these hidden states are computed in, autocast or not."""
    device = hidden.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype


def linear_cross_entropy(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    labels: torch.Tensor,
    dtype: torch.dtype,
    shares: torch.Tensor | None = None,
) -> torch.Tensor:
    """The weighted sum of the cross-entropies, in nats, of the logits `hidden @ weight.T`; a scalar in float32.

    `hidden` [rows, width], `weight` [vocabulary, width], `labels` [rows], `shares` [rows] the weights; without them it
    is the mean. Products are computed in `dtype`, 256 rows at a time: only a slice of the logits exists at any moment,
    and both gradients are taken while it does.
    """
    if shares is None:
        shares = torch.full((len(hidden),), 1 / max(1, len(hidden)), device=hidden.device)
    loss: torch.Tensor = _LinearCrossEntropy.apply(hidden, weight, labels, dtype, shares)  # type: ignore[no-untyped-call]
    return loss


def text_loss(
    hidden: torch.Tensor, weight: torch.Tensor, input_ids: torch.Tensor, attention_mask: torch.Tensor
) -> torch.Tensor:
    """The sum over a batch of each text's mean cross-entropy, in nats a token, of its next tokens; a scalar.

    `hidden` [batch, length, width], `input_ids` and `attention_mask` [batch, length], padded on either side; a text of
    one token predicts nothing and counts as zero. GPT-1's auxiliary loss (Radford et al. 2018, eq. 5).
    """
    predicts = (attention_mask[:, :-1] != 0) & (attention_mask[:, 1:] != 0)
    shares = (predicts / predicts.sum(dim=1, keepdim=True).clamp(min=1))[predicts]
    dtype = product_type(hidden)
    with torch.autocast(hidden.device.type, enabled=False):
        return linear_cross_entropy(hidden[:, :-1][predicts], weight, input_ids[:, 1:][predicts], dtype, shares)


@torch.no_grad()
def token_losses(hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return the cross-entropy of each row, in nats: `[rows]` in float32, of the arguments of linear_cross_entropy."""
    projection, inputs = weight.to(dtype), hidden.to(dtype)
    found = torch.empty(len(inputs), device=hidden.device)
    for rows in range(0, len(inputs), ROWS):
        logits = (inputs[rows : rows + ROWS] @ projection.T).float()
        target = logits.gather(1, labels[rows : rows + ROWS, None])[:, 0]
        found[rows : rows + ROWS] = logits.logsumexp(1) - target
    return found


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        labels: torch.Tensor,
        dtype: torch.dtype,
        shares: torch.Tensor,
    ) -> torch.Tensor:
        projection = weight.to(dtype)
        inputs = hidden.to(dtype)
        training = hidden.requires_grad or weight.requires_grad
        loss = torch.zeros((), dtype=torch.float32, device=hidden.device)
        grad_hidden = torch.empty_like(inputs) if training else None
        grad_weight = torch.zeros_like(weight) if weight.requires_grad else None
        for rows in range(0, len(inputs), ROWS):
            part, target = inputs[rows : rows + ROWS], labels[rows : rows + ROWS, None]
            share = shares[rows : rows + ROWS, None]
            logits = (part @ projection.T).float()
            largest = logits.amax(1, keepdim=True)
            of_target = logits.gather(1, target)
            likely = logits.sub_(largest).exp_()
            total = likely.sum(1, keepdim=True)
            loss += ((total.log() + largest - of_target) * share).sum()
            if grad_hidden is not None:
                likely.div_(total).scatter_add_(1, target, likely.new_full((1, 1), -1.0).expand_as(target))
                slope = likely.mul_(share).to(dtype)
                torch.mm(slope, projection, out=grad_hidden[rows : rows + ROWS])
                if grad_weight is not None:
                    grad_weight += slope.T @ part
        if grad_hidden is not None:
            ctx.save_for_backward(grad_hidden.to(hidden.dtype), grad_weight)
        return loss

    @staticmethod
    def backward(ctx: Any, grad_loss: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        grad_hidden, grad_weight = ctx.saved_tensors
        return grad_hidden * grad_loss, None if grad_weight is None else grad_weight * grad_loss, None, None, None
