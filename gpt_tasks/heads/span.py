"""The head for a span of a text: for every token, how likely it begins or ends the answer."""

from __future__ import annotations

import math

from torch import Tensor, nn

from gpt_tasks.heads.sequence import DROPOUT

_INITIAL_SCALE = 0.02


class SpanHead(nn.Module):
    """Dropout and a linear layer on every token's hidden state."""

    def __init__(self, hidden_size: int, outputs: int = 2) -> None:
        super().__init__()
        self.dropout = nn.Dropout(DROPOUT)
        self.linear = nn.Linear(hidden_size, outputs)
        nn.init.normal_(self.linear.weight, std=_INITIAL_SCALE)
        nn.init.zeros_(self.linear.bias)

    def forward(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        """Return logits of start and end `[batch, length, 2]`, minus infinity at padding, for hidden states
        `[batch, length, hidden]`.
        """
        logits: Tensor = self.linear(self.dropout(hidden))
        return logits.masked_fill((attention_mask == 0)[..., None], -math.inf)


class TokenFeatures(nn.Module):
    """What a span head reads of every token in place of its logits, for methods that compute it once."""

    def forward(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the hidden states `[batch, length, hidden]`."""
        return hidden
