"""95 % intervals that hold at small n, and within a figure's range: of shares, means, correlations, and by bootstraps.

What is drawn or summed are units: examples, or clusters of them that belong together. `units` is a number that need not
be whole: the effective number (sum of weights)² / (sum of squared weights) of units with weights (Kish 1965).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from gpt_tasks.threads import ignoring_warnings
from gpt_tasks.types import Score

if TYPE_CHECKING:
    import numpy

FEWEST_UNITS = 5
RESAMPLES = 1_000
PAIRED_RESAMPLES = 10_000
Z = 1.959963984540054

# What a generic bootstrap may draw in all, which bounds its time, and what is held at once, which bounds its memory.
MOST_DRAWS = 20_000_000
MOST_AT_ONCE = 2_000_000


def wilson(successes: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a proportion (Wilson 1927); (0, 1) where there is nothing to count."""
    if n == 0:
        return 0.0, 1.0
    low, high = _score_limits(successes / n, n, Z)
    return (0.0 if successes == 0 else low), (1.0 if successes == n else high)


def proportion(successes: int, n: int) -> Score:
    """Return a proportion with Wilson's interval; NaN where there is nothing to count."""
    return Score(successes / n, *wilson(successes, n), n) if n else Score(math.nan, math.nan, math.nan, 0)


def clustered_proportion(successes: numpy.ndarray, n: numpy.ndarray) -> Score:
    """Return a proportion of what clusters hold, each so many `successes` of `n`, `[clusters]`; see `proportion`."""
    number, total = int(n.sum()), len(n)
    if not number:
        return proportion(0, 0)
    value = float(successes.sum()) / number
    spread = float(((successes - n * value) ** 2).sum())
    stderr = math.sqrt(spread * total / (total - 1)) / number if total > 1 else math.nan
    low, high = bounded_interval(value, stderr, effective_units(n))
    return Score(value, 0.0 if math.isnan(low) else low, 1.0 if math.isnan(high) else high, number, stderr)


def f1_of_share(share: Score, support: int) -> Score:
    """Return the F1 of a label from J, the share of true positives among what has the label or was given it.

    F1 = 2 J / (1 + J), and so the bounds of its interval; n is the label's support.
    """
    value, low, high = (2 * j / (1 + j) for j in (share.value, share.low, share.high))
    return Score(value, low, high, support)


def bounded_interval(
    value: float, stderr: float, units: float, limits: tuple[float, float] = (0.0, 1.0)
) -> tuple[float, float]:
    """Return the interval of a figure between two finite limits: Wilson's of as many examples as have its error.

    The effective number p (1 - p) / stderr² of a share p takes the place of n (Korn and Graubard 1998), and Student's t
    that of the normal quantile. One observation more is added to the variance, of a share's own: few values that differ
    little, as those near a limit do, say little of how they spread. Where none differs, p counts as a share of so many
    units.
    """
    if not units > 1 or not math.isfinite(stderr):
        return math.nan, math.nan
    least, most = limits
    share = min(1.0, max(0.0, (value - least) / (most - least)))
    spread = share * (1 - share)
    variance = (stderr / (most - least)) ** 2
    effective = spread / (variance * (units - 1) / units + spread / units**2) if spread and variance else units
    low, high = _score_limits(share, effective, student(units - 1))
    return least + (most - least) * max(0.0, low), least + (most - least) * min(1.0, high)


def skewed_interval(
    value: float, stderr: float, residuals: numpy.ndarray, units: float, pull: float = 0.0
) -> tuple[float, float]:
    """Return the interval of a mean of skewed values: Student's, transformed by Hall's cubic (1992).

    `residuals` `[units]` about 0 show the skewness, from which `pull` is taken, and the degrees of freedom. The long
    end is on the side of the long tail, of which a small sample shows too little; fewer than five units show next to
    nothing of it, and there is no interval.
    """
    if not units >= FEWEST_UNITS or not math.isfinite(stderr):
        return math.nan, math.nan
    reach, bend = student(_degrees(residuals, units)), (_skewness(residuals) - pull) / math.sqrt(len(residuals))

    def end(quantile: float) -> float:
        if not abs(bend) > 1e-6:
            return value - stderr * quantile
        return value - stderr * 3 / bend * (math.cbrt(1 + bend * (quantile - bend / 6)) - 1)

    return end(reach), end(-reach)


def macro_f1_interval(counts: numpy.ndarray) -> tuple[float, float]:
    """Return the interval of the mean F1 of labels, from how often each was right, surplus and missing, `[labels, 3]`.

    It recovers the spread of the mean from the distances to the bounds of each label's own interval (Zou and Donner
    2008), which rare labels have although no example shows how much they vary.
    """
    each = zip(counts[:, 0].tolist(), counts.sum(axis=1).tolist(), strict=True)
    found = [f1_of_share(proportion(int(right), int(of)), 0) for right, of in each if of]
    value = math.fsum(score.value for score in found) / len(found)
    below = math.sqrt(math.fsum((score.value - score.low) ** 2 for score in found)) / len(found)
    above = math.sqrt(math.fsum((score.high - score.value) ** 2 for score in found)) / len(found)
    return max(0.0, value - below), min(1.0, value + above)


def correlation_interval(
    value: float, without: numpy.ndarray, units: float, n: int, *, of_ranks: bool = False
) -> tuple[float, float]:
    """Return the interval of a correlation, by its z transform (Fisher 1921), from its values `without` each unit.

    The error of z is Fisher's, 1 / sqrt(n - 3), which holds for normal data, or the jackknife's where that is larger.
    Of ranks, its variance is 1 + r² / 2 times as large (Bonett and Wright 2000). A correlation of 1 counts as half a
    step less than what n ranks can show.
    """
    import numpy

    if not units > 1 or n < 4 or not numpy.isfinite(without).all():
        return math.nan, math.nan
    most = 1 - 6 / (n**3 - n)
    z = numpy.arctanh(numpy.clip(without, -most, most))
    residuals = z - z.mean()
    jackknife = math.sqrt((len(z) - 1) / len(z) * float((residuals**2).sum()))
    reach = max(student(_degrees(residuals, units)) * jackknife, student(units - 1) / math.sqrt(n - 3))
    if of_ranks:
        reach *= math.sqrt(1 + value**2 / 2)
    centre = math.atanh(min(most, max(-most, value)))
    return math.tanh(centre - reach), math.tanh(centre + reach)


def student(degrees: float, level: float = 0.975) -> float:
    """Return a quantile of Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, level))


def percentile_levels(units: float) -> tuple[float, float]:
    """Return at which levels a bootstrap's percentiles reach as far as Student's t (Hesterberg 2015, section 5.3)."""
    from scipy.special import ndtr

    if not units > 1:
        return 0.0, 1.0
    level = float(ndtr(-math.sqrt(units / (units - 1)) * student(units - 1)))
    return level, 1 - level


def effective_units(weights: numpy.ndarray) -> float:
    """Return the effective number of units with these weights (Kish 1965): their number where all weigh the same."""
    return float(weights.sum() ** 2 / (weights**2).sum())


def bootstrap_interval(
    computed: Callable[[numpy.ndarray], float], n: int, seed: int = 0, clusters: numpy.ndarray | None = None
) -> tuple[float, float]:
    """Return the percentile interval of a figure that is `computed` of resampled places, `[n]` of them.

    With `clusters` `[n]`, numbers from 0 on, whole clusters are drawn. It is computed 1,000 times up to 20,000
    examples, beyond that as often as makes 20 million examples, but at least 100 times; a resample on which it is not
    finite is left out. NaN where that is most of them, and where no resample differs from another: they then do not
    show how much the figure varies. Warnings are not shown.
    """
    import numpy

    resamples = min(RESAMPLES, max(RESAMPLES // 10, MOST_DRAWS // n))
    drawn, units = drawer(n, clusters, numpy.random.default_rng(seed))
    with ignoring_warnings():
        draws = [computed(drawn()) for _ in range(resamples)]
    defined = numpy.array([draw for draw in draws if math.isfinite(draw)])
    if len(defined) <= resamples / 2 or defined.min() == defined.max():
        return math.nan, math.nan
    return percentiles(defined, units)


def drawer(
    n: int, clusters: numpy.ndarray | None, random: numpy.random.Generator
) -> tuple[Callable[[], numpy.ndarray], float]:
    """Return what draws the places of as many units with replacement, and their effective number.

    The units are the n places, or their `clusters` `[n]`, numbers from 0 on, each with all of its places.
    """
    import numpy

    if clusters is None:
        return lambda: random.integers(0, n, n), float(n)
    sizes = numpy.bincount(clusters)
    members = numpy.split(numpy.argsort(clusters, kind="stable"), numpy.cumsum(sizes)[:-1])

    def drawn() -> numpy.ndarray:
        return numpy.concatenate([members[place] for place in random.integers(0, len(members), len(members)).tolist()])

    return drawn, effective_units(sizes)


def percentiles(draws: numpy.ndarray, units: float) -> tuple[float, float]:
    """Return the interval of a figure from its draws `[resamples]` of so many units."""
    import numpy

    low, high = numpy.quantile(draws, percentile_levels(units))
    return float(low), float(high)


def _score_limits(share: float, n: float, quantile: float) -> tuple[float, float]:
    centre = (share + quantile**2 / (2 * n)) / (1 + quantile**2 / n)
    reach = quantile / (1 + quantile**2 / n) * math.sqrt(share * (1 - share) / n + quantile**2 / (4 * n**2))
    return centre - reach, centre + reach


def _degrees(residuals: numpy.ndarray, units: float) -> float:
    """Return the degrees of freedom of a variance, which are fewer where tails are heavy (O'Neill 2014)."""
    squares = residuals**2
    total = float(squares.sum())
    kurtosis = len(residuals) * float((squares**2).sum()) / total**2 if total else 1.0
    return min(units - 1, 2 * len(residuals) / (kurtosis - 1)) if kurtosis > 1 else units - 1


def _skewness(residuals: numpy.ndarray) -> float:
    """Return the skewness of values about 0, corrected for their number."""
    n, deviation = len(residuals), math.sqrt(float((residuals**2).mean()))
    if n < 3 or not deviation > 0 or not math.isfinite(deviation):
        return 0.0
    return float(((residuals / deviation) ** 3).mean()) * math.sqrt(n * (n - 1)) / (n - 2)
