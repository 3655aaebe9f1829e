"""Is a difference between two systems on the same examples more than chance? And what could so many examples show?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from scipy.optimize import brentq
from scipy.sparse import csr_array
from scipy.special import bdtr, bdtrc, ndtri, stdtr
from scipy.stats import binom, binomtest

from gpt_tasks.metrics.aggregate import Aggregate, apply_aggregate
from gpt_tasks.metrics.intervals import MOST_AT_ONCE, PAIRED_RESAMPLES, Z, percentile_levels, student

LEVEL, POWER = 0.05, 0.8
"""Of two-sided tests, and of what they are to find."""

RowStatistic = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""From distinct rows `[cells, columns]` and how often each was drawn `[resamples, cells]` to `[resamples, figures]`."""


@dataclass(frozen=True, slots=True)
class TestResult:
    """What paired examples say about a difference: its 95 % interval and a two-sided p value.

    `detectable` is the smallest true difference that so many examples show four times in five. NaN means that a value
    cannot be computed.
    """

    low: float
    high: float
    p_value: float
    detectable: float
    test: Literal["mcnemar", "bootstrap"]


def mcnemar(right_a: np.ndarray, right_b: np.ndarray) -> TestResult:
    """Test whether B is right more or less often than A on the same examples; booleans `[n]`.

    The p value is exact: a binomial test on the pairs of which one is right (McNemar 1947). The interval of B - A is
    the score interval of Tango (1998), which can end just short of zero where the exact test stays just above 5 %.
    """
    n = len(right_a)
    gains, losses = int((right_b & ~right_a).sum()), int((right_a & ~right_b).sum())
    discordant = gains + losses
    p_value = float(binomtest(gains, discordant).pvalue) if discordant else 1.0
    low, high = _lower_score_limit(gains, losses, n), -_lower_score_limit(losses, gains, n)
    return TestResult(low, high, p_value, minimum_detectable_difference(discordant / n, n), "mcnemar")


def minimum_detectable_difference(discordant: float, n: int) -> float:
    """Return the difference of two shares that McNemar's exact test finds with a power of 80 % at two-sided 5 %.

    `discordant` is the share of pairs that differ. The power is the exact one, over the numbers of discordant pairs
    and of gains among them. No difference can exceed the discordant share: where the solution would, all discordant
    pairs are taken to be on one side. Fewer than six pairs show nothing (NaN).
    """
    if n < 6:
        return math.nan
    if _power(discordant, discordant, n) >= POWER:
        return float(brentq(lambda difference: _power(difference, discordant, n) - POWER, 0.0, discordant))
    return float(brentq(lambda difference: _power(difference, difference, n) - POWER, discordant, 1.0))


def resampled(
    strata: Sequence[np.ndarray],
    statistic: RowStatistic,
    *,
    clusters: Sequence[np.ndarray] | None = None,
    width: int = 1,
    seed: int = 0,
) -> np.ndarray:
    """Draw the examples of each stratum 10,000 times anew; return the strata's mean figures `[resamples, figures]`.

    A stratum is `[n, columns]`, a row for each example; its `clusters` `[n]`, numbers from 0 on, are drawn as wholes.
    `width` says how many numbers `statistic` holds for one resample, which bounds how many resamples are computed at
    once.
    """
    random = np.random.default_rng(seed)
    total: np.ndarray = np.zeros(1)
    for place, rows in enumerate(strata):
        cells, cell_of, times = np.unique(rows, axis=0, return_inverse=True, return_counts=True)
        cell_of = cell_of.reshape(-1)
        if clusters is None:
            draws = _drawn(times, cell_of, width, random)
        else:
            members = csr_array((np.ones(len(rows)), (cell_of, clusters[place])))
            units = np.arange(members.shape[1])
            wholes = _drawn(np.ones_like(units), units, max(width, len(cells)), random)
            draws = ((members @ counts.T).T for counts in wholes)
        total = total + np.concatenate([statistic(cells, counts) for counts in draws])
    mean: np.ndarray = total / len(strata)
    return mean


def figure_differences(aggregates: Sequence[tuple[str | Aggregate, int]]) -> RowStatistic:
    """The differences B - A of figures, each by its aggregate and the number of its columns.

    A row holds for each figure: values times weight and weight of A, values times weight and weight of B.
    """

    def statistic(cells: np.ndarray, counts: np.ndarray) -> np.ndarray:
        sums = counts @ cells
        found, start = [], 0
        for aggregate, columns in aggregates:
            sides = sums[:, start : start + 2 * (columns + 1)].reshape(len(sums), 2, columns + 1)
            start += 2 * (columns + 1)
            figures = apply_aggregate(aggregate, sides[..., :-1], sides[..., -1])
            with np.errstate(invalid="ignore"):
                found.append(figures[:, 1] - figures[:, 0])
        return np.stack(found, axis=1)

    return statistic


def confusion_differences(functions: Sequence[Callable[[np.ndarray], np.ndarray]], labels: int) -> RowStatistic:
    """The differences B - A of functions of the confusion matrix `[..., labels, labels]`.

    A row holds label indices: the right one, A's, B's.
    """

    def statistic(cells: np.ndarray, counts: np.ndarray) -> np.ndarray:
        both = []
        for side in (1, 2):
            places = cells[:, 0] * labels + cells[:, side]
            shape = (labels * labels, len(cells))
            scatter = csr_array((np.ones(len(cells)), (places, np.arange(len(cells)))), shape=shape)
            matrices = (scatter @ counts.T).T.reshape(-1, labels, labels)
            both.append(np.stack([function(matrices) for function in functions], axis=-1))
        differences: np.ndarray = both[1] - both[0]
        return differences

    return statistic


def result_of_draws(difference: float, scale: float, draws: np.ndarray, units: float) -> TestResult:
    """Read a paired bootstrap: interval, p value and standard error of `draws` `[resamples]` of a difference.

    They are of so many `units`, examples or clusters, less the number of strata less one. Percentiles are taken where
    they reach as far as Student's t (Hesterberg 2015, section 5.3), and the p value is the level at which such an
    interval ends at zero: twice the smaller share of resamples on either side of it (both count those at zero, with one
    added to each count), carried over; and no smaller than 2 / 2^units, the least that any test by exchanging A and B
    in pairs can give. Draws within rounding of zero, measured by `scale` (the size of the figures), count as zero. A
    spread of zero leaves `detectable` NaN, and so do so few units that no p value is below 5 %; draws that are not
    finite leave all else NaN too.
    """
    if not math.isfinite(difference) or not np.isfinite(draws).all() or not units > 1:
        return unknown()
    draws = np.where(np.abs(draws) <= 1e-12 * scale, 0.0, draws)
    low, high = (float(bound) for bound in np.quantile(draws, percentile_levels(units)))
    fewer = min(int((draws <= 0).sum()), int((draws >= 0).sum()))
    share = min(0.5, (1 + fewer) / (1 + len(draws)))
    p_value = 2 * float(stdtr(units - 1, ndtri(share) * math.sqrt((units - 1) / units)))
    stderr = float(draws.std(ddof=1)) * math.sqrt(units / (units - 1))
    least = 2.0 ** (1 - units)
    detectable = (student(units - 1) + student(units - 1, POWER)) * stderr
    return TestResult(
        low=min(low, difference),
        high=max(high, difference),
        p_value=min(1.0, max(p_value, least)),
        detectable=detectable if detectable > 1e-12 * scale and least < LEVEL else math.nan,
        test="bootstrap",
    )


def unknown() -> TestResult:
    """Return the result of a bootstrap that can say nothing."""
    return TestResult(math.nan, math.nan, math.nan, math.nan, "bootstrap")


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p values for their number (Holm 1979), in their order; NaN stays NaN and does not count."""
    corrected = [math.nan] * len(p_values)
    places = sorted((place for place, p in enumerate(p_values) if not math.isnan(p)), key=lambda place: p_values[place])
    largest = 0.0
    for rank, place in enumerate(places):
        largest = max(largest, min(1.0, (len(places) - rank) * p_values[place]))
        corrected[place] = largest
    return corrected


def _power(difference: float, discordant: float, n: int) -> float:
    """Return how often McNemar's exact test finds a difference of n pairs of which a share is discordant."""
    if not discordant:
        return 0.0
    numbers, shares, gains = _discordant(discordant, n)
    share = min(1.0, (1 + difference / discordant) / 2)
    # So many gains, or fewer than so many, as the test rejects at; more than there are pairs is never.
    most, least = np.minimum(gains - 1, numbers), numbers - gains
    found = bdtrc(most, numbers, share) + np.where(least < 0, 0.0, bdtr(np.maximum(least, 0), numbers, share))
    return float((shares * found).sum())


@lru_cache(maxsize=1)
def _discordant(discordant: float, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the likely numbers of discordant pairs, their probabilities, and the gains that the test rejects from."""
    least, most = (int(bound) for bound in binom.ppf((1e-9, 1 - 1e-9), n, discordant))
    numbers = np.arange(least, most + 1)
    return numbers, binom.pmf(numbers, n, discordant), binom.isf(LEVEL / 2, numbers, 0.5) + 1


def _lower_score_limit(gains: int, losses: int, n: int) -> float:
    """Return the lower limit of Tango (1998): the difference under which the score statistic comes to Z."""

    def excess(difference: float) -> float:
        linear = (2 * n - gains + losses) * difference - gains - losses
        root = math.sqrt(max(linear**2 + 8 * n * losses * difference * (1 - difference), 0.0))
        variance = n * ((root - linear) / (2 * n) + difference * (1 - difference))
        return gains - losses - n * difference - Z * math.sqrt(max(variance, 0.0))

    # At the difference itself the variance can be 0, and with it the excess.
    below = (gains - losses) / n - 1e-9
    return float(brentq(excess, -1.0, below, xtol=1e-12)) if below > -1 and excess(-1.0) > 0 else -1.0


def _drawn(times: np.ndarray, cell_of: np.ndarray, width: int, random: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield how often each cell was drawn `[some resamples, cells]`, 10,000 resamples in all."""
    cells, n = len(times), len(cell_of)
    few = 8 * cells <= n
    at_once = max(1, MOST_AT_ONCE // max(width, cells if few else n))
    for start in range(0, PAIRED_RESAMPLES, at_once):
        size = min(at_once, PAIRED_RESAMPLES - start)
        if few:
            yield random.multinomial(n, times / n, size).astype(np.float64)
        else:
            drawn = cell_of[random.integers(0, n, (size, n))] + cells * np.arange(size)[:, None]
            yield np.bincount(drawn.ravel(), minlength=size * cells).reshape(size, cells).astype(np.float64)
