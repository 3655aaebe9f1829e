"""The expected calibration error and its interval."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from gpt_tasks.errors import UsageError
from gpt_tasks.extensions import Rows
from gpt_tasks.metrics.intervals import (
    MOST_AT_ONCE,
    MOST_DRAWS,
    RESAMPLES,
    bounded_interval,
    effective_units,
    percentile_levels,
)

if TYPE_CHECKING:
    import numpy

BINS = 15
FEW = 10
"""With no more examples than these in a bin, on average, most of a sample's calibration error is chance."""


def ece(rows: Rows) -> float:
    """Expected calibration error over 15 equal bins of confidence (Guo et al. 2017, eq. 3).

    The confidence is the probability given to the predicted label. NaN probabilities give NaN. Raises UsageError where
    predictions have no probabilities.
    """
    import numpy

    references, predictions = rows.codes
    confidences = confidence(predictions, probabilities_of(rows))
    if numpy.isnan(confidences).any():
        return float("nan")
    gaps = confidences - (references == predictions)
    return float(numpy.abs(numpy.bincount(confidence_bin(confidences), gaps, BINS)).sum() / len(gaps))


def ece_interval(rows: Rows) -> tuple[float, float]:
    """Return the interval of the calibration error; see `calibration_interval`."""
    references, predictions = rows.codes
    confidences = confidence(predictions, probabilities_of(rows))
    return calibration_interval(confidences, references == predictions, rows.clusters)


def calibration_interval(
    confidences: numpy.ndarray, correct: numpy.ndarray, clusters: numpy.ndarray | None = None, seed: int = 0
) -> tuple[float, float]:
    """Return the 95 % interval of the expected calibration error, from confidences and correctness `[n]`.

    The error of a sample is larger than that of its source, and a resample's larger again, so that percentiles would
    miss the truth. The upper bound is the upper percentile less the resamples' mean excess. The lower bound is the one
    of the absolute mean of confidence less correctness, than which the error is never smaller (by Jensen's inequality).
    Where bins hold many independent examples it is a sharper one: the upper percentile reflected about the value, or 0
    where a perfectly calibrated model would show as large an error more often than once in forty.
    """
    import numpy

    n, random = len(confidences), numpy.random.default_rng(seed)
    gaps, bins = confidences - correct, confidence_bin(confidences)
    by_unit = gaps - gaps.mean()
    if clusters is None:
        units = float(n)
        value, resampled, calibrated = _over_cells(confidences, correct, bins, random)
    else:
        units, by_unit = effective_units(numpy.bincount(clusters)), numpy.bincount(clusters, by_unit)
        value, resampled = _over_clusters(gaps, bins, clusters, random)
    if not units > 1:
        return 0.0, 1.0
    level = percentile_levels(units)[1]
    top = float(numpy.quantile(resampled, level))
    if clusters is None and n > FEW * len(numpy.unique(bins)):
        low = 0.0 if value <= numpy.quantile(calibrated, level) else max(0.0, 2 * value - top)
    else:
        stderr = math.sqrt(float((by_unit**2).sum()) * len(by_unit) / (len(by_unit) - 1)) / n
        lower, upper = bounded_interval(float(gaps.mean()), stderr, units, (-1.0, 1.0))
        low = max(0.0, lower, -upper)
    return min(low, value), min(1.0, max(value, value + top - float(resampled.mean())))


def probabilities_of(rows: Rows) -> numpy.ndarray:
    """Return the probabilities `[n, labels]`. Raises UsageError where there are none."""
    if rows.probabilities is None:
        raise UsageError("The calibration error needs the probability of every label", "Leave the metric 'ece' out.")
    return rows.probabilities


def confidence(predictions: numpy.ndarray, probabilities: numpy.ndarray) -> numpy.ndarray:
    """Return the probability of each predicted label, `[n]` in float64."""
    import numpy

    return numpy.take_along_axis(probabilities, predictions[:, None], axis=1)[:, 0].astype(numpy.float64)


def confidence_bin(confidences: numpy.ndarray) -> numpy.ndarray:
    """Return the bin of each confidence, `[n]`; bin m holds those in (m / 15, (m + 1) / 15]."""
    import numpy

    return numpy.searchsorted(numpy.arange(1, BINS) / BINS, confidences, side="left")


def _over_cells(
    confidences: numpy.ndarray, correct: numpy.ndarray, bins: numpy.ndarray, random: numpy.random.Generator
) -> tuple[float, numpy.ndarray, numpy.ndarray]:
    """Return the error, that of resamples, and that of samples of a calibrated model; each `[resamples]`.

    Examples of one bin and nearly one confidence are resampled as one.
    """
    import numpy

    n, parts = len(confidences), 64
    part = numpy.clip((confidences * BINS - bins) * parts, 0, parts - 1).astype(numpy.int64)
    cells, cell_of = numpy.unique(bins * parts + part, return_inverse=True)
    counts, right = numpy.bincount(cell_of), numpy.bincount(cell_of, correct)
    mean = numpy.bincount(cell_of, confidences) / counts
    bin_of = numpy.zeros((len(cells), BINS))
    bin_of[numpy.arange(len(cells)), cells // parts] = 1.0

    def errors(number: numpy.ndarray, right: numpy.ndarray) -> numpy.ndarray:
        found: numpy.ndarray = numpy.abs((number * mean - right) @ bin_of).sum(-1) / n
        return found

    shares = numpy.concatenate([counts - right, right]) / n
    drawn = random.multinomial(n, shares / shares.sum(), RESAMPLES)
    wrong_drawn, right_drawn = drawn[:, : len(cells)], drawn[:, len(cells) :]
    resampled = errors(wrong_drawn + right_drawn, right_drawn)
    calibrated = errors(counts, random.binomial(counts, numpy.clip(mean, 0, 1), (RESAMPLES, len(cells))))
    return float(errors(counts, right)), resampled, calibrated


def _over_clusters(
    gaps: numpy.ndarray, bins: numpy.ndarray, clusters: numpy.ndarray, random: numpy.random.Generator
) -> tuple[float, numpy.ndarray]:
    """Return the error, and that of resamples of whole clusters `[resamples]`."""
    import numpy

    sizes = numpy.bincount(clusters)
    by_bin = numpy.zeros((len(sizes), BINS))
    numpy.add.at(by_bin, (clusters, bins), gaps)
    number, resampled = len(sizes), []
    resamples, at_once = max(RESAMPLES // 10, min(RESAMPLES, MOST_DRAWS // number)), max(1, MOST_AT_ONCE // number)
    for start in range(0, resamples, at_once):
        times = random.multinomial(number, numpy.full(number, 1 / number), min(at_once, resamples - start))
        resampled.append(numpy.abs(times @ by_bin).sum(axis=1) / (times @ sizes))
    return float(numpy.abs(by_bin.sum(axis=0)).sum() / len(gaps)), numpy.concatenate(resampled)
