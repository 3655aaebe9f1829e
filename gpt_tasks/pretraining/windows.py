"""A tokenized corpus as packed windows to train on, in an order that no resume and no number of processes changes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from gpt_tasks.pretraining.corpus import Shards


class PackedWindows(Dataset[np.ndarray]):
    """Windows of `context + 1` token ids (the last one is only a target), one after another through the shards."""

    def __init__(self, shards: Shards, context: int) -> None:
        self.context = context
        self._maps = [np.memmap(file, dtype=shards.dtype, mode="r") for file in shards.files]
        self._first = np.cumsum([0] + [max(len(tokens) - 1, 0) // context for tokens in self._maps])

    def __len__(self) -> int:
        return int(self._first[-1])

    def __getitem__(self, index: int) -> np.ndarray:
        shard = int(np.searchsorted(self._first, index, side="right")) - 1
        start = (index - int(self._first[shard])) * self.context
        return self._maps[shard][start : start + self.context + 1].astype(np.int64)


class WindowBatches(Sampler[list[int]]):
    """Batches of window numbers in an order that is a pure function of seed, epoch and position.

    Batch `i` of the epoch goes to rank `i % ranks`, so two ranks see what one rank sees with accumulation 2. The order
    is a keyed permutation (a Feistel network that walks cycles: Black and Rogaway 2002), which needs no memory.
    """

    def __init__(self, windows: int, batch_size: int, seed: int, rank: int = 0, ranks: int = 1) -> None:
        self.windows, self.batch_size, self.seed, self.rank, self.ranks = windows, batch_size, seed, rank, ranks
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Make the next iteration that of this epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.windows // (self.batch_size * self.ranks)

    def __iter__(self) -> Iterator[list[int]]:
        key = np.random.SeedSequence([self.seed, self.epoch]).generate_state(4, np.uint64)
        for batch in range(len(self)):
            first = (batch * self.ranks + self.rank) * self.batch_size
            yield permute(np.arange(first, first + self.batch_size, dtype=np.uint64), self.windows, key).tolist()


def permute(positions: np.ndarray, size: int, key: np.ndarray) -> np.ndarray:
    """Where each of `positions` (uint64, below `size`) goes under the permutation of `size` things that `key` picks."""
    half = np.uint64(max(1, ((size - 1).bit_length() + 1) // 2))
    mask = np.uint64((1 << int(half)) - 1)
    moved = positions.copy()
    outside = np.ones(len(moved), dtype=bool)
    while outside.any():
        left, right = moved[outside] >> half, moved[outside] & mask
        for subkey in key:
            mixed = (right + subkey) * np.uint64(0x9E3779B97F4A7C15)
            mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
            left, right = right, left ^ ((mixed >> np.uint64(32)) & mask)
        moved[outside] = (left << half) | right
        outside = moved >= size
    return moved


def collate_windows(windows: Sequence[np.ndarray], end_of_text: int) -> dict[str, torch.Tensor]:
    """Windows as a batch: input_ids and labels [batch, length], labels already shifted.

    Where a document begins inside a window, position_ids [batch, length] restart at it and attention_mask
    [batch, 1, length, length] (True where a query may look) keeps documents apart; other batches carry neither.
    """
    tokens = torch.from_numpy(np.stack(windows))
    inputs, labels = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
    batch = {"input_ids": inputs, "labels": labels}
    begins = inputs == end_of_text
    begins[:, 0] = False
    if begins.any():
        document = begins.cumsum(1)
        place = torch.arange(inputs.shape[1]).expand_as(inputs)
        batch["position_ids"] = place - torch.where(begins, place, 0).cummax(1).values
        same = document[:, None, :, None] == document[:, None, None, :]
        batch["attention_mask"] = same & torch.ones(inputs.shape[1], inputs.shape[1], dtype=torch.bool).tril()
    return batch
