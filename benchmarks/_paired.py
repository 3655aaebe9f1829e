"""Is one system really better than another on the same examples? A paired bootstrap of the difference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000
LEVELS = (0.025, 0.975)
# So many numbers are drawn at once, which bounds the memory.
MOST_AT_ONCE = 2_000_000


@dataclass(frozen=True, slots=True)
class Difference:
    """How much more often a is right than b on the same `n` examples, with its 95 % interval and two-sided p-value."""

    value: float
    low: float
    high: float
    p_value: float
    n: int


def paired_bootstrap(correct_a: np.ndarray, correct_b: np.ndarray, seed: int = 0) -> Difference:
    """Compare two systems on the same examples by 10,000 paired resamples.

    `correct_a` and `correct_b` `[n]` say for each example how right each system is: booleans, or shares over several
    seeds. The two-sided p-value is the share of resamples whose difference, recentred on zero, is at least as large as
    the one observed (Efron and Tibshirani 1993, section 16.4), so it is never below 1 / 10,001.
    """
    if correct_a.shape != correct_b.shape or not len(correct_a):
        raise ValueError(f"paired systems need the same examples, got {correct_a.shape} and {correct_b.shape}")
    differences = correct_a.astype(np.float64) - correct_b
    # Rounding lets shares such as 2/3 - 1/3 and 1/3 - 0 fall into one cell.
    steps, counts = np.unique(differences.round(9), return_counts=True)
    n, value = len(differences), float(differences.mean())
    random = np.random.default_rng(seed)
    at_once = max(1, MOST_AT_ONCE // len(steps))
    sizes = [min(at_once, RESAMPLES - start) for start in range(0, RESAMPLES, at_once)]
    draws = np.concatenate([random.multinomial(n, counts / n, size) @ steps / n for size in sizes])
    low, high = np.quantile(draws, LEVELS).tolist()
    extreme = int((np.abs(draws - value) >= abs(value) - 1e-9).sum())
    return Difference(value, min(low, value), max(high, value), (1 + extreme) / (1 + len(draws)), n)
