"""What a cell holds: numbers, truth values and lists, the same in every format."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from gpt_tasks.errors import DataError
from gpt_tasks.tasks.classification import ClassificationTask
from gpt_tasks.tasks.reading import as_label, from_cell, number_of, plain_text, text_of, whole_number
from gpt_tasks.tasks.regression import RegressionTask
from gpt_tasks.types import Row

ONE = "\u0661"
"""An Arabic digit, which Python's int() reads."""


def seen(*labels: str) -> Any:
    """Training data, as `fit` sees them."""
    return SimpleNamespace(fields=("text",), observed=dict.fromkeys(labels, 5))


class Mood(ClassificationTask):
    name = "mood"
    labels = ("sad", "glad")


class Topic(ClassificationTask):
    name = "topic"


class Score(RegressionTask):
    name = "points"


@pytest.mark.parametrize(
    ("value", "label"),
    [
        *((1, "1"), (1.0, "1"), ("1", "1"), ("1.0", "1"), (" 1 ", "1"), ("-1.0", "-1"), (0.5, "0.5"), ("007", "007")),
        *((True, "true"), (None, ""), (math.nan, ""), ("1_0", "1_0"), (ONE, ONE), ("1.", "1"), ("1e3", "1e3")),
    ],
)
def test_a_whole_number_is_one_label(value: object, label: str) -> None:
    assert as_label(value) == label


def test_labels_read_the_same_as_numbers_fractions_and_texts() -> None:
    found = {Mood().read_target(Row({"label": label}, "r:1"), "label") for label in (0, 0.0, "0", "0.0")}
    assert found == {"0"}
    task = Mood().fit(seen("0", "1"), "r.csv")
    assert [task.normalize_label(label, "r:1") for label in ("0", "1")] == ["sad", "glad"]


@pytest.mark.parametrize("written", [("False", "True"), ("false", "true"), ("FALSE", "TRUE")])
def test_truth_values_are_the_same_labels_in_any_case(written: tuple[str, str]) -> None:
    task = Topic().fit(seen(*written), "r.csv")
    assert task.labels == ("false", "true")
    assert [task.normalize_label(label, "") for label in ("True", "false", "1", "0")] == ["true", "false"] * 2
    assert [Mood().normalize_label(label, "") for label in written] == ["sad", "glad"]
    older = Topic().configured(Topic.Options(labels=("0", "1")))
    assert older.normalize_label("true", "") == "1", "as JSON's true was read before"


def test_numbers_that_leave_out_0_are_not_counted_into_declared_labels() -> None:
    class Grade(ClassificationTask):
        name = "grade"
        labels = ("bad", "fair", "good", "best")

    assert Grade().fit(seen("0", "2"), "r.csv").normalize_label("2", "") == "good"
    with pytest.raises(DataError, match="its labels are 1, 2, 3, with no 0 among them"):
        Grade().fit(seen("1", "2", "3"), "r.csv")


def test_lists_are_no_labels_of_a_classification() -> None:
    assert Topic().read_target(Row({"label": ["a"]}, "r:1"), "label") == "a"
    with pytest.raises(DataError, match="is a list"):
        Topic().read_target(Row({"label": ["a", "b"]}, "r:1"), "label")
    with pytest.raises(DataError, match=r"the label \"\['a', 'b'\]\" is a list"):
        Topic().fit(seen("['a', 'b']", "['a']"), "r.csv")


@pytest.mark.parametrize("value", ["1_0", "1,0", ONE, "nan", "inf", "1e999", True, None, "", "0x10", "1 0"])
def test_what_only_python_reads_is_no_number(value: object) -> None:
    assert number_of(value) is None
    with pytest.raises(DataError, match="which is no number"):
        Score().read_target(Row({"score": value}, "r:1"), "score")


@pytest.mark.parametrize(("value", "number"), [("10", 10.0), (" -.5 ", -0.5), ("+1e-3", 0.001), (3, 3.0), ("5.", 5.0)])
def test_numbers_are_read(value: object, number: float) -> None:
    assert number_of(value) == number


def test_whole_numbers_are_no_fractions_and_no_truth_values() -> None:
    assert [whole_number(value) for value in (0.5, "0.5", True, "x", None, math.nan, math.inf)] == [None] * 7


def test_a_number_may_be_a_text() -> None:
    row = Row({"int": 2024, "float": 0.5, "flag": True, "nan": math.nan}, "r:1")
    assert [text_of(row, name) for name in ("int", "float", "flag")] == ["2024", "0.5", "true"]
    with pytest.raises(DataError, match="column 'nan' is empty"):
        text_of(row, "nan")
    with pytest.raises(DataError, match="column 'nan' is missing"):
        plain_text(row, "nan")


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ('["a", "b"]', ["a", "b"]),
        ("['a', 'b']", ["a", "b"]),
        ("['a' 'b']", ["a", "b"]),
        ("['it''s' \"b 'c' d\"]", ["its", "b 'c' d"]),
        ("['a'\n 'b']", ["a", "b"]),
        ("('a', 'b')", ["a", "b"]),
        ("[]", []),
        ('{"a": [1]}', {"a": [1]}),
        ("{'a': array([1, 2]), 'b': array(['x'], dtype=object)}", {"a": [1, 2], "b": ["x"]}),
        ("[sic]", "[sic]"),
        ("[1] and [2]", "[1] and [2]"),
        ("(well)", "(well)"),
        ("[" * 5000 + "]" * 5000, "[" * 5000 + "]" * 5000),
        ("plain", "plain"),
        (["a"], ["a"]),
        (None, None),
    ],
)
def test_a_cell_may_hold_a_list(cell: object, value: object) -> None:
    assert from_cell(cell) == value
