"""Intervals cover what they promise to, are the same for the same seed, and stay quick and small on a million rows."""

from __future__ import annotations

import math
import time
import tracemalloc
from statistics import NormalDist

import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from gpt_tasks.errors import PluginError
from gpt_tasks.extensions import Metric
from gpt_tasks.metrics import METRICS
from gpt_tasks.metrics.classification import confusion_matrix
from gpt_tasks.metrics.intervals import (
    FROM_CONFUSION,
    label_f1,
    paired_bootstrap,
    proportion,
    score,
    wilson,
)

BY_NAME = {metric.name: metric for metric in METRICS}
LABELS = ("a", "b", "c")


def simulated(n: int, seed: int, labels: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    references = random.choice(labels, n, p=np.arange(1, labels + 1) / np.arange(1, labels + 1).sum())
    logits = random.normal(size=(n, labels))
    logits[np.arange(n), references] += 1.2
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return references, probabilities.argmax(1), probabilities


def test_wilson_against_a_published_value() -> None:
    # Newcombe 1998, Statistics in Medicine 17, table I, method 3 (score without continuity correction).
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0, 0.1611), abs=5e-5)
    assert wilson(1, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)


def test_wilson_at_its_ends() -> None:
    assert wilson(0, 0) == (0, 1)
    assert wilson(5, 5)[1] == 1
    assert proportion(0, 0).value == 0


@pytest.mark.parametrize("name", ["macro_f1", "mcc"])
def test_the_confusion_form_is_the_metric(name: str) -> None:
    metric = BY_NAME[name]
    for seed in range(5):
        references, predictions, probabilities = simulated(40, seed)
        labels = (*LABELS, "never seen")
        counts = confusion_matrix(references, predictions, labels)
        value = metric.function(references, predictions, probabilities, labels)
        assert float(FROM_CONFUSION[metric.function](counts)) == pytest.approx(value)


@pytest.mark.parametrize("name", ["accuracy", "macro_f1", "micro_f1", "mcc"])
def test_intervals_cover_the_truth_about_95_times_in_100(name: str) -> None:
    metric = BY_NAME[name]
    truth = metric.function(*simulated(400_000, 12345), LABELS)
    covered = 0
    for seed in range(200):
        found = score(metric, *simulated(250, seed), LABELS)
        covered += found.low <= truth <= found.high
    # Outside of this lies a true coverage of 95 % less often than once in a thousand.
    assert 179 <= covered <= 199


@pytest.mark.parametrize("overconfidence", [0.0, 0.1])
def test_the_calibration_interval_covers_the_truth_where_percentiles_never_do(overconfidence: float) -> None:
    covered = 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        confidence = random.uniform(0.6, 1, 300)
        right = random.random(300) < confidence - overconfidence
        probabilities = np.stack([confidence, 1 - confidence], axis=1)
        found = score(BY_NAME["ece"], (~right).astype(int), np.zeros(300, int), probabilities, ("a", "b"))
        assert found.low <= found.value <= found.high
        covered += found.low <= overconfidence <= found.high
    assert covered >= 52


def test_the_generic_bootstrap_agrees_with_the_one_over_cells() -> None:
    def my_macro_f1(references, predictions, probabilities, labels):  # type: ignore[no-untyped-def]
        return f1_score(references, predictions, average="macro")

    given = simulated(600, 3)
    ours = score(BY_NAME["macro_f1"], *given, LABELS)
    generic = score(Metric("mine", "", my_macro_f1), *given, LABELS)
    assert generic.value == pytest.approx(ours.value)
    assert generic.low == pytest.approx(ours.low, abs=0.01)
    assert generic.high == pytest.approx(ours.high, abs=0.01)


def test_the_same_seed_gives_the_same_interval() -> None:
    given = simulated(100, 1)
    mine = Metric("mine", "", lambda r, p, q, labels: float((r == p).mean()))
    for metric in (*METRICS, mine):
        assert score(metric, *given, LABELS, seed=4) == score(metric, *given, LABELS, seed=4)
    assert score(mine, *given, LABELS, seed=4) != score(mine, *given, LABELS, seed=5)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("right", [True, False])
def test_few_examples_leave_wide_intervals(n: int, right: bool) -> None:
    references = np.arange(n) % 2
    predictions = references if right else 1 - references
    probabilities = np.eye(3)[predictions] * 0.7 + 0.1
    for metric in METRICS:
        found = score(metric, references, predictions, probabilities, LABELS)
        assert all(map(math.isfinite, (found.value, found.low, found.high)))
        assert found.low <= found.value <= found.high
        assert found.n == n
        if metric.name in ("accuracy", "macro_f1", "micro_f1"):
            assert found.high - found.low > 0.3


def test_a_majority_predictor_has_no_doubt_about_its_mcc() -> None:
    references = np.array([0] * 30 + [1] * 10)
    found = score(BY_NAME["mcc"], references, np.zeros(40, int), np.tile([0.75, 0.25], (40, 1)), ("a", "b"))
    assert (found.value, found.low, found.high) == (0, 0, 0)


def test_label_f1_and_its_interval() -> None:
    counts = np.array([[8, 2, 0], [3, 7, 0], [0, 0, 0]])
    found = label_f1(counts, 0)
    assert found.value == pytest.approx(16 / 21)
    low, high = wilson(8, 13)
    assert (found.low, found.high) == pytest.approx((2 * low / (1 + low), 2 * high / (1 + high)))
    assert found.n == 10
    assert (label_f1(counts, 2).low, label_f1(counts, 2).high) == (0, 1)


def test_a_metric_undefined_on_some_resamples_still_gets_an_interval() -> None:
    def auc(references, predictions, probabilities, labels):  # type: ignore[no-untyped-def]
        if len(set(references)) < 2:
            raise ValueError("only one class present")
        return roc_auc_score(references, probabilities[:, 1])

    references = np.array([0] * 10 + [1])
    probabilities = np.stack([np.linspace(0.9, 0.3, 11), np.linspace(0.1, 0.7, 11)], axis=1)
    found = score(Metric("auc", "", auc), references, probabilities.argmax(1), probabilities, ("a", "b"))
    assert found.value == 1
    assert found.low <= 1 == found.high
    with pytest.raises(PluginError, match=r"metric 'auc' of .*test_intervals failed: ValueError: only one class"):
        score(Metric("auc", "", auc), references[:5], references[:5], probabilities[:5], ("a", "b"))


def test_a_metric_that_is_not_a_number_has_no_interval() -> None:
    found = score(Metric("nan", "", lambda *_: float("nan")), *simulated(20, 0), LABELS)
    assert math.isnan(found.value)
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_a_million_rows_are_quick_and_small() -> None:
    n = 1_000_000
    random = np.random.default_rng(0)
    references = random.integers(0, 6, n)
    probabilities = random.random((n, 6), dtype=np.float32)
    probabilities[np.arange(n), references] += 0.5
    probabilities /= probabilities.sum(1, keepdims=True)
    predictions = probabilities.argmax(1)
    started = time.process_time()
    for metric in METRICS:
        found = score(metric, references, predictions, probabilities, tuple("abcdef"))
        assert 0 < found.high - found.low < 0.01
    assert time.process_time() - started < 10
    tracemalloc.start()
    for metric in METRICS:
        score(metric, references, predictions, probabilities, tuple("abcdef"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 250e6


def test_a_plugins_metric_is_resampled_less_often_on_many_rows() -> None:
    calls = []

    def share(references, predictions, probabilities, labels):  # type: ignore[no-untyped-def]
        calls.append(len(references))
        return (references == predictions).mean()

    references, predictions, probabilities = simulated(100_000, 0)
    found = score(Metric("share", "", share), references, predictions, probabilities, LABELS)
    assert calls == [100_000] * 201
    low, high = wilson(int((references == predictions).sum()), 100_000)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.002)


def test_many_labels_stay_small() -> None:
    n, labels = 5_000, 400
    random = np.random.default_rng(0)
    references, predictions = random.integers(0, labels, n), random.integers(0, labels, n)
    tracemalloc.start()
    score(BY_NAME["mcc"], references, predictions, np.zeros((n, 1)), [str(i) for i in range(labels)])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 300e6


def test_paired_bootstrap_agrees_with_the_paired_z_test() -> None:
    random = np.random.default_rng(2)
    correct_a, correct_b = random.random(1000) < 0.84, random.random(1000) < 0.80
    found = paired_bootstrap(correct_a, correct_b)
    differences = correct_a.astype(float) - correct_b
    error = differences.std() / math.sqrt(1000)
    expected = 2 * (1 - NormalDist().cdf(abs(differences.mean()) / error))
    assert found.value == pytest.approx(differences.mean())
    assert found.p_value == pytest.approx(expected, abs=0.02)
    assert found.low == pytest.approx(differences.mean() - 1.96 * error, abs=0.003)
    assert found.high == pytest.approx(differences.mean() + 1.96 * error, abs=0.003)
    assert found.n == 1000


def test_paired_bootstrap_knows_equal_from_different() -> None:
    same = np.array([True, False, True])
    assert paired_bootstrap(same, same).p_value == 1
    far = paired_bootstrap(np.ones(200), np.tile([1 / 3, 2 / 3, 1, 0], 50))
    assert far.p_value == pytest.approx(1 / 10_001)
    assert far.low > 0
    swapped = paired_bootstrap(np.tile([1 / 3, 2 / 3, 1, 0], 50), np.ones(200))
    assert swapped.value == pytest.approx(-far.value)
    with pytest.raises(ValueError, match="same examples"):
        paired_bootstrap(np.ones(2), np.ones(3))
