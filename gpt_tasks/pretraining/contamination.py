"""How much of a held-out text is also in the training text."""

from __future__ import annotations

import numpy as np

from gpt_tasks.pretraining.corpus import Shards, ValidationText

STRETCH = 32
_DOUBLINGS = STRETCH.bit_length() - 1
_BASE = 0x9E3779B97F4A7C15
_CHUNK = 1 << 20


def overlap(shards: Shards, text: ValidationText) -> float:
    """The share, 0 to 1, of the held-out text's stretches of 32 tokens that occur anywhere in the training text.

    Its stretches do not overlap one another; 0 for a text shorter than one. Stretches are compared by hashes of 64
    bits: a chance collision is less likely than one in a million for 10 billion tokens against 1,000 stretches.
    """
    wanted = np.unique(_hashes(text.tokens)[::STRETCH])
    if not len(wanted):
        return 0.0
    found = np.zeros(len(wanted), dtype=bool)
    for file in shards.files:
        tokens = np.memmap(file, dtype=shards.dtype, mode="r")
        for start in range(0, len(tokens), _CHUNK):
            hashes = _hashes(tokens[start : start + _CHUNK + STRETCH - 1])
            places = np.searchsorted(wanted, hashes).clip(max=len(wanted) - 1)
            found[places[wanted[places] == hashes]] = True
    return float(found.mean())


def _hashes(tokens: np.ndarray) -> np.ndarray:
    """A hash (uint64) of the 32 tokens that begin at each place: `[n]` -> `[n - 31]`, or none of a shorter text.

    A polynomial in an odd base, modulo 2^64: that of two neighbouring halves gives that of the whole.
    """
    hashes = (tokens.astype(np.uint64) + np.uint64(1)) * np.uint64(0xBF58476D1CE4E5B9)
    hashes ^= hashes >> np.uint64(31)
    for doubling in range(_DOUBLINGS):
        half = 1 << doubling
        if len(hashes) <= half:
            return hashes[:0]
        hashes = hashes[:-half] * np.uint64(pow(_BASE, half, 1 << 64)) + hashes[half:]
    return hashes
