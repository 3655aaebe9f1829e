"""How likely a language model finds the tokens that it is to foretell, in batches of encodings of like length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from gpt_tasks.data.batches import TokenBudgetBatches, collate
from gpt_tasks.heads.language_model import LanguageModel


def learned_nats(
    model: LanguageModel,
    encodings: Sequence[Mapping[str, Any]],
    *,
    batch_tokens: int,
    pad_token_id: int,
    precision: str,
) -> np.ndarray:
    """Return the cross-entropies in nats, `[n]`, each the sum over the labels that are not ignored.

    An encoding is {"input_ids", "labels"}, both `[length]`.
    """
    found = np.zeros(len(encodings))
    device = next(model.parameters()).device
    lengths = [len(each["input_ids"]) for each in encodings]
    was_training = model.training
    model.eval()
    try:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            for indices in TokenBudgetBatches(lengths, batch_tokens=batch_tokens, seed=0, shuffle=False):
                features = [dict(encodings[index]) for index in indices]
                batch = collate(features, pad_token_id=pad_token_id, padding_side="right")
                moved = {name: value.to(device) for name, value in batch.items()}
                found[indices] = model.nats(**moved).cpu().numpy()
    finally:
        model.train(was_training)
    return found
