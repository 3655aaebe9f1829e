"""Heads for a whole text: one row of logits, read off its last token, or off that and the mean of all."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from gpt_tasks.errors import DataError

DROPOUT = 0.1
_INITIAL_SCALE = 0.02


class LinearHead(nn.Module, ABC):
    """Dropout and a linear layer on `features` of a text, which a subclass defines.

    The backbone's last hidden state has passed its final normalisation, so the head needs none.
    """

    reads_last_token_only = False

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__()
        self.dropout = nn.Dropout(DROPOUT)
        self.linear = nn.Linear(features, outputs)
        nn.init.normal_(self.linear.weight, std=_INITIAL_SCALE)
        nn.init.zeros_(self.linear.bias)

    @abstractmethod
    def features(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        """Return features `[batch, features]` for hidden states `[batch, length, hidden]`."""

    def forward(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        """Return logits `[batch, outputs]` for hidden states `[batch, length, hidden]`."""
        logits: Tensor = self.linear(self.dropout(self.features(hidden, attention_mask)))
        return logits


class SequenceHead(LinearHead):
    """Reads the last token's hidden state, which training makes a summary of the whole text."""

    reads_last_token_only = True

    def features(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the last token's hidden state, `[batch, hidden]`."""
        return pool_last(hidden, attention_mask)


class PooledHead(LinearHead):
    """Reads the last token's hidden state and the mean of all: a frozen backbone has no reason
    to gather the text in its last token.
    """

    def __init__(self, hidden_size: int, outputs: int) -> None:
        super().__init__(2 * hidden_size, outputs)

    def features(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the last token's hidden state and the mean of all, `[batch, 2 * hidden]`."""
        return torch.cat([pool_last(hidden, attention_mask), pool_mean(hidden, attention_mask)], dim=-1)


class Features(nn.Module):
    """A linear head's features in place of its logits, for methods that compute them once."""

    def __init__(self, head: LinearHead) -> None:
        super().__init__()
        self.head = head
        self.reads_last_token_only = head.reads_last_token_only

    def forward(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        """Return features `[batch, features]` for hidden states `[batch, length, hidden]`."""
        return self.head.features(hidden, attention_mask)


def pool_last(hidden: Tensor, attention_mask: Tensor) -> Tensor:
    """Return the hidden state at the last unmasked position: `[batch, length, hidden]` -> `[batch, hidden]`.

    By the mask alone, on either padding side; the token ids play no part. Raises DataError for a row without
    any token.
    """
    kept = attention_mask != 0
    empty = (~kept.any(dim=-1)).nonzero()
    if len(empty):
        raise DataError(
            f"Example {int(empty[0])} of the batch has no tokens",
            "Leave out texts that the tokenizer turns into nothing.",
        )
    positions = torch.arange(attention_mask.shape[-1], device=attention_mask.device)
    last = (positions * kept).argmax(dim=-1)
    return hidden[torch.arange(len(hidden), device=hidden.device), last]


def pool_mean(hidden: Tensor, attention_mask: Tensor) -> Tensor:
    """Return the mean hidden state of the unmasked positions: `[batch, length, hidden]` -> `[batch, hidden]`."""
    kept = (attention_mask != 0).unsqueeze(-1)
    total = hidden.masked_fill(~kept, 0).sum(dim=1, dtype=torch.float32)
    return (total / kept.sum(dim=1)).to(hidden.dtype)
