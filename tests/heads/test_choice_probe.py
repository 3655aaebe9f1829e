"""The conditional logit finds what tells the right choice, and is the logistic regression where there are two."""

from __future__ import annotations

import numpy
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from gpt_tasks.heads.choice_probe import fit_choice_probe


def drawn(n: int, seed: int, most: int) -> tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray]:
    random = numpy.random.default_rng(seed)
    counts = random.integers(2, most + 1, n)
    starts = numpy.cumsum(counts) - counts
    features = random.normal(size=(counts.sum(), 6)) * numpy.array([1, 10, 0.1, 1, 1, 1]) + 5
    scores = features @ numpy.array([1, 0.1, -10, 0, 0, 0]) + 0.5 * random.normal(size=len(features))
    goals = numpy.array([scores[at : at + count].argmax() for at, count in zip(starts, counts, strict=True)])
    return features.astype(numpy.float32), starts, goals


def test_the_right_choice_is_found_whatever_the_number_of_choices() -> None:
    features, starts, goals = drawn(400, 0, 5)
    probe = fit_choice_probe(features, starts, goals, *drawn(200, 1, 5))
    tests, at, right = drawn(300, 2, 5)
    scores = tests @ probe.weight[0] + probe.bias[0]
    ends = numpy.append(at[1:], len(tests))
    found = [scores[start:end].argmax() for start, end in zip(at, ends, strict=True)]
    assert numpy.mean(found == right) > 0.8


def test_of_two_choices_it_is_the_logistic_regression_of_their_difference() -> None:
    features, starts, goals = drawn(500, 3, 2)
    probe = fit_choice_probe(features, starts, goals, *drawn(300, 4, 2))
    scaled = StandardScaler().fit_transform(features)
    difference = scaled[starts + 1] - scaled[starts]
    reference = LogisticRegression(C=probe.strength, fit_intercept=False, tol=1e-8, max_iter=1000)
    expected = reference.fit(difference, goals).coef_[0]
    found = probe.weight[0] * StandardScaler().fit(features).scale_
    numpy.testing.assert_allclose(found, expected, atol=1e-2)
