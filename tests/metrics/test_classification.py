"""The metrics agree with scikit-learn and with what can be counted by hand."""

from __future__ import annotations

import math
import subprocess
import sys
import warnings
from collections.abc import Sequence

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from gpt_tasks.errors import UsageError
from gpt_tasks.evaluation.label_scores import LabelCounts
from gpt_tasks.extensions import Metric, Rows
from gpt_tasks.metrics import METRICS, register_metrics
from gpt_tasks.metrics.calibration import ece
from gpt_tasks.metrics.classification import is_right, macro_f1, mcc
from gpt_tasks.metrics.figures import figure
from gpt_tasks.types import Statistic

LABELS = ("negative", "neutral", "positive")
REFERENCES = np.array([0, 0, 0, 1, 1, 2])
PREDICTIONS = np.array([0, 0, 2, 1, 0, 2])
PROBABILITIES = np.full((6, 3), 1 / 3)


def rows_of(
    references: np.ndarray, predictions: np.ndarray, probabilities: np.ndarray | None, labels: Sequence[str]
) -> Rows:
    """Rows of label indices, as an evaluation lays them side by side: by the names of labels."""
    return Rows([labels[at] for at in references], [labels[at] for at in predictions], labels, probabilities)


def value_of(metric: Metric, rows: Rows) -> float:
    if metric.whole is not None:
        return metric.whole(rows)
    pairs = zip(rows.predictions, rows.references, strict=True)
    return figure(metric, [Statistic(metric.statistic(answer, (reference,))) for answer, reference in pairs]).value


def test_figures_counted_by_hand() -> None:
    rows = rows_of(REFERENCES, PREDICTIONS, PROBABILITIES, LABELS)
    found = {metric.name: value_of(metric, rows) for metric in METRICS}
    assert found["accuracy"] == pytest.approx(4 / 6)
    assert found["micro_f1"] == pytest.approx(4 / 6)
    # F1: negative 2*2/(3+3), neutral 2*1/(2+1), positive 2*1/(1+2): two thirds each.
    assert found["macro_f1"] == macro_f1(rows) == pytest.approx(2 / 3)
    # Gorodkin: (4*6 - (3*3 + 2*1 + 1*2)) / sqrt((36 - 14) * (36 - 14))
    assert found["mcc"] == mcc(rows) == pytest.approx(11 / 22)


def test_an_answer_is_right_where_it_is_one_of_the_right_ones() -> None:
    assert [is_right("a", ["b", "a"]), is_right("a", ["b"]), is_right("a", [])] == [1.0, 0.0, 0.0]


def test_rows_are_taken_by_their_place_also_several_times() -> None:
    rows = rows_of(REFERENCES, PREDICTIONS, np.arange(18).reshape(6, 3), LABELS)
    taken = rows.take(np.array([5, 2, 2]))
    assert len(taken) == 3
    assert taken.references == ["positive", "negative", "negative"]
    assert taken.predictions == ["positive", "positive", "positive"]
    assert taken.probabilities.tolist() == [[15, 16, 17], [6, 7, 8], [6, 7, 8]]
    assert [codes.tolist() for codes in taken.codes] == [[2, 0, 0], [2, 2, 2]]
    texts = Rows(["one", "two"], ["one", "one"]).take(np.array([1, 1]))
    assert (texts.references, texts.predictions, texts.probabilities) == (["two", "two"], ["one", "one"], None)


def test_rows_of_the_confusion_matrix_are_the_right_labels_in_the_models_order() -> None:
    counts = LabelCounts()
    counts.add([(LABELS[right], LABELS[given]) for right, given in zip(REFERENCES, PREDICTIONS, strict=True)], None)
    assert counts.matrix(LABELS) == ((2, 0, 1), (1, 1, 0), (0, 0, 1))
    assert counts.matrix((*LABELS, "unseen"))[3] == (0, 0, 0, 0)


def test_per_label_figures() -> None:
    counts = LabelCounts()
    counts.add([(LABELS[right], LABELS[given]) for right, given in zip(REFERENCES, PREDICTIONS, strict=True)], None)
    found = [scores.f1 for scores in counts.scores((*LABELS, "unseen")).values()]
    assert [each.value for each in found] == pytest.approx([2 / 3, 2 / 3, 2 / 3, math.nan], nan_ok=True)
    assert [each.n for each in found] == [3, 2, 1, 0]


@pytest.mark.parametrize("size", [1, 2, 5, 400])
def test_agreement_with_scikit_learn_without_a_warning(size: int) -> None:
    random = np.random.default_rng(size)
    references, predictions = random.integers(0, 7, size), random.integers(0, 5, size)
    probabilities = random.dirichlet(np.ones(8), size)
    rows = rows_of(references, predictions, probabilities, "abcdefgh")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours = {metric.name: value_of(metric, rows) for metric in METRICS}
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
    assert ece(rows_of(references, predictions, probabilities, "ab")) == pytest.approx(by_hand)


def test_a_confidence_on_a_bins_edge_belongs_to_the_bin_below() -> None:
    # 0.6 = 9/15 closes the bin (8/15, 9/15]; one bin for both, so that their gaps cancel out.
    chosen = np.array([0.6, 0.55])
    probabilities = np.stack([chosen, 1 - chosen], axis=1)
    one_bin = abs((0.6 - 1) + (0.55 - 0)) / 2
    assert ece(rows_of(np.array([0, 1]), np.array([0, 0]), probabilities, "ab")) == pytest.approx(one_bin)


def test_calibration_error_of_a_sure_and_right_classifier_is_zero() -> None:
    assert ece(rows_of(np.array([0, 1]), np.array([0, 1]), np.eye(2), "ab")) == 0


def test_calibration_error_needs_probabilities_that_are_numbers() -> None:
    with pytest.raises(UsageError, match="needs the probability of every label"):
        ece(rows_of(np.array([0, 1]), np.array([0, 1]), None, "ab"))
    assert np.isnan(ece(rows_of(np.array([0, 1]), np.array([0, 1]), np.full((2, 2), np.nan), "ab")))


def test_a_single_label_that_is_always_right_gets_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for metric in METRICS:
            value_of(metric, rows_of(np.zeros(3, int), np.zeros(3, int), np.tile([1.0, 0.0], (3, 1)), "ab"))


def test_the_hook_returns_every_metric_with_its_direction() -> None:
    assert {metric.name: metric.better for metric in register_metrics()} == {
        "accuracy": "higher",
        "macro_f1": "higher",
        "micro_f1": "higher",
        "mcc": "higher",
        "ece": "lower",
    }
    assert {metric.name: metric.best for metric in register_metrics()} == {
        "accuracy": 1,
        "macro_f1": 1,
        "micro_f1": 1,
        "mcc": 1,
        "ece": 0,
    }


def test_registering_metrics_imports_nothing_heavy() -> None:
    program = "import sys, gpt_tasks.metrics as m; m.register_metrics(); print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {"sklearn", "numpy", "torch", "datasets", "evaluate", "scipy"} & set(modules)
