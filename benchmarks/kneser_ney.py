"""A Kneser-Ney n-gram model over token ids, in numpy: what a neural model of the same tokens has to be better than.

Interpolated modified Kneser-Ney (S. Chen and J. Goodman, "An empirical study of smoothing techniques for language
modeling", 1998, section 5), nothing pruned. N-grams are identified by 64-bit hashes of their tokens. Only what the
text that is scored asks for is ever looked up: 70 million tokens take a few minutes and about 6 GB.
"""

from __future__ import annotations

import numpy as np

_BASE = np.uint64(0x9E3779B97F4A7C15)


def kneser_ney_nats(train: np.ndarray, text: np.ndarray, vocabulary: int, order: int = 5) -> np.ndarray:
    """The nats of every token of `text` but the first, given at most `order - 1` tokens before it.

    `train` `[n]` and `text` `[m]` hold token ids below `vocabulary`; returns `[m - 1]` in float64.
    """
    train_hashes, text_hashes = _hashes(train, order), _hashes(text, order)
    places = np.arange(len(train) - order + 1)
    counts = None
    shares: list[tuple[np.ndarray, np.ndarray]] = []
    for n in range(order, 0, -1):
        # The highest order counts occurrences; every lower one how many different tokens precede the n-gram.
        if counts is not None:
            places = places + 1
        grams, first, counts = np.unique(train_hashes[n][places], return_index=True, return_counts=True)
        places = places[first]
        discounts = _discounts(counts)
        shares.append(_share(n, grams, counts, train_hashes[n - 1][places], text_hashes, discounts))
        train_hashes[n] = grams[:0]
    probability = np.full(len(text) - 1, 1 / vocabulary)
    for seen, rest in reversed(shares):
        short = len(probability) - len(seen)  # the text's first tokens have no context of this length
        probability[short:] = seen + rest * probability[short:]
    return -np.log(probability)


def _share(
    n: int,
    grams: np.ndarray,
    counts: np.ndarray,
    contexts: np.ndarray,
    text_hashes: list[np.ndarray],
    discounts: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """For each n-gram of the text its discounted share of its context's counts, and the weight of the lower orders."""
    skipped = 1 if n == 1 else 0  # the first token is given, not predicted
    asked = text_hashes[n][skipped:]
    if not len(asked):
        return np.zeros(0), np.ones(0)
    asked_contexts = text_hashes[n - 1][skipped : skipped + len(asked)]
    place = np.searchsorted(grams, asked).clip(max=len(grams) - 1)
    count = np.where(grams[place] == asked, counts[place], 0)

    known, which = np.unique(asked_contexts, return_inverse=True)
    place = np.searchsorted(known, contexts).clip(max=len(known) - 1)
    wanted = known[place] == contexts
    place, counts = place[wanted], counts[wanted]
    total = np.bincount(place, weights=counts, minlength=len(known))
    taken = np.bincount(place, weights=discounts[np.minimum(counts, 3)], minlength=len(known))
    total, taken = total[which], taken[which]
    unknown = total == 0
    seen = np.where(unknown, 0.0, (count - discounts[np.minimum(count, 3)]) / np.where(unknown, 1, total))
    return seen, np.where(unknown, 1.0, taken / np.where(unknown, 1, total))


def _discounts(counts: np.ndarray) -> np.ndarray:
    """What is taken off counts of 0, 1, 2 and 3 or more (Chen and Goodman 1998, equation 26).

    Where the counts are too odd for that, as few tokens' are: a half of each.
    """
    n1, n2, n3, n4 = (max(1, int((counts == count).sum())) for count in (1, 2, 3, 4))
    share = n1 / (n1 + 2 * n2)
    found = [1 - 2 * share * n2 / n1, 2 - 3 * share * n3 / n2, 3 - 4 * share * n4 / n3]
    if not all(0 < taken < count for count, taken in enumerate(found, start=1)):
        found = [0.5, 1.0, 1.5]
    return np.array([0.0, *found])


def _hashes(tokens: np.ndarray, order: int) -> list[np.ndarray]:
    """For n from 0 to `order` the hashes of all n-grams: `[len(tokens) - n + 1]` each."""
    mixed = (tokens.astype(np.uint64) + np.uint64(1)) * np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(31)
    hashes = [np.zeros(len(tokens) + 1, dtype=np.uint64)]
    for n in range(1, order + 1):
        hashes.append(hashes[-1][: len(tokens) - n + 1] * _BASE + mixed[n - 1 :])
    return hashes
