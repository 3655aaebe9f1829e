"""The linear probe folded into a head is scikit-learn's own classifier; of choices, their conditional logit."""

from __future__ import annotations

import tracemalloc

import numpy
import pytest
import torch
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from gpt_tasks.heads import linear_probe
from gpt_tasks.heads.linear_probe import C_VALUES, Probe, fit_choice_probe, fit_probe
from gpt_tasks.heads.sequence import SequenceHead


def data(outputs: int, n: int = 400, hidden: int = 16) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Features of unlike scales and means, one of them constant, and labels that depend on them with noise."""
    draw = numpy.random.default_rng(outputs)
    plain = draw.normal(size=(n, hidden))
    labels = (plain @ draw.normal(size=(hidden, outputs)) + 2 * draw.normal(size=(n, outputs))).argmax(axis=1)
    features = plain * draw.uniform(0.01, 30, hidden) + draw.normal(size=hidden) * 10
    features[:, 3] = 5.0
    return features.astype(numpy.float32), labels


def head_of(probe: Probe) -> SequenceHead:
    outputs, hidden = probe.weight.shape
    head = SequenceHead(hidden, outputs).eval()
    head.load_state_dict({"linear.weight": torch.from_numpy(probe.weight), "linear.bias": torch.from_numpy(probe.bias)})
    return head


@pytest.mark.parametrize("outputs", [2, 3, 5])
def test_the_head_gives_the_probabilities_of_scikit_learn(outputs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_probe, "_TOLERANCE", 1e-6)
    features, labels = data(outputs)
    probe = fit_probe(features[:300], labels[:300], features[300:], labels[300:], outputs)
    reference = make_pipeline(StandardScaler(), LogisticRegression(C=probe.C, tol=1e-6, max_iter=1000))
    expected = reference.fit(features[:300], labels[:300]).predict_proba(features[300:])
    hidden = torch.from_numpy(features[300:]).unsqueeze(1)
    with torch.no_grad():
        found = head_of(probe)(hidden, torch.ones(len(hidden), 1)).softmax(dim=-1)
    numpy.testing.assert_allclose(found.numpy(), expected, atol=1e-3)


def test_c_is_chosen_on_the_validation_data() -> None:
    features, labels = data(3, n=1200)
    easy = fit_probe(features[:900], labels[:900], features[900:], labels[900:], 3).C
    noise = numpy.random.default_rng(0).permutation(labels)
    hopeless = fit_probe(features[:900], noise[:900], features[900:], noise[900:], 3).C
    assert hopeless == C_VALUES[0]
    assert C_VALUES[0] < easy


def test_validation_data_take_no_memory_for_all_their_logits_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = numpy.arange(20_000) % 50
    features = numpy.stack([numpy.cos(labels), numpy.sin(labels)], axis=1).astype(numpy.float32)
    train = (features[:100], labels[:100])
    whole = fit_probe(*train, features, labels, 50)
    monkeypatch.setattr(linear_probe, "_LOGITS_AT_ONCE", 50 * 500)
    tracemalloc.start()
    try:
        found = fit_probe(*train, features, labels, 50)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found.C == whole.C
    assert numpy.array_equal(found.weight, whole.weight)
    assert peak < 20_000 * 50 * 8 / 2


def test_a_label_without_training_rows_is_never_likely() -> None:
    features, labels = data(2)
    probe = fit_probe(features[:300], 2 * labels[:300], features[300:], 2 * labels[300:], 3)
    probabilities = softmax(features @ probe.weight.T + probe.bias, axis=-1)
    assert probabilities[:, 1].max() < 1e-10
    assert (probabilities.argmax(axis=-1) == 2 * labels).mean() > 0.7


def test_class_weights_favour_the_label_that_weighs_more() -> None:
    features, labels = data(2)
    labels = numpy.where(numpy.random.default_rng(0).random(len(labels)) < 0.7, 0, labels)
    plain = fit_probe(features[:300], labels[:300], features[300:], labels[300:], 2)
    weighed = fit_probe(
        features[:300], labels[:300], features[300:], labels[300:], 2, numpy.array([0.6, 3.0], dtype=numpy.float32)
    )
    share = [(features @ probe.weight.T + probe.bias).argmax(axis=-1).mean() for probe in (plain, weighed)]
    assert share[1] > share[0] + 0.1


def test_each_label_is_fitted_for_itself_and_one_that_never_varies_is_certain() -> None:
    features, labels = data(3)
    targets = numpy.stack([labels == 0, labels != 1, labels < 0, labels >= 0], axis=1).astype(numpy.float32)
    probe = fit_probe(features[:300], targets[:300], features[300:], targets[300:], 4, kind="binary")
    scaler = StandardScaler().fit(features[:300])
    logits = features[300:] @ probe.weight.T + probe.bias
    for label in (0, 1):
        alone = LogisticRegression(C=probe.C, max_iter=1000).fit(scaler.transform(features[:300]), targets[:300, label])
        expected = alone.decision_function(scaler.transform(features[300:]))
        assert numpy.corrcoef(logits[:, label], expected)[0, 1] > 0.999
    assert (logits[:, 2] < -20).all()
    assert (logits[:, 3] > 20).all()


def test_numbers_are_fitted_by_ridge_regression() -> None:
    from sklearn.linear_model import Ridge

    features, _ = data(2)
    draw = numpy.random.default_rng(3)
    scaled = StandardScaler().fit_transform(features)
    numbers = (scaled @ draw.normal(size=scaled.shape[1]) + draw.normal(size=len(scaled))).astype(numpy.float32)
    probe = fit_probe(features[:300], numbers[:300], features[300:], numbers[300:], 1, kind="ridge")
    scaler = StandardScaler().fit(features[:300])
    expected = Ridge(alpha=1 / probe.C).fit(scaler.transform(features[:300]), numbers[:300])
    found = (features[300:] @ probe.weight.T + probe.bias)[:, 0]
    numpy.testing.assert_allclose(found, expected.predict(scaler.transform(features[300:])), atol=1e-2)
    assert numpy.corrcoef(found, numbers[300:])[0, 1] > 0.9


def drawn(n: int, seed: int, most: int) -> tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray]:
    random = numpy.random.default_rng(seed)
    counts = random.integers(2, most + 1, n)
    starts = numpy.cumsum(counts) - counts
    features = random.normal(size=(counts.sum(), 6)) * numpy.array([1, 10, 0.1, 1, 1, 1]) + 5
    scores = features @ numpy.array([1, 0.1, -10, 0, 0, 0]) + 0.5 * random.normal(size=len(features))
    labels = numpy.array([scores[at : at + count].argmax() for at, count in zip(starts, counts, strict=True)])
    return features.astype(numpy.float32), starts, labels


def test_the_right_choice_is_found_for_any_number_of_choices() -> None:
    features, starts, labels = drawn(400, 0, 5)
    probe = fit_choice_probe(features, starts, labels, *drawn(200, 1, 5))
    tests, at, right = drawn(300, 2, 5)
    scores = tests @ probe.weight[0] + probe.bias[0]
    ends = numpy.append(at[1:], len(tests))
    found = [scores[start:end].argmax() for start, end in zip(at, ends, strict=True)]
    assert numpy.mean(found == right) > 0.8


def test_of_two_choices_it_is_the_logistic_regression_of_their_difference() -> None:
    features, starts, labels = drawn(500, 3, 2)
    probe = fit_choice_probe(features, starts, labels, *drawn(300, 4, 2))
    scaled = StandardScaler().fit_transform(features)
    difference = scaled[starts + 1] - scaled[starts]
    reference = LogisticRegression(C=probe.C, fit_intercept=False, tol=1e-8, max_iter=1000)
    expected = reference.fit(difference, labels).coef_[0]
    found = probe.weight[0] * StandardScaler().fit(features).scale_
    numpy.testing.assert_allclose(found, expected, atol=1e-2)
