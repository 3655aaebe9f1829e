"""Metrics of single-label classification: plain functions over scikit-learn, all with the signature of `Metric`.

References and predictions are label indices `[n]`, probabilities `[n, labels]`, labels the names in the model's order.
A ratio that has nothing to divide by (a label that is never predicted, or never right) is 0, without a warning.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy

BINS = 15


def accuracy(
    references: numpy.ndarray, predictions: numpy.ndarray, probabilities: numpy.ndarray, labels: Sequence[str]
) -> float:
    """Share of examples whose predicted label is the right one."""
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(references, predictions))


def macro_f1(
    references: numpy.ndarray, predictions: numpy.ndarray, probabilities: numpy.ndarray, labels: Sequence[str]
) -> float:
    """Unweighted mean of the labels' F1, over those that occur among references or predictions."""
    from sklearn.metrics import f1_score

    return float(f1_score(references, predictions, average="macro", zero_division=0))


def micro_f1(
    references: numpy.ndarray, predictions: numpy.ndarray, probabilities: numpy.ndarray, labels: Sequence[str]
) -> float:
    """F1 over the decisions of all labels together."""
    from sklearn.metrics import f1_score

    return float(f1_score(references, predictions, average="micro", zero_division=0))


def mcc(
    references: numpy.ndarray, predictions: numpy.ndarray, probabilities: numpy.ndarray, labels: Sequence[str]
) -> float:
    """Matthews correlation coefficient for any number of labels (Gorodkin 2004, eq. 8); 0 where undefined."""
    import numpy
    from sklearn.metrics import matthews_corrcoef

    # scikit-learn answers 0 too, but with a warning.
    if numpy.array_equal(references, predictions) and len(numpy.unique(references)) < 2:
        return 0.0
    return float(matthews_corrcoef(references, predictions))


def ece(
    references: numpy.ndarray, predictions: numpy.ndarray, probabilities: numpy.ndarray, labels: Sequence[str]
) -> float:
    """Expected calibration error over 15 equal bins of confidence (Guo et al. 2017, eq. 3).

    The confidence is the probability given to the predicted label. NaN probabilities give NaN.
    """
    import numpy

    confidences = confidence(predictions, probabilities)
    if numpy.isnan(confidences).any():
        return float("nan")
    gaps = confidences - (references == predictions)
    return float(numpy.abs(numpy.bincount(confidence_bin(confidences), gaps, BINS)).sum() / len(gaps))


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


def per_label(
    references: numpy.ndarray, predictions: numpy.ndarray, labels: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Return `precision`, `recall`, `f1` and `support` (how many examples have the label) of each label."""
    from sklearn.metrics import precision_recall_fscore_support

    columns = precision_recall_fscore_support(
        references, predictions, labels=range(len(labels)), average=None, zero_division=0
    )
    names = ("precision", "recall", "f1", "support")
    return {
        label: {name: float(value) for name, value in zip(names, values, strict=True)}
        for label, *values in zip(labels, *columns, strict=True)
    }
