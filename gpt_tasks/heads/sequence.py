"""The sequence head: one row of logits for a whole text, read off its last token."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gpt_tasks.errors import DataError

DROPOUT = 0.1
_INITIAL_SCALE = 0.02


class SequenceHead(nn.Module):
    """Dropout and a linear layer on the last token's hidden state.

    The backbone's last hidden state has passed its final normalisation, so that the head needs none.
    """

    reads_last_token_only = True

    def __init__(self, hidden_size: int, outputs: int) -> None:
        super().__init__()
        self.dropout = nn.Dropout(DROPOUT)
        self.linear = nn.Linear(hidden_size, outputs)
        nn.init.normal_(self.linear.weight, std=_INITIAL_SCALE)
        nn.init.zeros_(self.linear.bias)

    def forward(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        """Return logits `[batch, outputs]` for hidden states `[batch, length, hidden]`."""
        logits: Tensor = self.linear(self.dropout(pool_last(hidden, attention_mask)))
        return logits


class LastToken(nn.Module):
    """A head without weights: it returns the last token's hidden state, for methods that compute features once."""

    reads_last_token_only = True

    def forward(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        """Return features `[batch, hidden]` for hidden states `[batch, length, hidden]`."""
        return pool_last(hidden, attention_mask)


def pool_last(hidden: Tensor, attention_mask: Tensor) -> Tensor:
    """Return the hidden state at the last position that the mask keeps: `[batch, length, hidden]` -> `[batch, hidden]`.

    By the mask alone, on either padding side; what the tokens are plays no part. Raises DataError for a row without
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
