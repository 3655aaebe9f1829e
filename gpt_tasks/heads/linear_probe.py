"""The linear probe: a logistic regression on a frozen backbone's features, folded into a linear head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

STRENGTHS = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
# Far below what a validation set of thousands can tell apart, and three times sooner than scikit-learn's default.
_TOLERANCE = 1e-3
# The largest of the other logits is never below zero, so that this one means a probability below 1e-13.
_NEVER = -30.0


@dataclass(frozen=True)
class Probe:
    """A linear head: `weight` `[outputs, hidden]`, `bias` `[outputs]`, and the inverse regularisation chosen for it."""

    weight: NDArray[numpy.float32]
    bias: NDArray[numpy.float32]
    strength: float


def fit_probe(
    train: NDArray[numpy.float32],
    train_labels: NDArray[numpy.int64],
    validation: NDArray[numpy.float32],
    validation_labels: NDArray[numpy.int64],
    outputs: int,
    class_weights: NDArray[numpy.float32] | None = None,
) -> Probe:
    """Fit a multinomial logistic regression on standardised features `[n, hidden]` and fold it into a linear head.

    The inverse regularisation strength C rises through `STRENGTHS` while the cross-entropy on the validation data
    falls. `class_weights` `[outputs]` weigh the rows of each label. A label that no training row has gets a
    probability near zero.
    """
    from scipy.special import log_softmax
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    weights = numpy.ones(outputs) if class_weights is None else class_weights
    scaler = StandardScaler().fit(train)
    scaled = scaler.transform(train)
    classifier = LogisticRegression(tol=_TOLERANCE, max_iter=1000, warm_start=True)
    best, least = None, numpy.inf
    for strength in STRENGTHS:
        classifier.set_params(C=strength).fit(scaled, train_labels, sample_weight=weights[train_labels])
        probe = _folded(classifier, scaler, outputs, strength)
        log_probabilities = log_softmax(validation @ probe.weight.T + probe.bias, axis=-1)
        loss = -weights[validation_labels] @ log_probabilities[numpy.arange(len(validation)), validation_labels]
        if best is not None and loss >= least:
            break
        best, least = probe, loss
    assert best is not None
    return best


def _folded(classifier: LogisticRegression, scaler: StandardScaler, outputs: int, strength: float) -> Probe:
    """Turn a classifier of standardised features into a linear head on the features as they are."""
    coefficients, intercepts = classifier.coef_, classifier.intercept_
    if len(classifier.classes_) == 2:
        # scikit-learn keeps one logit for two classes; half of it for and against are two with the same softmax.
        coefficients = numpy.concatenate([-coefficients, coefficients]) / 2
        intercepts = numpy.concatenate([-intercepts, intercepts]) / 2
    weight = numpy.zeros((outputs, coefficients.shape[1]), dtype=numpy.float32)
    bias = numpy.full(outputs, _NEVER, dtype=numpy.float32)
    weight[classifier.classes_] = coefficients / scaler.scale_
    bias[classifier.classes_] = intercepts - (coefficients / scaler.scale_) @ scaler.mean_
    return Probe(weight, bias, strength)
