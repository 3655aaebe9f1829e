"""Several labels: read from any column, held to the declared ones, counted as scikit-learn counts them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from gpt_tasks.errors import DataError
from gpt_tasks.metrics.figures import figure
from gpt_tasks.tasks.multi_label import MultiLabelTask
from gpt_tasks.types import Example, MultiLabelPrediction, Row

LABELS = ("food", "money", "travel", "work")


class Tags(MultiLabelTask):
    name = "tags"
    labels = LABELS


def seen(observed: Mapping[str, int]) -> Any:
    """Training data, as `fit` sees them."""
    return SimpleNamespace(fields=("text",), observed=observed)


def answer(probabilities: np.ndarray, threshold: float) -> MultiLabelPrediction:
    each = dict(zip(LABELS, probabilities.tolist(), strict=True))
    return MultiLabelPrediction(tuple(label for label, p in each.items() if p >= threshold), each)


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
        ("['food', 'work']", ["food", "work"]),
        ('["food", "work"]', ["food", "work"]),
        ("['food' 'work']", ["food", "work"]),
        ("[]", []),
    ],
)
def test_labels_are_a_list_or_a_text_with_bars(value: object, read: list[str]) -> None:
    assert json.loads(Tags().read_target(Row({"labels": value}, "file:1"), "labels")) == read


def test_another_separator_is_named() -> None:
    task = Tags().configured(Tags.Options(separator=", "))
    assert json.loads(task.read_target(Row({"labels": "food, work"}, "file:1"), "labels")) == ["food", "work"]


@pytest.mark.parametrize("separator", [",", ";"])
def test_labels_that_look_like_lists_of_each_other_are_refused(separator: str) -> None:
    class Topics(MultiLabelTask):
        name = "topics"

    joined = f"sport{separator} money"
    observed = {json.dumps([label]): 3 for label in ("sport", "money", joined)}
    with pytest.raises(DataError, match=f"the label '{joined}' looks like a list") as raised:
        Topics().fit(seen(observed), "r.csv")
    assert f"--separator '{separator}'" in raised.value.hint or f"--separator {separator}" in raised.value.hint
    one = Topics().configured(Topics.Options(separator="|")).fit(seen(observed), "r.csv")
    assert joined in one.labels, "whoever names the separator is believed"
    apart = {json.dumps([label]): 3 for label in ("Washington, D.C.", "Bern")}
    assert Topics().fit(seen(apart), "r.csv").labels == ("Bern", "Washington, D.C.")


def test_no_labels_are_an_answer_and_do_not_hide_one() -> None:
    assert not any(Tags().is_unlabelled(value) for value in ("", [], "food"))
    assert Tags().is_unlabelled(None)


@pytest.mark.parametrize("value", [None, 3.5, {"food": 1}, ["food", {}], ["food", ""], "[food, work]"])
def test_what_is_no_labels_names_the_row(value: object) -> None:
    with pytest.raises(DataError, match=r"file:1: the label"):
        Tags().read_target(Row({"labels": value}, "file:1"), "labels")


def test_a_label_that_was_not_declared_is_named() -> None:
    with pytest.raises(DataError, match="file:7: label 'foot' is not one of food, money, travel, work") as raised:
        Tags().normalize_label('["foot"]', "file:7")
    assert raised.value.hint == "Did you mean 'food'?"


def test_labels_that_are_not_declared_are_the_datas_own() -> None:
    class Free(MultiLabelTask):
        name = "free"

    task = Free().fit(seen({'["b", "a"]': 2, "[]": 1, '["10", "9"]': 1}), "file")
    assert task.labels == ("9", "10", "a", "b")
    assert task.inputs == ("text",)
    assert Free().labels == ()
    with pytest.raises(DataError, match="file: no row has any label"):
        Free().fit(seen({"[]": 3}), "file")


def test_the_figures_are_those_of_scikit_learn() -> None:
    random = np.random.default_rng(0)
    right = random.random((60, 4)) < 0.4
    logits = random.normal(size=(60, 4)) + right
    right[0], logits[0] = False, -9.0
    task = Tags()
    answers = [answer(row, 0.6) for row in 1 / (1 + np.exp(-logits))]
    examples = [tagged([label for label, there in zip(LABELS, row, strict=True) if there]) for row in right]
    scores = [task.score(example, given) for example, given in zip(examples, answers, strict=True)]
    found = {metric.name: figure(metric, [each[metric.name] for each in scores]) for metric in task.own_metrics}
    given = 1 / (1 + np.exp(-logits)) >= 0.6
    for average in ("micro", "macro", "samples"):
        expected = metrics.f1_score(right, given, average=average, zero_division=1.0)
        assert found[f"{average}_f1"].value == pytest.approx(expected)
    assert found["lrap"].value == pytest.approx(metrics.label_ranking_average_precision_score(right, logits))
    for each in found.values():
        assert 0 <= each.low < each.value < each.high <= 1


def test_labels_of_one_probability_rank_alike() -> None:
    even = MultiLabelPrediction((), dict.fromkeys(LABELS, 0.5))
    assert Tags().score(tagged(["food"]), even)["lrap"].value == pytest.approx(1 / 4)


def test_macro_f1_leaves_out_what_neither_occurs_nor_is_given() -> None:
    given = answer(np.array([0.9, 0.1, 0.1, 0.1]), 0.5)
    scores = [Tags().score(tagged(["food", "work"]), given)["macro_f1"]]
    macro = next(metric for metric in Tags.own_metrics if metric.name == "macro_f1")
    assert figure(macro, scores).value == pytest.approx((1 + 0) / 2)


def test_decisions_are_of_each_label_that_is_right_or_given() -> None:
    found = Tags().decisions(tagged(["food", "work"]), answer(np.array([0.9, 0.8, 0.1, 0.1]), 0.5))
    assert set(found) == {("food", "food"), (None, "money"), ("work", None)}


def test_the_confidence_is_that_of_the_least_certain_decision() -> None:
    assert Tags().confidence(answer(np.array([0.9, 0.3, 0.1, 0.05]), 0.5)) == pytest.approx(0.7)
    assert Tags().confidence(answer(np.array([0.9, 0.3, 0.1, 0.05]), 0.25)) == pytest.approx(0.3)


def test_a_default_threshold_is_for_a_copy() -> None:
    task = Tags()
    assert (task.with_default_threshold().threshold, task.threshold) == (0.5, None)
    assert Tags().restored(task.with_default_threshold().state()).threshold == 0.5
