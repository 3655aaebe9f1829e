"""Figures that follow from a confusion matrix, macro F1 and Matthews correlation, and their intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from gpt_tasks.extensions import Rows
from gpt_tasks.metrics.intervals import MOST_AT_ONCE, MOST_DRAWS, RESAMPLES, effective_units, percentiles

if TYPE_CHECKING:
    import numpy

OfMatrices = Callable[["numpy.ndarray"], "numpy.ndarray"]
"""From confusion matrices `[..., labels, labels]`, right labels by rows, to figures `[...]`."""


def macro_f1_interval(rows: Rows) -> tuple[float, float]:
    """Return the interval of macro F1; see `confusion_interval`."""
    return confusion_interval(macro_f1_from_confusion, rows)


def mcc_interval(rows: Rows) -> tuple[float, float]:
    """Return the interval of the Matthews correlation; see `confusion_interval`."""
    return confusion_interval(mcc_from_confusion, rows)


def confusion_interval(function: OfMatrices, rows: Rows, seed: int = 0) -> tuple[float, float]:
    """Return the percentile bootstrap of a function of the confusion matrix, over examples or their clusters.

    Percentiles alone cover macro F1 and MCC of 20 examples in 60 to 90 of 100 cases. What was not seen in a few
    examples can be: a rare label, a mistake of a label that has five examples. So one unit more is drawn from, whose
    labels, right and predicted, are any two, in the spirit of Agresti and Coull (1998). A resample lacks some of the
    labels that the sample has, as the sample those of its source: the upper end is moved by twice the bias that the
    draws show, as the bias-corrected percentile is (Efron 1981). One unit does not show how much they vary: NaN.
    """
    import numpy

    units = float(len(rows)) if rows.clusters is None else effective_units(numpy.bincount(rows.clusters))
    if not units > 1:
        return math.nan, math.nan
    matrices = _resampled_matrices(rows, numpy.random.default_rng(seed))
    draws = numpy.concatenate([function(some) for some in matrices])
    low, high = percentiles(draws, units)
    return low, min(1.0, high + 2 * max(0.0, float(function(_matrix(rows)) - draws.mean())))


def macro_f1_from_confusion(counts: numpy.ndarray) -> numpy.ndarray:
    """Return the macro F1 of confusion matrices `[..., labels, labels]`, over the labels that occur."""
    import numpy

    right, occurrences = numpy.diagonal(counts, axis1=-2, axis2=-1), counts.sum(-1) + counts.sum(-2)
    total = (2 * right / numpy.maximum(occurrences, 1e-300)).sum(-1)
    mean: numpy.ndarray = total / (occurrences > 0).sum(-1)
    return mean


def mcc_from_confusion(counts: numpy.ndarray) -> numpy.ndarray:
    """Return the Matthews correlation of confusion matrices `[..., labels, labels]`; 0 where it is undefined."""
    import numpy

    counts = counts.astype(numpy.float64)
    right, n = numpy.trace(counts, axis1=-2, axis2=-1), counts.sum((-2, -1))
    true, predicted = counts.sum(-1), counts.sum(-2)
    covariance = right * n - (true * predicted).sum(-1)
    spread = (n**2 - (predicted**2).sum(-1)) * (n**2 - (true**2).sum(-1))
    return numpy.where(spread > 0, covariance / numpy.sqrt(numpy.maximum(spread, 1e-300)), 0.0)


FROM_CONFUSION: Mapping[str, OfMatrices] = {"macro_f1": macro_f1_from_confusion, "mcc": mcc_from_confusion}
"""Registered metrics that follow from a confusion matrix, by name."""


def _matrix(rows: Rows) -> numpy.ndarray:
    import numpy

    references, predictions = rows.codes
    labels = len(rows.labels)
    return numpy.bincount(references * labels + predictions, minlength=labels**2).reshape(labels, labels)


def _resampled_matrices(rows: Rows, random: numpy.random.Generator) -> Iterator[numpy.ndarray]:
    """Draw confusion matrices `[some, labels, labels]` of as many units, one of which is not of the rows."""
    import numpy
    from scipy.sparse import csr_array

    n, labels = len(rows), len(rows.labels)
    references, predictions = rows.codes
    cells, cell_of, counts = numpy.unique(references * labels + predictions, return_inverse=True, return_counts=True)
    units, mass, shares, members = n, 1.0, counts / n, None
    if rows.clusters is not None:
        units = int(rows.clusters.max()) + 1
        mass, shares = n / units, numpy.full(units, 1 / units)
        members = csr_array((numpy.ones(n), (cell_of, rows.clusters)), shape=(len(cells), units))
    resamples = RESAMPLES if members is None else max(RESAMPLES // 10, min(RESAMPLES, MOST_DRAWS // units))
    at_once = max(1, MOST_AT_ONCE // max(labels**2, len(shares)))
    for start in range(0, resamples, at_once):
        size = min(at_once, resamples - start)
        unseen = random.binomial(units, 1 / (units + 1), size)
        drawn = random.multinomial(units - unseen, shares)
        matrices = numpy.zeros((size, labels * labels))
        matrices[:, cells] = drawn if members is None else (members @ drawn.T).T
        places = numpy.repeat(numpy.arange(size), unseen), random.integers(0, labels * labels, unseen.sum())
        numpy.add.at(matrices, places, mass)
        yield matrices.reshape(size, labels, labels)
