"""Run a model with a head over many encodings, in batches of like length, with memory that does not grow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import nn

from gpt_tasks.data.batches import TokenBudgetBatches, collate
from gpt_tasks.data.encoded import IGNORED
from gpt_tasks.files import is_out_of_memory

CHUNK = 4096

Feature = Mapping[str, Any]
"""The "sequences" of an example, and the "choices" that they are about where it has some; see `collate`."""


def head_logits(
    model: nn.Module,
    encodings: Iterable[Feature],
    *,
    batch_tokens: int,
    pad_token_id: int,
    precision: str,
) -> np.ndarray:
    """Return the head's logits `[n, outputs]` in float32, in the order of the examples' `encodings`.

    They are taken in chunks of 4,096, within which batches are formed from those of like length.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            found = [_chunk(model, chunk, batch_tokens, pad_token_id, device) for chunk in _chunks(encodings)]
    finally:
        model.train(was_training)
    return stacked(found) if found else np.empty((0, 0), dtype=np.float32)


def stacked(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Return rows `[n, outputs]` of parts one below the other; minus infinity fills up those of fewer outputs."""
    width = max(part.shape[1] for part in parts)
    return np.concatenate(
        [np.pad(part, ((0, 0), (0, width - part.shape[1])), constant_values=-np.inf) for part in parts]
    )


def _chunks(encodings: Iterable[Feature]) -> Iterator[list[Feature]]:
    iterator = iter(encodings)
    while chunk := list(islice(iterator, CHUNK)):
        yield chunk


def _chunk(
    model: nn.Module, chunk: list[Feature], batch_tokens: int, pad_token_id: int, device: torch.device
) -> np.ndarray:
    lengths = np.array([sum(map(len, feature["sequences"])) for feature in chunk], dtype=np.int32)
    places: list[int] = []
    found: list[np.ndarray] = []
    for indices in TokenBudgetBatches(lengths, batch_tokens=batch_tokens, seed=0, shuffle=False):
        batch = collate(
            [{**chunk[index], "goal": IGNORED} for index in indices],
            pad_token_id=pad_token_id,
            padding_side="right",
        )
        del batch["labels"]
        rows = _logits(model, {name: values.to(device) for name, values in batch.items()})
        found.append(rows.float().cpu().numpy())
        places += indices
    ordered = stacked(found)
    logits = np.empty_like(ordered)
    logits[places] = ordered
    return logits


def _logits(model: nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return the logits `[batch, outputs]`, computed in halves where memory does not hold the batch whole."""
    try:
        logits: torch.Tensor = model(**batch)["logits"]
        return logits
    except RuntimeError as error:
        if len(batch["input_ids"]) == 1 or not is_out_of_memory(error):
            raise
    halves = ({name: values.tensor_split(2)[half] for name, values in batch.items()} for half in range(2))
    return torch.from_numpy(stacked([_logits(model, half).float().cpu().numpy() for half in halves]))
