"""Noise in the texts that a head learns from, so that it does not learn single words by heart."""

from __future__ import annotations

import torch
from torch import Tensor


def with_noise(input_ids: Tensor, attention_mask: Tensor, share: float) -> Tensor:
    """Return texts of which this share of the tokens is replaced by others of the batch, padding aside.

    `input_ids` and `attention_mask` are `[batch, length]`. Drawn from the batch, tokens come by their frequency: the
    unigram noising of Xie et al. (2017), Data noising as smoothing in neural network language models, section 3.2.
    """
    real = attention_mask != 0
    tokens = input_ids[real]
    drawn = tokens[torch.randint(len(tokens), (len(tokens),), device=tokens.device)]
    replaced = torch.rand(len(tokens), device=tokens.device) < share
    return input_ids.masked_scatter(real, torch.where(replaced, drawn, tokens))
