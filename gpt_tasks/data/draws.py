"""Draw rows at random so that each label keeps its share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gpt_tasks.errors import UsageError

SHARE = 0.1
LARGEST = 10_000


def stratified_split(
    keys: np.ndarray, labels: np.ndarray, wanted: Sequence[str], rng: np.random.Generator
) -> tuple[dict[str, np.ndarray], int]:
    """Split rows into train and the `wanted` splits; rows of equal key stay together, in order.

    `keys` and `labels` are `[rows]`. A wanted split gets a tenth of each label's texts, of at most `LARGEST` texts in
    all: one at least, none of a label that has too few to leave one in each split. Returns the row indices of each
    split, and how many rows repeat the key of an earlier one.
    """
    firsts, groups = _grouped(keys)
    share = min(SHARE, LARGEST / len(firsts))
    homes = np.zeros(len(firsts), dtype=np.int8)
    group_labels = labels[firsts]
    for label in np.unique(group_labels):
        members = np.flatnonzero(group_labels == label)
        if len(members) <= len(wanted):
            continue
        size = max(1, round(len(members) * share))
        # In the order of the file, so that the draw does not depend on the hash.
        members = rng.permutation(members[np.argsort(firsts[members])])
        for number, start in enumerate(range(0, size * len(wanted), size), start=1):
            homes[members[start : start + size]] = number
    by_row = homes[groups]
    drawn = {split: np.flatnonzero(by_row == number) for number, split in enumerate(["train", *wanted])}
    return drawn, len(keys) - len(firsts)


def stratified_sample(labels: np.ndarray, size: int, rng: np.random.Generator, split: str = "train") -> np.ndarray:
    """Draw `size` of the rows `[rows]`, at least one of each label, and return their indices in order.

    Raises UsageError where `size` is smaller than the number of labels.
    """
    kinds, counts = np.unique(labels, return_counts=True)
    if size < len(kinds):
        flag = "--limit" if split == "train" else f"--limit-{split}"
        raise UsageError(
            f"{flag} {size}: {split} has {len(kinds)} labels, each of which needs a row",
            f"Give {flag} at least {len(kinds)}.",
        )
    quotas = counts * (size / len(labels))
    takes = np.maximum(1, np.floor(quotas)).astype(np.int64)
    while takes.sum() < size:
        takes[np.argmax(np.where(takes < counts, quotas - takes, -np.inf))] += 1
    while takes.sum() > size:
        takes[np.argmax(np.where(takes > 1, takes - quotas, -np.inf))] -= 1
    chosen = [
        rng.choice(np.flatnonzero(labels == kind), take, replace=False) for kind, take in zip(kinds, takes, strict=True)
    ]
    return np.sort(np.concatenate(chosen))


def _grouped(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first row of each group of equal keys, and each row's group; as np.unique in half its memory."""
    order = np.argsort(keys, kind="stable").astype(np.int32)
    ascending = keys[order]
    begins = np.concatenate([np.ones(1, dtype=bool), ascending[1:] != ascending[:-1]])
    groups = np.empty(len(keys), dtype=np.int32)
    groups[order] = np.cumsum(begins, dtype=np.int32) - 1
    return order[begins], groups
