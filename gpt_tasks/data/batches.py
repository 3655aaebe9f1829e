"""Cut examples into batches, by token budget or number, in an order that seed and epoch alone decide."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from torch.utils.data import Sampler

from gpt_tasks.types import Features


class TokenBudgetBatches(Sampler[list[int]]):
    """A batch sampler: lists of indices whose padded batch holds at most `batch_tokens` tokens.

    With `examples` a batch holds that many examples of any length, or one fewer where they do not divide evenly; which
    ones are together is drawn anew in every epoch.

    Examples are sorted by length and cut where the longest length times the number of examples would pass the
    budget; an example longer than that forms a separate batch. With `shuffle` examples of equal length change
    places in every epoch and the batches come in random order, else the longest come first. As only lengths decide
    where to cut, every epoch has the same number of batches.

    Process `rank` of `world_size` takes every `world_size`-th batch of one common order. Where the last round lacks
    batches, it is filled up with `[~i]`: an example that only serves for its shape, as its label is ignored
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
        examples: int | None = None,
    ) -> None:
        # By number, all are of one length: any can be with any other.
        lengths = np.asarray(lengths) if examples is None else np.ones(len(lengths), dtype=np.int32)
        self.seed = seed
        self.shuffle = shuffle
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self._by_length = np.argsort(lengths, kind="stable").astype(np.int32)
        ascending = lengths[self._by_length]
        self._ties = np.flatnonzero(np.diff(ascending)) + 1
        self._cuts = _cuts(ascending, batch_tokens) if examples is None else _even_cuts(len(lengths), examples)

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
        """Return the examples `[n]` by length, those of equal length in this epoch's order."""
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
    features: Sequence[Features], *, pad_token_id: int, padding_side: Literal["right", "left"] = "right"
) -> dict[str, torch.Tensor]:
    """Pad examples to the longest: `input_ids` and `attention_mask` `[batch, length]`, int64.

    Where an example has several sequences they are `[batch, sequences, length]`; the mask of those that one lacks is 0.
    `labels` are those of examples, `[batch, ...]`, or of tokens, in the shape of `input_ids` and -100 at padding; there
    are none where the features have none. With `choices` there are `choices` `[batch, sequences]`, which say of each
    sequence by its place which choice it is about, with `values` there are `values` `[batch, k]`, float32.
    """
    rows = [feature.sequences for feature in features]
    shape = (len(rows), max(map(len, rows)), max(len(ids) for row in rows for ids in row))
    input_ids, attention_mask = np.full(shape, pad_token_id, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    of_tokens = None
    if features[0].token_labels is not None:
        kind = np.float32 if np.asarray(features[0].token_labels).dtype.kind == "f" else np.int64
        of_tokens = np.full(shape, -100, dtype=kind)
    for number, feature in enumerate(features):
        start = 0
        for place, ids in enumerate(feature.sequences):
            at = slice(0, len(ids)) if padding_side == "right" else slice(shape[-1] - len(ids), shape[-1])
            input_ids[number, place, at] = ids
            attention_mask[number, place, at] = 1
            if of_tokens is not None and feature.token_labels is not None:
                of_tokens[number, place, at] = feature.token_labels[start : start + len(ids)]
            start += len(ids)
    labels = of_tokens
    if labels is None and features[0].labels is not None:
        labels = np.stack([feature.labels for feature in features])
    if shape[1] == 1:
        input_ids, attention_mask = input_ids[:, 0], attention_mask[:, 0]
        labels = labels[:, 0] if of_tokens is not None and labels is not None else labels
    choices = np.zeros(shape[:2], dtype=np.int64)
    for number, feature in enumerate(features):
        choices[number, : len(feature.choices)] = feature.choices
    values = [feature.values for feature in features] if len(features[0].values) else None
    return {
        "input_ids": torch.from_numpy(input_ids),
        "attention_mask": torch.from_numpy(attention_mask),
        **({} if labels is None else {"labels": torch.from_numpy(labels)}),
        **({"choices": torch.from_numpy(choices)} if choices.any() else {}),
        **({} if values is None else {"values": torch.from_numpy(np.array(values, dtype=np.float32))}),
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


def _even_cuts(examples: int, size: int) -> list[int]:
    """Return the bounds of batches of nearly equal size, none larger than `size`."""
    batches = max(1, math.ceil(examples / size))
    return [number * examples // batches for number in range(batches + 1)]
