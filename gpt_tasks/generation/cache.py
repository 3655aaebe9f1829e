"""The keys and values of a batch that is being written, in memory that is allocated at the start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gpt_tasks.generation.linear_kernels import FEW_ROWS

# Keys and values are read in so many columns at a time, so that the kernels see few sizes.
_COLUMNS = 16


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of what is cached: layers, heads of keys, features of a head; in which precision for many rows."""

    layers: int
    heads: int
    head_dim: int
    dtype: torch.dtype


class KVCache:
    """The keys and values of a batch, whose rows all end in the same column; padding is between columns.

    For each layer `keys` hold `[rows, heads, head_dim, columns]` and `values` `[rows, heads, columns, head_dim]`; the
    first `length` columns are filled. `positions` `[rows]` are those of the next tokens.
    """

    def __init__(self, shape: Shape, rows: int, room: int) -> None:
        columns = -(-room // _COLUMNS) * _COLUMNS
        sizes = (rows, shape.heads, shape.head_dim, columns), (rows, shape.heads, columns, shape.head_dim)
        self._shape = shape
        self.keys, self.values = (
            [torch.zeros(size, dtype=self._dtype(rows)) for _ in range(shape.layers)] for size in sizes
        )
        self.length = 0
        self.positions = torch.zeros(rows, dtype=torch.long)
        # The position of each column's token; -1 where there is none.
        self._places = torch.full((rows, columns), -1)
        # Added to scores: nothing attends to padding, or to columns that are not filled yet.
        self._bias = torch.full((rows, 1, 1, columns), float("-inf"))
        self._padded = False

    def extend(self, kept: Tensor) -> Tensor:
        """Add columns, `[rows, new]`, True where they hold a token; return the positions of the tokens, 0 for padding.

        Their keys and values are to be filled in.
        """
        new = kept.shape[1]
        end = self.length + new
        if new == 1:  # a step: each row has its token
            positions = self.positions[:, None]
            self.positions = self.positions + 1
            self._places[:, self.length : end] = positions
            self._bias[..., self.length] = 0
        else:
            self._padded = self._padded or not bool(kept.all())
            positions = self.positions[:, None] + kept.cumsum(dim=-1) - 1
            self.positions = self.positions + kept.sum(dim=-1)
            self._places[:, self.length : end] = positions.masked_fill(~kept, -1)
            self._bias[:, 0, 0, self.length : end].masked_fill_(kept, 0)
            positions = positions.clamp_(min=0)
        self.length = end
        return positions

    def visible(self, new: int, window: int | None) -> Tensor | None:
        """Return what is added to the scores of the last `new` columns, `[rows or 1, 1, new, columns]`.

        With a `window` each token attends to so many, itself among them. None where each column attends to itself and
        to all before it. For one column the scores are of some columns too many.
        """
        if new == 1:
            columns = -(-self.length // _COLUMNS) * _COLUMNS
            bias = self._bias[..., :columns]
            if window is None or self.length <= window:
                return bias
            gone = self._places[:, None, None, :columns] <= (self.positions - 1 - window)[:, None, None, None]
            return bias.masked_fill(gone, float("-inf"))
        if not self._padded and self.length == new and (window is None or new <= window):
            return None
        places = self._places[:, : self.length]
        asking = places[:, -new:, None]
        seen = (places[:, None] <= asking) & (places[:, None] >= 0)
        if window is not None:
            seen &= places[:, None] > asking - window
        # Padding attends to itself, so that its states are finite; they are not used.
        seen |= torch.eye(self.length, dtype=torch.bool)[-new:]
        return torch.zeros(seen.shape).masked_fill_(~seen, float("-inf")).unsqueeze(1)

    def keep(self, rows: Sequence[int]) -> None:
        """Continue with these rows; one may appear several times."""
        chosen = torch.tensor(rows)
        dtype = self._dtype(len(rows))
        self.keys = [keys[chosen].to(dtype) for keys in self.keys]
        self.values = [values[chosen].to(dtype) for values in self.values]
        self.positions, self._places, self._bias = (each[chosen] for each in (self.positions, self._places, self._bias))

    def _dtype(self, rows: int) -> torch.dtype:
        """Few rows are in float32, whose small products take half the time; of many, half the memory is read."""
        return torch.float32 if rows <= FEW_ROWS else self._shape.dtype
