"""Metrics of one of several labels; those that are not means over examples are functions of all `Rows`.

A ratio that has nothing to divide by (a label that is never predicted, or never right) is 0, without a warning.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gpt_tasks.errors import UsageError
from gpt_tasks.extensions import Rows

if TYPE_CHECKING:
    import numpy

BINS = 15


def is_right(answer: object, references: Sequence[object]) -> float:
    """Return 1 where an answer is one of the right ones, else 0."""
    return float(answer in references)


def macro_f1(rows: Rows) -> float:
    """Unweighted mean of the labels' F1, over those that occur among references or predictions."""
    from sklearn.metrics import f1_score

    return float(f1_score(*rows.codes, average="macro", zero_division=0))


def mcc(rows: Rows) -> float:
    """Matthews correlation coefficient for any number of labels (Gorodkin 2004, eq. 8); 0 where undefined."""
    import numpy
    from sklearn.metrics import matthews_corrcoef

    references, predictions = rows.codes
    # scikit-learn answers 0 too, but with a warning.
    if numpy.array_equal(references, predictions) and len(numpy.unique(references)) < 2:
        return 0.0
    return float(matthews_corrcoef(references, predictions))


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


def confusion_matrix(references: numpy.ndarray, predictions: numpy.ndarray, labels: Sequence[str]) -> numpy.ndarray:
    """Count examples by right label (rows) and predicted label (columns), `[labels, labels]`, in the model's order."""
    from sklearn import metrics

    counts: numpy.ndarray = metrics.confusion_matrix(references, predictions, labels=range(len(labels)))
    return counts
