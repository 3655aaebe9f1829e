"""How the tokens of a batch lie in its rows, and causal attention over them."""

from __future__ import annotations

import torch
from torch import Tensor

from gpt_tasks.backbone.speed.dropout import drop


class Spread:
    """How the tokens `[n]` of a batch lie in its rows, which are padded on the right to the longest.

    `slots` `[n]` are the tokens' places in `[batch * width]`, `lengths` `[batch]` the tokens of each row.
    """

    def __init__(self, slots: Tensor, lengths: Tensor, width: int) -> None:
        self.slots, self.batch, self.width = slots, len(lengths), width
        # For a row without tokens, any position will do: the head decides how to handle it.
        self.last_places = (lengths - 1).clamp(min=0)
        self.last_tokens = (lengths.cumsum(dim=0) - 1).clamp(min=0)
        self.full = len(slots) == self.batch * width
        # Padding repeats the first token: any finite number will do where nothing attends.
        self.tokens = slots.new_zeros(self.batch * width)
        self.tokens[slots] = torch.arange(len(slots))

    def out(self, tokens: Tensor) -> Tensor:
        """`[n, features]` -> `[batch, width, features]`."""
        return (tokens if self.full else tokens.index_select(0, self.tokens)).view(self.batch, self.width, -1)

    def back(self, rows: Tensor) -> Tensor:
        """`[batch, width, features]` -> `[n, features]`."""
        rows = rows.flatten(0, 1)
        return rows if self.full else rows.index_select(0, self.slots)


def attend(
    query: Tensor, key: Tensor, value: Tensor, spread: Spread, *, scaling: float, dropout: float, last: bool
) -> Tensor:
    """Return causal attention `[n, heads * head_dim]`, or with `last` that of each row's last token, `[batch, ...]`.

    The query is `[n, heads, head_dim]`, keys and values `[n, key_heads, head_dim]`: each of their heads is asked by as
    many heads of the query, one after the other.
    """
    heads, shared, size = query.shape[1], key.shape[1], query.shape[2]
    # [batch, shared, width, size]
    key, value = (spread.out(each.flatten(1)).unflatten(-1, (shared, size)).transpose(1, 2) for each in (key, value))
    places = torch.arange(spread.width)
    if last:
        asking = spread.last_places[:, None]
        query = query.index_select(0, spread.last_tokens)
        asked = query.unflatten(1, (shared, heads // shared))
    else:
        asking = places[None]
        asked = spread.out(query.flatten(1)).unflatten(-1, (shared, heads // shared, size)).permute(0, 2, 3, 1, 4)
        asked = asked.flatten(2, 3)
    # [batch, shared, heads / shared * asking, size]: heads that share keys ask in one product.
    # Plain products: on short texts the fused kernel for CPUs takes several times as long, and it has no dropout.
    scores = (asked @ key.transpose(-1, -2)).float().unflatten(2, (heads // shared, -1)) * scaling
    hidden = places > asking.unsqueeze(-1)
    weights = scores.masked_fill(hidden[:, None, None], float("-inf")).softmax(dim=-1).to(value.dtype)
    attended = drop(weights, dropout).flatten(2, 3) @ value
    attended = attended.unflatten(2, (heads // shared, -1)).permute(0, 3, 1, 2, 4).flatten(2)
    return attended.squeeze(1) if last else spread.back(attended)
