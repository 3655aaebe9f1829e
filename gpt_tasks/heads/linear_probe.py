"""The linear probe: a linear model of a frozen backbone's features, fitted at once and folded into a linear head."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy

if TYPE_CHECKING:
    from numpy.typing import NDArray

Linear = tuple["NDArray[numpy.float64]", "NDArray[numpy.float64]"]
"""Coefficients `[outputs, features]` and intercepts `[outputs]` of standardised features."""

ProbeKind = Literal["multinomial", "binary", "ridge"]
"""One logistic regression over all labels, one for each label, or a ridge regression."""

C_VALUES = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
# Far below what a validation set of thousands can resolve, and three times faster than scikit-learn's default.
_TOLERANCE = 1e-3
# Of validation data, which can be a tenth of millions of rows, with a thousand labels each.
_LOGITS_AT_ONCE = 2_000_000
# The largest of the other logits is never below zero, so that this one means a probability below 1e-13.
_NEVER = -30.0


@dataclass(frozen=True)
class Probe:
    """A linear head: `weight` `[outputs, features]`, `bias` `[outputs]`, and the inverse regularisation strength C."""

    weight: NDArray[numpy.float32]
    bias: NDArray[numpy.float32]
    C: float


def fit_probe(
    train: NDArray[numpy.float32],
    train_labels: NDArray[numpy.generic],
    validation: NDArray[numpy.float32],
    validation_labels: NDArray[numpy.generic],
    outputs: int,
    class_weights: NDArray[numpy.float32] | None = None,
    *,
    kind: ProbeKind = "multinomial",
) -> Probe:
    """Fit a linear model of features `[n, features]` to labels, and fold it into a linear head.

    The features are standardised, and the model is a multinomial logistic regression, one logistic regression for each
    label, or a ridge regression. The inverse regularisation strength C rises through `C_VALUES` while its loss falls on
    the validation data. `class_weights` `[outputs]` weigh the rows of each
    label of a multinomial regression. A label that no training row has gets a probability near zero.
    """
    from sklearn.preprocessing import StandardScaler

    weights = numpy.ones(outputs) if class_weights is None else class_weights
    scaler = StandardScaler().fit(train)
    fitted, loss = _KINDS[kind]
    rows = max(1, _LOGITS_AT_ONCE // outputs)
    fit = fitted(scaler.transform(train), train_labels, weights)
    best, least = None, numpy.inf
    for strength in C_VALUES:
        coefficients, intercepts = fit(strength)
        weight = (coefficients / scaler.scale_).astype(numpy.float32)
        bias = (intercepts - weight @ scaler.mean_).astype(numpy.float32)
        found = 0.0
        for start in range(0, len(validation), rows):
            some = slice(start, start + rows)
            found += loss(validation[some] @ weight.T + bias, validation_labels[some], weights)
        if best is not None and found >= least:
            break
        best, least = Probe(weight, bias, strength), found
    assert best is not None
    return best


def fit_choice_probe(
    train: NDArray[numpy.float32],
    train_starts: NDArray[numpy.int64],
    train_labels: NDArray[numpy.int64],
    validation: NDArray[numpy.float32],
    validation_starts: NDArray[numpy.int64],
    validation_labels: NDArray[numpy.int64],
) -> Probe:
    """Fit one score for a choice by its features `[choices, features]`, and fold it into a linear head of one output.

    The choices of an example are one after the other from its place in `starts` `[n]` on, the right one at `labels`
    `[n]` behind that. The model is McFadden's (1974): a softmax over each example's scores, with a ridge penalty whose
    inverse strength C rises through `C_VALUES` while the cross-entropy on the validation data falls.
    """
    from scipy.optimize import minimize
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(train)
    scaled = scaler.transform(train).astype(numpy.float64)
    right = train_starts + train_labels
    weight, best, least = numpy.zeros(train.shape[1]), None, numpy.inf
    for strength in C_VALUES:

        def penalized(
            weight: NDArray[numpy.float64], strength: float = strength
        ) -> tuple[float, NDArray[numpy.float64]]:
            loss, shares = _choice_cross_entropy(scaled @ weight, train_starts, right)
            shares[right] -= 1
            return strength * loss + float(weight @ weight) / 2, strength * (scaled.T @ shares) + weight

        weight = minimize(penalized, weight, jac=True, method="L-BFGS-B").x
        folded = (weight / scaler.scale_).astype(numpy.float32)
        found, _ = _choice_cross_entropy(validation @ folded, validation_starts, validation_starts + validation_labels)
        if best is not None and found >= least:
            break
        best, least = Probe(folded[None], numpy.zeros(1, dtype=numpy.float32), strength), found
    assert best is not None
    return best


def _multinomial(
    features: NDArray[numpy.float64], labels: NDArray[numpy.int64], weights: NDArray[numpy.float64]
) -> Callable[[float], Linear]:
    from sklearn.linear_model import LogisticRegression

    classifier = LogisticRegression(tol=_TOLERANCE, max_iter=1000, warm_start=True)

    def fit(strength: float) -> Linear:
        classifier.set_params(C=strength).fit(features, labels, sample_weight=weights[labels])
        coefficients, intercepts = classifier.coef_, classifier.intercept_
        if len(classifier.classes_) == 2:
            # scikit-learn has one logit for two classes; plus and minus half of it give the same softmax.
            coefficients = numpy.concatenate([-coefficients, coefficients]) / 2
            intercepts = numpy.concatenate([-intercepts, intercepts]) / 2
        weight, bias = numpy.zeros((len(weights), features.shape[1])), numpy.full(len(weights), _NEVER)
        weight[classifier.classes_], bias[classifier.classes_] = coefficients, intercepts
        return weight, bias

    return fit


def _each_label(
    features: NDArray[numpy.float64], labels: NDArray[numpy.float32], weights: NDArray[numpy.float64]
) -> Callable[[float], Linear]:
    from sklearn.linear_model import LogisticRegression

    classifiers = [LogisticRegression(tol=_TOLERANCE, max_iter=1000, warm_start=True) for _ in weights]

    def fit(strength: float) -> Linear:
        weight, bias = numpy.zeros((len(weights), features.shape[1])), numpy.zeros(len(weights))
        for label, (classifier, right) in enumerate(zip(classifiers, labels.T, strict=True)):
            if right.min() == right.max():
                bias[label] = -_NEVER if right.any() else _NEVER
                continue
            classifier.set_params(C=strength).fit(features, right)
            weight[label], bias[label] = classifier.coef_[0], classifier.intercept_[0]
        return weight, bias

    return fit


def _ridge(
    features: NDArray[numpy.float64], numbers: NDArray[numpy.float32], weights: NDArray[numpy.float64]
) -> Callable[[float], Linear]:
    from sklearn.linear_model import Ridge

    def fit(strength: float) -> Linear:
        model = Ridge(alpha=1 / strength).fit(features, numbers)
        return model.coef_[None], numpy.array([model.intercept_])

    return fit


def _cross_entropy(
    logits: NDArray[numpy.float64], labels: NDArray[numpy.int64], weights: NDArray[numpy.float64]
) -> float:
    from scipy.special import log_softmax

    return float(-weights[labels] @ log_softmax(logits, axis=-1)[numpy.arange(len(labels)), labels])


def _binary(logits: NDArray[numpy.float64], labels: NDArray[numpy.float32], weights: NDArray[numpy.float64]) -> float:
    return float((numpy.logaddexp(0, logits) - labels * logits).sum())


def _squared(logits: NDArray[numpy.float64], numbers: NDArray[numpy.float32], weights: NDArray[numpy.float64]) -> float:
    return float(((logits[:, 0] - numbers) ** 2).sum())


_KINDS: dict[ProbeKind, tuple[Callable[..., Callable[[float], Linear]], Callable[..., float]]] = {
    "multinomial": (_multinomial, _cross_entropy),
    "binary": (_each_label, _binary),
    "ridge": (_ridge, _squared),
}


def _choice_cross_entropy(
    scores: NDArray[numpy.float64], starts: NDArray[numpy.int64], right: NDArray[numpy.int64]
) -> tuple[float, NDArray[numpy.float64]]:
    """Return the summed cross-entropy of examples, and the probability of every choice."""
    owners = numpy.searchsorted(starts, numpy.arange(len(scores)), side="right") - 1
    raised = numpy.exp(scores - numpy.maximum.reduceat(scores, starts)[owners])
    shares = raised / numpy.add.reduceat(raised, starts)[owners]
    return float(-numpy.log(shares[right].clip(1e-300)).sum()), shares
