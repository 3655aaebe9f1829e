"""Several labels: read from any column, held to the declared ones, counted as scikit-learn counts them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn import metrics

from gpt_tasks.errors import DataError
from gpt_tasks.scoring.results import figure
from gpt_tasks.tasks.multi_label import MultiLabelTask, best_cut
from gpt_tasks.types import Example, MultiLabelPrediction, Row

LABELS = ("food", "money", "travel", "work")


class Tags(MultiLabelTask):
    name = "tags"
    labels = LABELS


def tagged(target: list[str]) -> Example:
    return Example({"text": "a"}, json.dumps(target), "file:1")


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (["work", "food"], ["food", "work"]),
        ([], []),
        ("food|work", ["food", "work"]),
        ("", []),
        (["food", "food"], ["food"]),
    ],
)
def test_labels_are_a_list_or_a_text_with_bars(value: object, read: list[str]) -> None:
    assert json.loads(Tags().read_target(Row({"labels": value}, "file:1"), "labels")) == read


def test_no_labels_are_an_answer_and_do_not_hide_one() -> None:
    assert not any(Tags().hides(value) for value in ("", [], "food"))
    assert Tags().hides(None)


@pytest.mark.parametrize("value", [None, 3.5, {"food": 1}, ["food", 2.5], ["food", ""]])
def test_what_is_no_labels_names_the_row(value: object) -> None:
    with pytest.raises(DataError, match=r"file:1: the label"):
        Tags().read_target(Row({"labels": value}, "file:1"), "labels")


def test_a_label_that_was_not_declared_is_named() -> None:
    with pytest.raises(DataError, match="file:7: label 'foot' is not one of food, money, travel, work") as raised:
        Tags().canonical('["foot"]', "file:7")
    assert raised.value.hint == "Did you mean 'food'?"


def test_labels_that_are_not_declared_are_the_datas_own() -> None:
    class Free(MultiLabelTask):
        name = "free"

    task, _ = Free().fitted({'["b", "a"]': 2, "[]": 1, '["10", "9"]': 1}, ["text"], "file")
    assert task.labels == ("9", "10", "a", "b")
    assert task.goals(['["a"]', "[]"]).tolist() == [[0, 0, 1, 0], [0, 0, 0, 0]]
    with pytest.raises(DataError, match="file: no row has any label"):
        Free().fitted({"[]": 3}, ["text"], "file")


def test_the_figures_are_those_of_scikit_learn() -> None:
    random = np.random.default_rng(0)
    right = random.random((60, 4)) < 0.4
    logits = random.normal(size=(60, 4)) + right
    right[0], logits[0] = False, -9.0
    task = Tags()
    task.threshold = 0.6
    answers = task.decode(logits)
    examples = [tagged([label for label, there in zip(LABELS, row, strict=True) if there]) for row in right]
    brought = [task.measure(example, answer) for example, answer in zip(examples, answers, strict=True)]
    found = {measure.name: figure(measure, [parts[measure.name] for parts in brought]) for measure in task.measures}
    given = 1 / (1 + np.exp(-logits)) >= 0.6
    for average in ("micro", "macro", "samples"):
        expected = metrics.f1_score(right, given, average=average, zero_division=1.0)
        assert found[f"{average}_f1"].value == pytest.approx(expected)
    assert found["lrap"].value == pytest.approx(metrics.label_ranking_average_precision_score(right, logits))
    for each in found.values():
        assert 0 <= each.low < each.value < each.high <= 1


def test_labels_of_one_probability_rank_alike() -> None:
    even = MultiLabelPrediction((), dict.fromkeys(LABELS, 0.5))
    assert Tags().measure(tagged(["food"]), even)["lrap"].value == pytest.approx(1 / 4)


def test_macro_f1_leaves_out_what_neither_occurs_nor_is_given() -> None:
    answer = MultiLabelPrediction(("food",), dict(zip(LABELS, (0.9, 0.1, 0.1, 0.1), strict=True)))
    parts = [Tags().measure(tagged(["food", "work"]), answer)["macro_f1"]]
    macro = next(measure for measure in Tags.measures if measure.name == "macro_f1")
    assert figure(macro, parts).value == pytest.approx((1 + 0) / 2)


@pytest.mark.parametrize("seed", range(5))
def test_the_cut_is_the_best_there_is(seed: int) -> None:
    random = np.random.default_rng(seed)
    # Coarse logits, so that many tie.
    goals, logits = random.random((20, 3)) < 0.3, random.integers(-4, 5, (20, 3)) / 2
    goals[0, 0] = True

    def f1(cut: float) -> float:
        return float(metrics.f1_score(goals, logits >= cut, average="micro", zero_division=0.0))

    assert f1(best_cut(logits, goals)) == pytest.approx(max(f1(cut) for cut in np.arange(-5, 6, 0.25)))


def test_a_threshold_that_was_set_stays() -> None:
    task = Tags()
    task.threshold = 0.25
    assert task.tuned(np.zeros((1, 4)), np.ones((1, 4))).threshold == 0.25
    assert Tags().tuned(np.array([[3.0, -3.0, -3.0, -3.0]]), np.array([[1, 0, 0, 0]])).threshold == pytest.approx(0.5)
