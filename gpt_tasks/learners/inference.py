"""Run a model over features, in batches of like length, with memory that does not grow: no training, no labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gpt_tasks.backbone.finite import require_finite
from gpt_tasks.backbone.isolation import evaluating
from gpt_tasks.data.batches import TokenBudgetBatches, collate
from gpt_tasks.files import is_out_of_memory
from gpt_tasks.progress import advance
from gpt_tasks.types import Features

Reduce = Callable[[Mapping[str, Tensor], Any], Sequence[np.ndarray]]
"""From a batch and what was computed of it to what is left of each example, as arrays of any shape."""


def forward(
    model: nn.Module,
    features: Sequence[Features],
    *,
    batch_tokens: int,
    pad_token_id: int,
    precision: str,
    compute: Callable[[Mapping[str, Tensor]], Any],
    reduce: Reduce,
    with_labels: bool = False,
    name: str = "The model",
) -> list[np.ndarray]:
    """Return for each of `features`, in their order, what `reduce` leaves of a forward pass in evaluation mode.

    `compute(batch)` runs the model. Batches hold at most `batch_tokens` tokens, padding included;
    one that memory does not hold is computed in halves. Raises ModelError, which names the model by its `name`, where
    something of what is left is not a finite number.
    """
    device = next(model.parameters()).device
    found: list[np.ndarray] = [np.zeros(0)] * len(features)
    lengths = np.array([len(each) for each in features], dtype=np.int32)
    with evaluating(model):
        for rows in TokenBudgetBatches(lengths, batch_tokens=batch_tokens, seed=0, shuffle=False):
            some = [features[row] for row in rows]
            if not with_labels:
                some = [replace(each, labels=None, token_labels=None) for each in some]
            batch = {name: tensor.to(device) for name, tensor in collate(some, pad_token_id=pad_token_id).items()}
            # Entered for each batch, so that it does not apply to a caller's loop.
            with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                for row, array in zip(rows, _computed(batch, compute, reduce), strict=True):
                    require_finite(name, array.dtype.kind != "f" or bool(np.isfinite(array).all()))
                    found[row] = array
            advance(len(rows))
    return found


def rows_of(batch: Mapping[str, Tensor], logits: Tensor) -> list[np.ndarray]:
    """Reduce to each example's row of logits in float32; of choices, to those of the example's own."""
    rows: list[np.ndarray] = list(logits.float().cpu().numpy())
    if "choices" not in batch:
        return rows
    counts = (batch["choices"].amax(dim=1) + 1).tolist()
    return [row[:count] for row, count in zip(rows, counts, strict=True)]


def tokens_of(batch: Mapping[str, Tensor], logits: Tensor) -> list[np.ndarray]:
    """Reduce logits `[batch, (sequences,) length, outputs]` to those of each example's tokens, without padding."""
    values, masks = logits.float().cpu().numpy(), batch["attention_mask"].cpu().numpy().astype(bool)
    return [row[mask] for row, mask in zip(values, masks, strict=True)]


def numbers_of(batch: Mapping[str, Tensor], values: Tensor) -> list[np.ndarray]:
    """Reduce to a number of each example."""
    return list(values.cpu().numpy())


def _computed(
    batch: Mapping[str, Tensor], compute: Callable[[Mapping[str, Tensor]], Any], reduce: Reduce
) -> list[np.ndarray]:
    """Compute and reduce a batch, in halves where memory does not hold it whole."""
    try:
        return list(reduce(batch, compute(batch)))
    except RuntimeError as error:
        if len(batch["input_ids"]) == 1 or not is_out_of_memory(error):
            raise
    halves = ({name: tensor.tensor_split(2)[half] for name, tensor in batch.items()} for half in range(2))
    return [array for half in halves for array in _computed(half, compute, reduce)]
