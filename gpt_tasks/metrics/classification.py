"""Metrics of one of several labels; those that are not means over examples are functions of all `Rows`.

A ratio that has nothing to divide by (a label that is never predicted, or never right) is 0, without a warning.
"""

from __future__ import annotations

from collections.abc import Sequence

from gpt_tasks.extensions import Rows


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
