"""Plan how to forward many token paths with every shared token computed once, or nearly; without torch.

Sorted, the paths are a prefix trie: what a path shares with the one before it (`shared`) is already there. Consecutive
paths make a *row*, the tokens of their part of the trie one after another; where many rows begin alike, the common
beginning is forwarded separately and cached (`Extend`), and the rows under it (`Pack`) attend to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

# A separate forward pass costs about as much as this many more tokens in another pass.
PASS_TOKENS = 32


@dataclass(frozen=True, slots=True)
class Row:
    """The paths `first` to `last` (half-open), forwarded together: `tokens` that are not in the `cached` first ones."""

    first: int
    last: int
    cached: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Extend:
    """Forward the tokens from `start` to `end` that the paths `first` to `last` share, and cache them."""

    first: int
    last: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Pack:
    """Forward rows together, all over the same cached beginning."""

    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Drop:
    """Drop the cache of the last `Extend` that is still live: no path needs it any more."""


Step = Extend | Pack | Drop


class Trie:
    """Paths of tokens in sorted order; `order[i]` is the place of the i-th path among the given ones."""

    def __init__(self, paths: Sequence[tuple[int, ...]]) -> None:
        self.order = sorted(range(len(paths)), key=paths.__getitem__)
        self.paths = [paths[place] for place in self.order]
        self.lengths = np.array([len(path) for path in self.paths], dtype=np.int64)
        pairs = zip(self.paths, self.paths[1:], strict=False)
        self.shared = np.array([0, *(_common(before, path) for before, path in pairs)][: len(paths)], dtype=np.int64)
        self._new = np.concatenate([[0], np.cumsum(self.lengths - self.shared)])

    @property
    def distinct_tokens(self) -> int:
        """How many tokens have to be forwarded at least."""
        return int(self._new[-1])

    def size(self, first: int, last: int, cached: int) -> int:
        """The tokens of the paths `first` to `last` beyond the `cached` ones that all of them begin with."""
        return int(self.lengths[first] - cached + self._new[last] - self._new[first + 1])

    def common(self, first: int, last: int) -> int:
        """How many tokens the paths `first` to `last` all begin with."""
        return int(self.shared[first + 1 : last].min() if last - first > 1 else self.lengths[first])

    def share(self, part: int, parts: int) -> range:
        """Return the paths of the `part`-th of `parts` parts with about equally many distinct tokens.

        Together the parts are all paths; what two of them share is forwarded in both.
        """
        borders = np.searchsorted(self._new[1:], self.distinct_tokens * np.arange(1, parts) / parts).tolist()
        ends = [0, *borders, len(self.paths)]
        return range(ends[part], ends[part + 1])

    def plan(self, row_tokens: int, batch_tokens: int, first: int = 0, last: int | None = None) -> Iterator[Step]:
        """Yield the steps that forward the paths `first` to `last`, each of them once.

        Rows are about `row_tokens` long, longer only where a single path is; a pack is at most `batch_tokens`, padding
        included, or one row.
        """
        last = len(self.paths) if last is None else last
        todo: list[Extend | Drop] = [Extend(first, last, 0, 0)] if first < last else []
        while todo:
            step = todo.pop()
            if isinstance(step, Drop) or step.end:
                yield step
            if isinstance(step, Extend):
                rows, extends = self._rows(step.first, step.last, step.end, row_tokens)
                yield from _packs(rows, batch_tokens)
                for extend in reversed(extends):
                    todo += [Drop(), extend]

    def _rows(self, first: int, last: int, cached: int, row_tokens: int) -> tuple[list[Row], list[Extend]]:
        """Cut the paths into rows over the cached tokens, and into parts that are worth a longer cache."""
        rows, extends = [], []
        todo = [(first, last)]
        while todo:
            first, last = todo.pop()
            size, common = self.size(first, last, cached), self.common(first, last)
            own = common - cached
            more_rows = (size - own - 1) // row_tokens  # than one, if what they all begin with were cached
            if size <= row_tokens or more_rows <= 0:
                rows.append(Row(first, last, cached, size))
                continue
            if own * more_rows > PASS_TOKENS:
                extends.append(Extend(first, last, cached, common))
                continue
            begin = first
            starts = (np.flatnonzero(self.shared[first + 1 : last] == common) + first + 1).tolist()
            for start, end in zip([first, *starts], [*starts, last], strict=True):
                if self.size(begin, end, cached) <= row_tokens:
                    continue
                if begin < start:
                    rows.append(Row(begin, start, cached, self.size(begin, start, cached)))
                begin = start
                if self.size(start, end, cached) > row_tokens:
                    todo.append((start, end))
                    begin = end
            if begin < last:
                rows.append(Row(begin, last, cached, self.size(begin, last, cached)))
        return [row for row in rows if row.tokens], extends


@dataclass(frozen=True, slots=True)
class Layout:
    """A row's tokens one after another, each with its depth in its path.

    Token `j` is seen by the tokens `j <= i < ends[j]`: itself and what follows it in the trie. `places[k]` are the
    tokens of the row's `k`-th path, from depth `cached` on.
    """

    tokens: list[int]
    depths: list[int]
    ends: list[int]
    places: list[tuple[int, ...]]


def lay_out(trie: Trie, row: Row) -> Layout:
    """Lay out a row in the order of a depth-first walk."""
    tokens: list[int] = []
    depths: list[int] = []
    ends: list[int] = []
    places: list[tuple[int, ...]] = []
    path_places: list[int] = []
    for index in range(row.first, row.last):
        path = trie.paths[index]
        kept = 0 if index == row.first else int(trie.shared[index]) - row.cached
        for place in path_places[kept:]:
            ends[place] = len(tokens)
        del path_places[kept:]
        for depth in range(row.cached + kept, len(path)):
            path_places.append(len(tokens))
            tokens.append(path[depth])
            depths.append(depth)
            ends.append(0)
        places.append(tuple(path_places))
    for place in path_places:
        ends[place] = len(tokens)
    return Layout(tokens, depths, ends, places)


def _packs(rows: list[Row], batch_tokens: int) -> Iterator[Pack]:
    """Batch rows of like length, the longest first."""
    pack: list[Row] = []
    for row in sorted(rows, key=lambda row: (-row.tokens, row.first)):
        if pack and pack[0].tokens * (len(pack) + 1) > batch_tokens:
            yield Pack(tuple(pack))
            pack = []
        pack.append(row)
    if pack:
        yield Pack(tuple(pack))


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """The length of the common beginning."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if a[low:middle] == b[low:middle] else (low, middle - 1)
    return low
