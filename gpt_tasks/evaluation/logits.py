"""Run a model with a head over many encodings, in batches of like length, with memory that does not grow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
import torch
from torch import nn

from gpt_tasks.data.batches import TokenBudgetBatches, collate
from gpt_tasks.files import is_out_of_memory

CHUNK = 4096


def head_logits(
    model: nn.Module,
    encodings: Iterable[Sequence[int]],
    *,
    batch_tokens: int,
    pad_token_id: int,
    precision: str,
) -> np.ndarray:
    """Return the head's logits `[n, outputs]` in float32, in the order of `encodings`.

    Encodings are taken in chunks of 4,096, within which batches are formed from those of like length.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            found = [_chunk(model, chunk, batch_tokens, pad_token_id, device) for chunk in _chunks(encodings)]
    finally:
        model.train(was_training)
    return np.concatenate(found) if found else np.empty((0, 0), dtype=np.float32)


def _chunks(encodings: Iterable[Sequence[int]]) -> Iterator[list[Sequence[int]]]:
    iterator = iter(encodings)
    while chunk := list(islice(iterator, CHUNK)):
        yield chunk


def _chunk(
    model: nn.Module, chunk: list[Sequence[int]], batch_tokens: int, pad_token_id: int, device: torch.device
) -> np.ndarray:
    lengths = np.array([len(ids) for ids in chunk], dtype=np.int32)
    logits: np.ndarray | None = None
    for indices in TokenBudgetBatches(lengths, batch_tokens=batch_tokens, seed=0, shuffle=False):
        batch = collate(
            [{"input_ids": chunk[index], "labels": -100} for index in indices],
            pad_token_id=pad_token_id,
            padding_side="right",
        )
        rows = _logits(model, batch["input_ids"].to(device), batch["attention_mask"].to(device)).float().cpu().numpy()
        if logits is None:
            logits = np.empty((len(chunk), rows.shape[1]), dtype=np.float32)
        logits[indices] = rows
    assert logits is not None
    return logits


def _logits(model: nn.Module, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """Return the logits `[batch, outputs]`, computed in halves where memory does not hold the batch whole."""
    try:
        logits: torch.Tensor = model(input_ids, attention_mask)["logits"]
        return logits
    except RuntimeError as error:
        if len(input_ids) == 1 or not is_out_of_memory(error):
            raise
    halves = zip(input_ids.tensor_split(2), attention_mask.tensor_split(2), strict=True)
    return torch.cat([_logits(model, ids, mask) for ids, mask in halves])
