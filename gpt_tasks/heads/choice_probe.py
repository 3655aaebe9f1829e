"""The linear probe of multiple choice: a conditional logit of a frozen backbone's features, as a linear head."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy

from gpt_tasks.heads.linear_probe import STRENGTHS, Probe

if TYPE_CHECKING:
    from numpy.typing import NDArray


def fit_choice_probe(
    train: NDArray[numpy.float32],
    train_starts: NDArray[numpy.int64],
    train_goals: NDArray[numpy.int64],
    validation: NDArray[numpy.float32],
    validation_starts: NDArray[numpy.int64],
    validation_goals: NDArray[numpy.int64],
) -> Probe:
    """Fit one score for a choice by its features `[choices, features]`, and fold it into a linear head of one output.

    The choices of an example stand side by side from its place in `starts` `[n]` on, the right one at `goals` `[n]`
    behind that. The model is McFadden's (1974): a softmax over each example's scores, with a ridge penalty whose
    inverse strength C rises through `STRENGTHS` while the cross-entropy on the validation data falls.
    """
    from scipy.optimize import minimize
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(train)
    scaled = scaler.transform(train).astype(numpy.float64)
    right = train_starts + train_goals
    weight, best, least = numpy.zeros(train.shape[1]), None, numpy.inf
    for strength in STRENGTHS:

        def penalized(
            weight: NDArray[numpy.float64], strength: float = strength
        ) -> tuple[float, NDArray[numpy.float64]]:
            loss, shares = _cross_entropy(scaled @ weight, train_starts, right)
            shares[right] -= 1
            return strength * loss + float(weight @ weight) / 2, strength * (scaled.T @ shares) + weight

        weight = minimize(penalized, weight, jac=True, method="L-BFGS-B").x
        folded = (weight / scaler.scale_).astype(numpy.float32)
        found, _ = _cross_entropy(validation @ folded, validation_starts, validation_starts + validation_goals)
        if best is not None and found >= least:
            break
        best, least = Probe(folded[None], numpy.zeros(1, dtype=numpy.float32), strength), found
    assert best is not None
    return best


def _cross_entropy(
    scores: NDArray[numpy.float64], starts: NDArray[numpy.int64], right: NDArray[numpy.int64]
) -> tuple[float, NDArray[numpy.float64]]:
    """Return the summed cross-entropy of examples, and the probability of every choice."""
    owners = numpy.searchsorted(starts, numpy.arange(len(scores)), side="right") - 1
    raised = numpy.exp(scores - numpy.maximum.reduceat(scores, starts)[owners])
    shares = raised / numpy.add.reduceat(raised, starts)[owners]
    return float(-numpy.log(shares[right].clip(1e-300)).sum()), shares
