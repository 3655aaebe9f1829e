"""Outputs of a model that are no numbers: refused before anything is answered."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor

from gpt_tasks.errors import ModelError


def require_finite(name: str, is_finite: bool) -> None:
    """Raise ModelError, which names the model, unless its outputs are finite."""
    if not is_finite:
        raise ModelError(
            f"{name}: the model's outputs are not finite numbers",
            "Its weights are damaged, or its training diverged: copy it again, or train it with a lower "
            "--learning-rate, or with --precision float32.",
        )


def check_logits(name: str, logits: Tensor) -> Tensor:
    """Return logits as they are. Raises ModelError where one is not finite: nor is their sum then."""
    require_finite(name, bool(torch.isfinite(logits.sum(dtype=torch.float32))))
    return logits


class FiniteLogits(LogitsProcessor):
    """Checks what transformers' `generate` chooses tokens from, of which some may be ruled out by then: at -inf."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Return the scores `[rows, vocabulary]` as they are."""
        require_finite(self._name, bool(torch.isfinite(scores.amax(dim=-1)).all()))
        return scores
