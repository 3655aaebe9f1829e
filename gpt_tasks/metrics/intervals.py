"""95 % intervals: of shares, of functions of a confusion matrix, of a calibration error, and by bootstraps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from gpt_tasks.extensions import Rows
from gpt_tasks.metrics.classification import (
    BINS,
    confidence,
    confidence_bin,
    confusion_matrix,
    probabilities_of,
)
from gpt_tasks.threads import ignoring_warnings
from gpt_tasks.types import Score

if TYPE_CHECKING:
    import numpy

RESAMPLES = 1_000
PAIRED_RESAMPLES = 10_000
LEVELS = (0.025, 0.975)
Z = 1.959963984540054

# What a generic bootstrap may draw in all, which bounds its time, and what is held at once, which bounds its memory.
MOST_DRAWS = 20_000_000
MOST_AT_ONCE = 2_000_000


def macro_f1_interval(rows: Rows) -> tuple[float, float]:
    """Return the interval of macro F1: a percentile bootstrap over the confusion matrix's cells."""
    return confusion_interval(macro_f1_from_confusion, confusion_matrix(*rows.codes, rows.labels))


def mcc_interval(rows: Rows) -> tuple[float, float]:
    """Return the interval of the Matthews correlation: a percentile bootstrap over the confusion matrix's cells."""
    return confusion_interval(mcc_from_confusion, confusion_matrix(*rows.codes, rows.labels))


def ece_interval(rows: Rows) -> tuple[float, float]:
    """Return the interval of the calibration error; see `calibration_interval`."""
    references, predictions = rows.codes
    return calibration_interval(confidence(predictions, probabilities_of(rows)), references == predictions)


def wilson(successes: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a proportion (Wilson 1927); (0, 1) where there is nothing to count."""
    if n == 0:
        return 0.0, 1.0
    share = successes / n
    centre = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    reach = Z / (1 + Z**2 / n) * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    return (0.0 if successes == 0 else centre - reach), (1.0 if successes == n else centre + reach)


def proportion(successes: int, n: int) -> Score:
    """Return a proportion with Wilson's interval; 0 in [0, 1] where there is nothing to count."""
    return Score(successes / n if n else 0.0, *wilson(successes, n), n)


def label_f1(counts: numpy.ndarray, index: int) -> Score:
    """Return the F1 of the label at `index` of a confusion matrix `[labels, labels]`; n is its support.

    F1 = 2 J / (1 + J), where J is the share of true positives among the examples that have the label or were given
    it; the interval is Wilson's of J, carried over. A label that does not occur has F1 0 in [0, 1].
    """
    right, support = int(counts[index, index]), int(counts[index].sum())
    share = proportion(right, support + int(counts[:, index].sum()) - right)
    value, low, high = (2 * j / (1 + j) for j in (share.value, share.low, share.high))
    return Score(value, low, high, support)


def confusion_interval(
    function: Callable[[numpy.ndarray], numpy.ndarray], counts: numpy.ndarray, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap of a function of the confusion matrix, resampling over its cells.

    `function` takes matrices `[..., labels, labels]` and returns `[...]`. Where every answer is right, or every one
    wrong, resampling shows no spread: the far bound is then the metric's value with the accuracy at Wilson's bound,
    the errors spread evenly over the other labels.
    """
    import numpy

    low, high = _percentiles(numpy.concatenate([function(chunk) for chunk in _resampled_matrices(counts, seed)]))
    n, right, support = int(counts.sum()), int(counts.trace()), numpy.diag(counts.sum(1)).astype(float)
    if right == n:
        share = wilson(right, n)[0]
        spread = (counts.sum(1, keepdims=True) - support) / max(len(counts) - 1, 1)
        low = min(low, float(function(share * support + (1 - share) * spread)))
    elif right == 0:
        share = wilson(right, n)[1]
        high = max(high, float(function(share * support + (1 - share) * counts)))
    return low, high


def calibration_interval(confidences: numpy.ndarray, correct: numpy.ndarray, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % interval of the expected calibration error, from confidences and correctness `[n]`.

    The error of a sample is larger than that of its source, and a resample's larger again, so that percentiles would
    miss the truth. The lower bound reflects the upper percentile about the value, and is 0 where a perfectly
    calibrated model would show as large an error more often than once in forty; the upper bound is the upper
    percentile less the resamples' mean excess. Examples of one bin and nearly one confidence are resampled as one.
    """
    import numpy

    n, parts = len(confidences), 64
    bins = confidence_bin(confidences)
    part = numpy.clip((confidences * BINS - bins) * parts, 0, parts - 1).astype(numpy.int64)
    cells, cell_of = numpy.unique(bins * parts + part, return_inverse=True)
    counts, right = numpy.bincount(cell_of), numpy.bincount(cell_of, correct)
    mean = numpy.bincount(cell_of, confidences) / counts
    bin_of = numpy.zeros((len(cells), BINS))
    bin_of[numpy.arange(len(cells)), cells // parts] = 1.0

    def errors(number: numpy.ndarray, right: numpy.ndarray) -> numpy.ndarray:
        found: numpy.ndarray = numpy.abs((number * mean - right) @ bin_of).sum(-1) / n
        return found

    random = numpy.random.default_rng(seed)
    shares = numpy.concatenate([counts - right, right]) / n
    drawn = random.multinomial(n, shares / shares.sum(), RESAMPLES)
    wrong_drawn, right_drawn = drawn[:, : len(cells)], drawn[:, len(cells) :]
    resampled = errors(wrong_drawn + right_drawn, right_drawn)
    calibrated = errors(counts, random.binomial(counts, numpy.clip(mean, 0, 1), (RESAMPLES, len(cells))))

    value, top = float(errors(counts, right)), float(numpy.quantile(resampled, LEVELS[1]))
    plausible = value <= numpy.quantile(calibrated, LEVELS[1])
    low = 0.0 if plausible else max(0.0, 2 * value - top)
    return low, min(1.0, max(value, value + top - float(resampled.mean())))


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


FROM_CONFUSION: Mapping[str, Callable[[numpy.ndarray], numpy.ndarray]] = {
    "macro_f1": macro_f1_from_confusion,
    "mcc": mcc_from_confusion,
}
"""Registered metrics that follow from a confusion matrix, by name."""


def bootstrap_interval(computed: Callable[[numpy.ndarray], float], n: int, seed: int = 0) -> tuple[float, float]:
    """Return the percentile interval of a figure that is `computed` of resampled places `[n]`.

    It is computed 1,000 times up to 20,000 examples, beyond that as often as makes 20 million examples, but at least
    100 times; a resample on which it is not finite is left out. NaN where that is most of them. Warnings are not shown.
    """
    import numpy

    resamples = min(RESAMPLES, max(RESAMPLES // 10, MOST_DRAWS // n))
    random = numpy.random.default_rng(seed)
    with ignoring_warnings():
        draws = [computed(random.integers(0, n, n)) for _ in range(resamples)]
    defined = numpy.array([draw for draw in draws if math.isfinite(draw)])
    return _percentiles(defined) if len(defined) > resamples / 2 else (math.nan, math.nan)


def _resampled_matrices(counts: numpy.ndarray, seed: int) -> Iterator[numpy.ndarray]:
    """Draw 1,000 confusion matrices of the same size from a confusion matrix, some at a time."""
    import numpy

    random = numpy.random.default_rng(seed)
    rows, columns = numpy.nonzero(counts)
    n = int(counts.sum())
    for size in _chunks(RESAMPLES, counts.size):
        matrices = numpy.zeros((size, *counts.shape))
        matrices[:, rows, columns] = random.multinomial(n, counts[rows, columns] / n, size)
        yield matrices


def _chunks(resamples: int, cells: int) -> list[int]:
    at_once = max(1, MOST_AT_ONCE // cells)
    return [min(at_once, resamples - start) for start in range(0, resamples, at_once)]


def _percentiles(draws: numpy.ndarray) -> tuple[float, float]:
    import numpy

    low, high = numpy.quantile(draws, LEVELS)
    return float(low), float(high)
