"""The metrics agree with scikit-learn and with what can be counted by hand."""

from __future__ import annotations

import subprocess
import sys
import warnings

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from gpt_tasks.metrics import METRICS, register_metrics
from gpt_tasks.metrics.classification import (
    accuracy,
    confusion_matrix,
    ece,
    macro_f1,
    mcc,
    micro_f1,
    per_label,
)

LABELS = ("negative", "neutral", "positive")
REFERENCES = np.array([0, 0, 0, 1, 1, 2])
PREDICTIONS = np.array([0, 0, 2, 1, 0, 2])
PROBABILITIES = np.full((6, 3), 1 / 3)


def test_figures_counted_by_hand() -> None:
    given = (REFERENCES, PREDICTIONS, PROBABILITIES, LABELS)
    assert accuracy(*given) == pytest.approx(4 / 6)
    assert micro_f1(*given) == pytest.approx(4 / 6)
    # F1: negative 2*2/(3+3), neutral 2*1/(2+1), positive 2*1/(1+2): two thirds each.
    assert macro_f1(*given) == pytest.approx(2 / 3)
    # Gorodkin: (4*6 - (3*3 + 2*1 + 1*2)) / sqrt((36 - 14) * (36 - 14))
    assert mcc(*given) == pytest.approx(11 / 22)


def test_rows_of_the_confusion_matrix_are_the_right_labels_in_the_models_order() -> None:
    expected = [[2, 0, 1], [1, 1, 0], [0, 0, 1]]
    assert confusion_matrix(REFERENCES, PREDICTIONS, LABELS).tolist() == expected
    assert confusion_matrix(REFERENCES, PREDICTIONS, (*LABELS, "unseen")).shape == (4, 4)


def test_per_label_figures() -> None:
    found = per_label(REFERENCES, PREDICTIONS, (*LABELS, "unseen"))
    assert list(found) == [*LABELS, "unseen"]
    assert found["negative"] == pytest.approx({"precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3, "support": 3})
    assert found["positive"] == pytest.approx({"precision": 1 / 2, "recall": 1, "f1": 2 / 3, "support": 1})
    assert found["unseen"] == {"precision": 0, "recall": 0, "f1": 0, "support": 0}


@pytest.mark.parametrize("size", [1, 2, 5, 400])
def test_agreement_with_scikit_learn_without_a_warning(size: int) -> None:
    random = np.random.default_rng(size)
    references, predictions = random.integers(0, 7, size), random.integers(0, 5, size)
    probabilities = random.dirichlet(np.ones(8), size)
    given = (references, predictions, probabilities, tuple("abcdefgh"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours = {metric.name: metric.function(*given) for metric in METRICS}
    assert ours["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(references, predictions))
    assert ours["mcc"] == pytest.approx(sklearn_metrics.matthews_corrcoef(references, predictions))
    for average in ("macro", "micro"):
        theirs = sklearn_metrics.f1_score(references, predictions, average=average, zero_division=0)
        assert ours[f"{average}_f1"] == pytest.approx(theirs)


def test_calibration_error_counted_by_hand() -> None:
    # Bin (12/15, 13/15] holds 0.81 (right) and 0.85 (wrong), bin (8/15, 9/15] holds 0.55 and 0.6 (both right).
    chosen = np.array([0.81, 0.85, 0.55, 0.6])
    probabilities = np.stack([chosen, 1 - chosen], axis=1)
    predictions, references = np.zeros(4, dtype=int), np.array([0, 1, 0, 0])
    by_hand = 2 / 4 * abs(1 / 2 - 0.83) + 2 / 4 * abs(1 - 0.575)
    assert ece(references, predictions, probabilities, ("a", "b")) == pytest.approx(by_hand)


def test_a_confidence_on_a_bins_edge_belongs_to_the_bin_below() -> None:
    # 0.6 = 9/15 closes the bin (8/15, 9/15]; one bin for both, so that their gaps cancel out.
    chosen = np.array([0.6, 0.55])
    probabilities = np.stack([chosen, 1 - chosen], axis=1)
    one_bin = abs((0.6 - 1) + (0.55 - 0)) / 2
    assert ece(np.array([0, 1]), np.array([0, 0]), probabilities, ("a", "b")) == pytest.approx(one_bin)


def test_calibration_error_of_a_sure_and_right_classifier_is_zero() -> None:
    assert ece(np.array([0, 1]), np.array([0, 1]), np.eye(2), ("a", "b")) == 0


def test_a_single_label_that_is_always_right_gets_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for metric in METRICS:
            metric.function(np.zeros(3, int), np.zeros(3, int), np.tile([1.0, 0.0], (3, 1)), ("a", "b"))


def test_the_hook_returns_every_metric_with_its_direction() -> None:
    assert {metric.name: metric.better for metric in register_metrics()} == {
        "accuracy": "higher",
        "macro_f1": "higher",
        "micro_f1": "higher",
        "mcc": "higher",
        "ece": "lower",
    }


def test_registering_metrics_imports_nothing_heavy() -> None:
    program = "import sys, gpt_tasks.metrics as m; m.register_metrics(); print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {"sklearn", "numpy", "torch", "datasets", "evaluate", "scipy"} & set(modules)
