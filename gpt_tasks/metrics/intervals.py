"""95 % intervals of scores, and whether one system is really better than another on the same examples."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpt_tasks.errors import GptTasksError, PluginError
from gpt_tasks.extensions import Metric
from gpt_tasks.metrics.classification import (
    BINS,
    accuracy,
    confidence,
    confidence_bin,
    confusion_matrix,
    ece,
    macro_f1,
    mcc,
    micro_f1,
)
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


@dataclass(frozen=True, slots=True)
class Difference:
    """How much more often a is right than b on the same `n` examples, with its 95 % interval and two-sided p-value."""

    value: float
    low: float
    high: float
    p_value: float
    n: int


def score(
    metric: Metric,
    references: numpy.ndarray,
    predictions: numpy.ndarray,
    probabilities: numpy.ndarray,
    labels: Sequence[str],
    *,
    seed: int = 0,
) -> Score:
    """Compute a metric and its 95 % interval; arrays as in `Metric`.

    Proportions (accuracy, micro F1) get Wilson's interval; macro F1 and MCC a percentile bootstrap of 1,000 resamples
    over the cells of the confusion matrix; the calibration error the one of `calibration_interval`. Any other metric
    is computed anew on resampled examples: 1,000 times up to 20,000 examples, beyond that as often as makes
    20 million examples, but at least 100 times; a resample on which it is undefined is left out. The interval is NaN
    where the value is, or where the metric is undefined on most resamples.

    Raises PluginError where the metric's function raises or returns no number.
    """
    n = len(references)

    def computed(rows: numpy.ndarray | slice) -> float:
        return compute(metric, (references[rows], predictions[rows], probabilities[rows], labels))

    value = computed(slice(None))
    if not math.isfinite(value):
        low = high = value
    elif metric.function in (accuracy, micro_f1):
        low, high = wilson(int((references == predictions).sum()), n)
    elif metric.function in FROM_CONFUSION:
        counts = confusion_matrix(references, predictions, labels)
        low, high = confusion_interval(FROM_CONFUSION[metric.function], counts, seed)
    elif metric.function is ece:
        low, high = calibration_interval(confidence(predictions, probabilities), references == predictions, seed)
    else:
        low, high = _index_bootstrap(computed, n, seed)
    return Score(value, min(low, value), max(high, value), n)


def compute(metric: Metric, arguments: tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray, Sequence[str]]) -> float:
    """Compute a metric; arguments as in `Metric`. Raises PluginError where its function raises or gives no number."""
    try:
        return float(metric.function(*arguments))
    except GptTasksError:
        raise
    except Exception as error:
        module = getattr(metric.function, "__module__", "an unknown module")
        raise PluginError(
            f"The metric '{metric.name}' of {module} failed: {type(error).__name__}: {error}",
            "Fix or uninstall the plugin that brings it, or leave the metric out.",
        ) from error


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


def paired_bootstrap(correct_a: numpy.ndarray, correct_b: numpy.ndarray, seed: int = 0) -> Difference:
    """Compare two systems on the same examples by 10,000 paired resamples.

    `correct_a` and `correct_b` `[n]` say for each example how right each system is: booleans, or shares over several
    seeds. The two-sided p-value is the share of resamples whose difference, recentred on zero, is at least as large as
    the one observed (Efron and Tibshirani 1993, section 16.4), so it is never below 1 / 10,001.
    """
    import numpy

    if correct_a.shape != correct_b.shape or not len(correct_a):
        raise ValueError(f"paired systems need the same examples, got {correct_a.shape} and {correct_b.shape}")
    differences = correct_a.astype(numpy.float64) - correct_b
    # Rounding lets shares such as 2/3 - 1/3 and 1/3 - 0 fall into one cell.
    steps, counts = numpy.unique(differences.round(9), return_counts=True)
    n, value = len(differences), float(differences.mean())
    random = numpy.random.default_rng(seed)
    chunks = _chunks(PAIRED_RESAMPLES, len(steps))
    draws = numpy.concatenate([random.multinomial(n, counts / n, size) @ steps / n for size in chunks])
    low, high = _percentiles(draws)
    extreme = int((numpy.abs(draws - value) >= abs(value) - 1e-9).sum())
    return Difference(value, min(low, value), max(high, value), (1 + extreme) / (1 + len(draws)), n)


def _macro_f1_from_confusion(counts: numpy.ndarray) -> numpy.ndarray:
    import numpy

    right, occurrences = numpy.diagonal(counts, axis1=-2, axis2=-1), counts.sum(-1) + counts.sum(-2)
    total = (2 * right / numpy.maximum(occurrences, 1e-300)).sum(-1)
    mean: numpy.ndarray = total / (occurrences > 0).sum(-1)
    return mean


def _mcc_from_confusion(counts: numpy.ndarray) -> numpy.ndarray:
    import numpy

    counts = counts.astype(numpy.float64)
    right, n = numpy.trace(counts, axis1=-2, axis2=-1), counts.sum((-2, -1))
    true, predicted = counts.sum(-1), counts.sum(-2)
    covariance = right * n - (true * predicted).sum(-1)
    spread = (n**2 - (predicted**2).sum(-1)) * (n**2 - (true**2).sum(-1))
    return numpy.where(spread > 0, covariance / numpy.sqrt(numpy.maximum(spread, 1e-300)), 0.0)


FROM_CONFUSION = {macro_f1: _macro_f1_from_confusion, mcc: _mcc_from_confusion}


def _index_bootstrap(computed: Callable[[numpy.ndarray], float], n: int, seed: int) -> tuple[float, float]:
    import numpy

    resamples = min(RESAMPLES, max(RESAMPLES // 10, MOST_DRAWS // n))
    random = numpy.random.default_rng(seed)
    draws = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(resamples):
            chosen = random.integers(0, n, n)
            with suppress(PluginError):
                draws.append(computed(chosen))
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
