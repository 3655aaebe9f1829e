"""The linear probe folded into a head is scikit-learn's own classifier."""

from __future__ import annotations

import numpy
import pytest
import torch
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from gpt_tasks.heads import linear_probe
from gpt_tasks.heads.linear_probe import STRENGTHS, Probe, fit_probe
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
    reference = make_pipeline(StandardScaler(), LogisticRegression(C=probe.strength, tol=1e-6, max_iter=1000))
    expected = reference.fit(features[:300], labels[:300]).predict_proba(features[300:])
    hidden = torch.from_numpy(features[300:]).unsqueeze(1)
    with torch.no_grad():
        found = head_of(probe)(hidden, torch.ones(len(hidden), 1)).softmax(dim=-1)
    numpy.testing.assert_allclose(found.numpy(), expected, atol=1e-3)


def test_the_strength_is_chosen_on_the_validation_data() -> None:
    features, labels = data(3, n=1200)
    easy = fit_probe(features[:900], labels[:900], features[900:], labels[900:], 3).strength
    noise = numpy.random.default_rng(0).permutation(labels)
    hopeless = fit_probe(features[:900], noise[:900], features[900:], noise[900:], 3).strength
    assert hopeless == STRENGTHS[0]
    assert STRENGTHS[0] < easy


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
    goals = numpy.stack([labels == 0, labels != 1, labels < 0, labels >= 0], axis=1).astype(numpy.float32)
    probe = fit_probe(features[:300], goals[:300], features[300:], goals[300:], 4, loss="binary")
    scaler = StandardScaler().fit(features[:300])
    logits = features[300:] @ probe.weight.T + probe.bias
    for label in (0, 1):
        alone = LogisticRegression(C=probe.strength, max_iter=1000).fit(
            scaler.transform(features[:300]), goals[:300, label]
        )
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
    probe = fit_probe(features[:300], numbers[:300], features[300:], numbers[300:], 1, loss="squared")
    scaler = StandardScaler().fit(features[:300])
    expected = Ridge(alpha=1 / probe.strength).fit(scaler.transform(features[:300]), numbers[:300])
    found = (features[300:] @ probe.weight.T + probe.bias)[:, 0]
    numpy.testing.assert_allclose(found, expected.predict(scaler.transform(features[300:])), atol=1e-2)
    assert numpy.corrcoef(found, numbers[300:])[0, 1] > 0.9
