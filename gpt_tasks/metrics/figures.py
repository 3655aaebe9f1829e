"""Figures with their standard errors and intervals, from what examples, or clusters of them, contribute."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpt_tasks.extensions import Metric
from gpt_tasks.metrics.aggregate import Aggregate, apply_aggregate, are_shares, prepared, rank_moments
from gpt_tasks.metrics.intervals import (
    bounded_interval,
    correlation_interval,
    effective_units,
    macro_f1_interval,
    skewed_interval,
    student,
    wilson,
)
from gpt_tasks.types import Score, Statistic

if TYPE_CHECKING:
    import numpy


@dataclass(frozen=True)
class Statistics:
    """What each example contributes to a metric, prepared: values `[n, columns]`, weights `[n]`, how to aggregate."""

    values: numpy.ndarray
    weights: numpy.ndarray
    aggregate: str | Aggregate = "mean"

    @property
    def is_share(self) -> bool:
        """Whether the figure is a plain share of the examples."""
        return self.aggregate == "mean" and are_shares(self.values, self.weights)


def figure(metric: Metric, statistics: Sequence[Statistic]) -> Score:
    """Aggregate what examples contribute into a figure with its standard error and interval."""
    import numpy as np

    return figure_of(
        metric, np.array([each.columns for each in statistics]), np.array([each.weight for each in statistics])
    )


def value_of(metric: Metric, statistics: Sequence[Statistic]) -> float:
    """Return the figure alone."""
    return figure(metric, statistics).value


def figure_of(
    metric: Metric,
    values: numpy.ndarray,
    weights: numpy.ndarray,
    *,
    is_prepared: bool = False,
    clusters: numpy.ndarray | None = None,
) -> Score:
    """Aggregate what examples contribute, `[n, columns]`, and their weights `[n]`, into a figure.

    The standard error of a weighted mean is by linearization, that of its exponential follows by the delta method; of
    any other aggregate it is the jackknife's (Efron and Stein 1981). With `clusters` `[n]`, numbers from 0 on, it is
    clustered (Miller 2024, section 2.2, times the root of G / (G - 1) of G clusters): their sums are what varies.

    The interval of a share (every statistic 0 or 1) is Wilson's, and that of another figure between finite limits
    Wilson's of as many examples as have its error; a correlation's is Fisher's; that of a mean without limits, and of
    its exponential and root, Student's for skewed data. It stays within the metric's range. Where every weight is 0, no
    example is about what is measured, and there is no figure.
    """
    import numpy as np

    n, aggregate = len(weights), metric.aggregate
    if not weights.any():
        return Score(math.nan, math.nan, math.nan, 0, math.nan)
    values = values if is_prepared else prepared(metric, values)
    is_share = aggregate == "mean" and clusters is None and are_shares(values, weights)
    weighted = values * weights[:, None]
    if clusters is not None:
        weighted = _summed(weighted, clusters)
        weights = np.bincount(clusters, weights)
    units, total = len(weights), float(weights.sum())
    without = np.full(1, math.nan)
    if aggregate in ("mean", "exponential"):
        mean = math.fsum(weighted[:, 0]) / math.fsum(weights)
        spread = math.fsum((weighted[:, 0] - weights * mean) ** 2)
        stderr = math.sqrt(spread * units / (units - 1)) / total if units > 1 else math.nan
        value = float(apply_aggregate(aggregate, np.array([mean]), np.array(1.0)))
        stderr *= value if aggregate == "exponential" else 1.0
    else:
        sums = weighted.sum(axis=0)
        value = float(apply_aggregate(aggregate, sums, np.array(total)))
        if units > 1:
            without = apply_aggregate(aggregate, sums - weighted, total - weights)
        # A figure that is infinite without some example has no error that could be given.
        with np.errstate(invalid="ignore"):
            stderr = math.sqrt((units - 1) / units * float(((without - without.mean()) ** 2).sum()))
    if math.isnan(value):
        return Score(value, math.nan, math.nan, n, stderr)
    if is_share:
        low, high = wilson(round(value * n), n)
    elif aggregate == "correlation":
        of_ranks = metric.prepare is rank_moments
        low, high = correlation_interval(value, without, effective_units(weights), n, of_ranks=of_ranks)
    else:
        low, high = _interval(metric, value, stderr, weighted, weights, without)
    # Where one example says nothing of the spread, the bounds are those of the range, if it has some.
    least, most = (bound if math.isfinite(bound) else math.nan for bound in metric.range)
    return Score(value, _bounded(min(low, value), least, max), _bounded(max(high, value), most, min), n, stderr)


def mean_figure(figures: Sequence[Score], limits: tuple[float, float], units: int) -> Score:
    """Return the mean of groups' figures, of one metric, each counting the same, regardless of its size.

    `limits` is the metric's range, `units` the number of examples, or clusters of them, in all groups. Groups of one
    example say nothing of their spread and are left out of the standard error.
    """
    value = math.fsum(each.value for each in figures) / len(figures)
    n = sum(each.n for each in figures)
    stderr = math.sqrt(math.fsum(each.stderr**2 for each in figures if not math.isnan(each.stderr))) / len(figures)
    if all(map(math.isfinite, limits)):
        low, high = bounded_interval(value, stderr, units, limits)
    else:
        reach = student(units - len(figures)) * stderr if units > len(figures) else math.nan
        # NaN comes first, so that it stays.
        low, high = max(value - reach, limits[0]), min(value + reach, limits[1])
    return Score(value, low, high, n, stderr)


def difference_interval(
    metric: Metric, a: Statistics, b: Statistics, clusters: numpy.ndarray | None = None
) -> tuple[float, float]:
    """Return the interval of the figure of `b` less that of `a`, of the same examples: Student's, by the jackknife."""
    import numpy as np

    sides = []
    for side in (a, b):
        weighted, weights = side.values * side.weights[:, None], side.weights
        if clusters is not None:
            weighted, weights = _summed(weighted, clusters), np.bincount(clusters, weights)
        sums, total = weighted.sum(axis=0), weights.sum()
        value = float(apply_aggregate(metric.aggregate, sums, np.array(total)))
        sides.append((value, apply_aggregate(metric.aggregate, sums - weighted, total - weights), weights))
    difference, without = sides[1][0] - sides[0][0], sides[1][1] - sides[0][1]
    units, effective = len(without), effective_units(sides[1][2])
    if not effective > 1:
        return math.nan, math.nan
    with np.errstate(invalid="ignore"):
        stderr = math.sqrt((units - 1) / units * float(((without - without.mean()) ** 2).sum()))
    reach = student(effective - 1) * stderr
    return difference - reach, difference + reach


def _summed(values: numpy.ndarray, clusters: numpy.ndarray) -> numpy.ndarray:
    """Sum values `[n, columns]` by their cluster."""
    import numpy as np

    return np.stack([np.bincount(clusters, column) for column in values.T], axis=1)


def _interval(
    metric: Metric,
    value: float,
    stderr: float,
    weighted: numpy.ndarray,
    weights: numpy.ndarray,
    without: numpy.ndarray,
) -> tuple[float, float]:
    """Return the interval of a figure from the sums of its units, `[units, columns]` and `[units]`.

    `without` `[units]` are its values without each of them, where it is not a mean.
    """
    import numpy as np

    aggregate, effective = metric.aggregate, effective_units(weights)
    is_bounded = all(map(math.isfinite, metric.range))
    if aggregate in ("exponential", "root") or (aggregate == "mean" and not is_bounded):
        bounds = np.array(_mean_interval(weighted[:, 0], weights, effective))
        low, high = apply_aggregate(aggregate, bounds[:, None], np.ones(2)).tolist()
        return low, high
    if not is_bounded:
        return skewed_interval(value, stderr, without.mean() - without, effective)
    low, high = bounded_interval(value, stderr, effective, metric.range)
    if aggregate == "macro_f1" and weighted.any() and effective > 1:
        least, most = macro_f1_interval(weighted.sum(axis=0).reshape(-1, 3))
        low, high = min(low, least), max(high, most)
    return low, high


def _mean_interval(weighted: numpy.ndarray, weights: numpy.ndarray, effective: float) -> tuple[float, float]:
    """Return the interval of a mean of units, from their sums of values by weights and of weights, each `[units]`.

    Units that weigh much pull the mean towards themselves: the error is the jackknife's. The skewness is that of a
    studentized ratio: the residuals' own, less three times their covariance with the weights.
    """

    shares = weights / weights.sum()
    if not effective > 1:
        return math.nan, math.nan
    mean = math.fsum(weighted) / math.fsum(weights)
    residuals, units = weighted - weights * mean, len(weights)
    stderr = math.sqrt(float(((residuals / (1 - shares)) ** 2).sum()) * (units - 1) / units) / float(weights.sum())
    deviation = math.sqrt(float((residuals**2).mean()))
    pull = 3 * float((residuals * shares).sum()) / deviation if deviation else 0.0
    return skewed_interval(mean, stderr, residuals, effective, pull)


def _bounded(bound: float, limit: float, within: Callable[[float, float], float]) -> float:
    """Return a bound within a limit; either can be NaN, and then is the other."""
    if math.isnan(bound) or math.isnan(limit):
        return limit if math.isnan(bound) else bound
    return within(bound, limit)
