"""Muon for the matrices in the blocks and AdamW for everything else, as one optimizer that the Trainer can drive."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim.adamw import adamw

# The quintic iteration of K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024.
QUINTIC = (3.4445, -4.7750, 2.0315)


def orthogonalize(matrices: torch.Tensor, steps: int = 5, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    """The nearest (about) orthogonal matrix of each of `matrices` [count, rows, columns], by Newton-Schulz iterations.

    Singular values end between about 0.7 and 1.2. Source: Jordan et al. 2024, as above.
    """
    a, b, c = QUINTIC
    x = matrices.to(dtype)
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class MuonAdamW(torch.optim.Optimizer):
    """Muon (Nesterov momentum, orthogonalized) where a group says `muon`, fused AdamW elsewhere.

    A Muon group's `blocks` says into how many equal parts along its longer side each matrix is cut before it is
    orthogonalized: 3 for a fused query-key-value projection. Weight decay is decoupled, in proportion to the rate.
    """

    def __init__(self, groups: Iterable[dict[str, Any]]) -> None:
        defaults = {
            "muon": False,
            "blocks": 1,
            "lr": 1e-3,
            "momentum": 0.95,
            "betas": (0.9, 0.95),
            "eps": 1e-8,
            "weight_decay": 0.0,
        }
        super().__init__(groups, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if parameters:
                (self._muon if group["muon"] else self._adamw)(group, parameters)
        return loss

    def _muon(self, group: dict[str, Any], parameters: list[nn.Parameter]) -> None:
        by_shape: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
        for parameter in parameters:
            by_shape[parameter.shape].append(parameter)
        for (rows, columns), alike in by_shape.items():
            updates = []
            for parameter in alike:
                assert parameter.grad is not None
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
                updates.append(parameter.grad.lerp(state["momentum"], group["momentum"]))
            side = 1 if columns >= rows else 0
            stacked = torch.stack(updates)
            parts = torch.cat(stacked.chunk(group["blocks"], dim=side + 1))
            directions = orthogonalize(parts, dtype=torch.bfloat16 if parts.device.type != "mps" else torch.float32)
            whole = torch.cat(directions.chunk(group["blocks"]), dim=side + 1)
            # A matrix that widens its input moves further, so that its output changes by the same size.
            rate = group["lr"] * max(1.0, parts.shape[-1] / parts.shape[-2]) ** 0.5
            for parameter, direction in zip(alike, whole, strict=True):
                parameter.mul_(1 - group["lr"] * group["weight_decay"]).add_(direction, alpha=-rate)

    def _adamw(self, group: dict[str, Any], parameters: list[nn.Parameter]) -> None:
        gradients, means, squares, steps = [], [], [], []
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
                state["exp_avg"] = torch.zeros_like(parameter)
                state["exp_avg_sq"] = torch.zeros_like(parameter)
            assert parameter.grad is not None
            gradients.append(parameter.grad)
            means.append(state["exp_avg"])
            squares.append(state["exp_avg_sq"])
            steps.append(state["step"])
        adamw(
            list(parameters),
            gradients,
            means,
            squares,
            [],
            steps,
            fused=True,
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )


def muon_groups(
    model: nn.Module, muon_learning_rate: float, learning_rate: float, weight_decay: float
) -> list[dict[str, Any]]:
    """Parameter groups of a causal language model: block matrices to Muon, embeddings, norms and biases to AdamW."""
    fused, matrices, others = [], [], []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if parameter.ndim != 2 or "wte" in name or "wpe" in name or "embed" in name or "lm_head" in name:
            others.append(parameter)
        elif name.endswith("c_attn.weight"):
            fused.append(parameter)
        else:
            matrices.append(parameter)
    muon = {"muon": True, "lr": muon_learning_rate, "weight_decay": weight_decay}
    return [
        {"params": fused, "blocks": 3, **muon},
        {"params": matrices, **muon},
        {"params": others, "lr": learning_rate},
    ]


def adamw_groups(model: nn.Module, learning_rate: float, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups for AdamW alone; norms and biases are not decayed."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "lr": learning_rate, "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "lr": learning_rate},
    ]
