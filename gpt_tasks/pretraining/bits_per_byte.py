"""Bits per byte: how well a causal language model predicts a held-out text, with any tokenizer."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from gpt_tasks.backbone.isolation import evaluating
from gpt_tasks.heads.lm import linear_cross_entropy
from gpt_tasks.pretraining.corpus import ValidationText
from gpt_tasks.pretraining.windows import collate_windows


@torch.no_grad()
def bits_per_byte(
    model: Any,
    text: ValidationText,
    *,
    stride: int,
    bf16: bool = False,
    share: tuple[int, int] = (0, 1),
    total: Callable[[float], float] = float,
) -> float:
    """How many bits the model needs for one byte of the text: nats of all its tokens / ln 2 / UTF-8 bytes.

    Every token is scored once, the end-of-text tokens too (they add bits and no bytes), given at most the model's
    context and, away from a document's beginning, at least `context - stride` tokens of it: a `stride` equal to the
    context means plain windows.
    `share` (rank, ranks) says which windows are scored here, `total` adds up what the ranks found.
    """
    context = model.config.n_positions
    targets = len(text) - 1
    starts = list(range(0, max(1, targets - context + stride), stride))[share[0] :: share[1]]
    device = model.device
    nats = 0.0
    with evaluating(model):
        for first in range(0, len(starts), 32):
            windows, scored = [], []
            for start in starts[first : first + 32]:
                window = np.full(context + 1, text.end_of_text)
                piece = text.tokens[start : start + context + 1]
                window[: len(piece)] = piece
                place = np.arange(context)
                windows.append(window)
                scored.append((place >= (context - stride if start else 0)) & (place < len(piece) - 1))
            batch = {name: tensor.to(device) for name, tensor in collate_windows(windows, text.end_of_text).items()}
            labels, keep = batch.pop("labels"), torch.from_numpy(np.stack(scored)).to(device)
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                hidden = model.base_model(**batch, use_cache=False).last_hidden_state
            weight = model.get_output_embeddings().weight.detach()
            dtype = torch.bfloat16 if bf16 else weight.dtype
            mean = linear_cross_entropy(hidden[keep], weight, labels[keep], dtype)
            nats += float(mean) * int(keep.sum())
    return total(nats) / math.log(2) / text.bytes
