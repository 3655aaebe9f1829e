"""The keys and values of a batch that is being written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from gpt_tasks.generation.linear_kernels import FEW_ROWS

# Columns are added so many at a time, and all are read: products of a part of them would copy it first.
_COLUMNS = 32


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
        self._shape, self._room = shape, -(-room // _COLUMNS) * _COLUMNS
        self.keys, self.values = (
            [torch.zeros(size, dtype=self._dtype(rows)) for _ in range(shape.layers)]
            for size in ((rows, shape.heads, shape.head_dim, 0), (rows, shape.heads, 0, shape.head_dim))
        )
        self.length = 0
        self.positions = torch.zeros(rows, dtype=torch.long)
        # The position of each column's token; -1 where there is none.
        self._places = torch.full((rows, 0), -1)
        # Added to scores: nothing attends to padding, or to columns that are not filled yet.
        self._bias = torch.full((rows, 1, 1, 0), float("-inf"))
        self._padded = False

    def extend(self, kept: Tensor) -> Tensor:
        """Add columns, `[rows, new]`, True where they hold a token; return the positions of the tokens, 0 for padding.

        Their keys and values are to be filled in.
        """
        new = kept.shape[1]
        end = self.length + new
        if end > self._places.shape[1]:
            self._grow(end)
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
        to all before it. For one column the scores are of all columns, filled or not.
        """
        if new == 1:
            if window is None or self.length <= window:
                return self._bias
            gone = self._places <= (self.positions - 1 - window)[:, None]
            return self._bias.masked_fill(gone[:, None, None], float("-inf"))
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

    def _grow(self, columns: int) -> None:
        """Make room for at least so many columns, an eighth more than these where that is needed at all."""
        columns = max(columns, min(self._room, -(-(columns + columns // 8) // _COLUMNS) * _COLUMNS))
        new = columns - self._places.shape[1]
        self.keys = [functional.pad(keys, (0, new)) for keys in self.keys]
        self.values = [functional.pad(values, (0, 0, 0, new)) for values in self.values]
        self._places = functional.pad(self._places, (0, new), value=-1)
        self._bias = functional.pad(self._bias, (0, new), value=float("-inf"))

    def _dtype(self, rows: int) -> torch.dtype:
        """Few rows are in float32, whose small products take half the time; of many, half the memory is read."""
        return torch.float32 if rows <= FEW_ROWS else self._shape.dtype
