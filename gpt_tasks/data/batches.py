"""Cut examples into batches of like length by token budget, in an order that seed and epoch alone decide."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import Sampler


class TokenBudgetBatches(Sampler[list[int]]):
    """A batch sampler: lists of indices whose padded batch holds at most `batch_tokens` tokens.

    Examples are sorted by length and cut where the longest length times the number of examples would pass the
    budget; an example longer than that makes a batch of its own. With `shuffle` examples of equal length change
    places in every epoch and the batches come in random order, else the longest come first. As only lengths decide
    where to cut, every epoch has the same number of batches.

    Process `rank` of `world_size` takes every `world_size`-th batch of one common order. Where the last round lacks
    batches, it is filled up with `[~i]`: an example that stands for no more than its shape, as its label is ignored
    (see EncodedExamples).
    """

    def __init__(
        self,
        lengths: np.ndarray | Sequence[int],
        *,
        batch_tokens: int,
        seed: int,
        shuffle: bool,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        lengths = np.asarray(lengths)
        self.seed = seed
        self.shuffle = shuffle
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self._by_length = np.argsort(lengths, kind="stable").astype(np.int32)
        ascending = lengths[self._by_length]
        self._ties = np.flatnonzero(np.diff(ascending)) + 1
        self._cuts = _cuts(ascending, batch_tokens)

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch the next pass is."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Return the number of batches of one whole pass of this process."""
        return math.ceil((len(self._cuts) - 1) / self.world_size)

    def __iter__(self) -> Iterator[list[int]]:
        rng = np.random.default_rng([self.seed, self.epoch])
        order, batches = self._order(rng), self._batches(rng)
        for number in range(self.rank, len(self) * self.world_size, self.world_size):
            if number < len(batches):
                batch = batches[number]
                yield order[self._cuts[batch] : self._cuts[batch + 1]].tolist()
            else:
                yield [~int(order[0])]

    def _order(self, rng: np.random.Generator) -> np.ndarray:
        """Return the examples `[n]` by length, those of equal length in an order of this epoch's own."""
        if not self.shuffle:
            return self._by_length
        order = self._by_length.copy()
        for ties in np.split(order, self._ties):
            rng.shuffle(ties)
        return order

    def _batches(self, rng: np.random.Generator) -> np.ndarray:
        count = len(self._cuts) - 1
        return rng.permutation(count) if self.shuffle else np.arange(count)[::-1]


def collate(
    features: Sequence[Mapping[str, Any]], *, pad_token_id: int, padding_side: Literal["right", "left"]
) -> dict[str, torch.Tensor]:
    """Pad examples to the longest: input_ids and attention_mask `[batch, length]`, int64.

    A feature is {"input_ids", "labels"}, and then labels are those of tokens, `[batch, length]`, -100 where there is
    none; or it is {"sequences", "goal"}, and labels are the goals, `[batch]` or `[batch, outputs]`. Where an example
    has several sequences, ids and mask are `[batch, sequences, length]`; the mask of those that one lacks is 0. With
    "choices", which say of each sequence by its place which choice it is about, there are `choices`
    `[batch, sequences]` too.
    """
    rows = [feature["sequences"] if "goal" in feature else [feature["input_ids"]] for feature in features]
    shape = (len(rows), max(map(len, rows)), max(len(ids) for row in rows for ids in row))
    input_ids, attention_mask = np.full(shape, pad_token_id, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    of_tokens = np.full(shape, -100, dtype=np.int64)
    for number, row in enumerate(rows):
        for place, ids in enumerate(row):
            at = slice(0, len(ids)) if padding_side == "right" else slice(shape[-1] - len(ids), shape[-1])
            input_ids[number, place, at] = ids
            attention_mask[number, place, at] = 1
            if "goal" not in features[number]:
                of_tokens[number, place, at] = features[number]["labels"]
    goals = np.stack([feature["goal"] for feature in features]) if "goal" in features[0] else None
    if shape[1] == 1:
        input_ids, attention_mask, of_tokens = input_ids[:, 0], attention_mask[:, 0], of_tokens[:, 0]
    choices = np.zeros(shape[:2], dtype=np.int64)
    for number, feature in enumerate(features):
        about = feature.get("choices", ())
        choices[number, : len(about)] = about
    return {
        "input_ids": torch.from_numpy(input_ids),
        "attention_mask": torch.from_numpy(attention_mask),
        "labels": torch.from_numpy(of_tokens if goals is None else goals),
        **({"choices": torch.from_numpy(choices)} if choices.any() else {}),
    }


def _cuts(lengths: np.ndarray, batch_tokens: int) -> list[int]:
    """Return where ascending lengths are cut into batches: their bounds, from 0 to the number of lengths."""
    cuts = [0]
    while cuts[-1] < len(lengths):
        begin = cuts[-1]
        # The shortest length bounds how many can fit at all.
        window = lengths[begin : begin + max(1, batch_tokens // max(1, int(lengths[begin])))]
        padded = window.astype(np.int64) * np.arange(1, len(window) + 1)
        cuts.append(begin + max(1, int(np.searchsorted(padded, batch_tokens, side="right"))))
    return cuts
