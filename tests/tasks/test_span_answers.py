"""Right answers: the forms they come in, what is refused, and how misplaced ones are moved."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gpt_tasks.errors import DataError
from gpt_tasks.tasks.span_answers import Placement, Span, read_answers
from gpt_tasks.types import Row

CONTEXT = "Rome was not built in a day; Rome, in a day, was burnt."


def row(**values: Any) -> Row:
    return Row(values, "q.jsonl:7")


@pytest.mark.parametrize(
    "answers",
    [
        {"text": ["Rome", "a day"], "answer_start": [0, 22]},
        [{"text": "Rome", "answer_start": 0}, {"text": "a day", "answer_start": 22, "answer_end": 27}],
        ({"text": "Rome", "answer_start": 0}, {"text": "a day", "answer_start": 22}),
    ],
)
def test_answers_come_as_lists_or_as_a_list(answers: object) -> None:
    assert read_answers(row(answers=answers), "answers") == (Span("Rome", 0), Span("a day", 22))
    assert [CONTEXT[span.start : span.end] for span in read_answers(row(a=answers), "a")] == ["Rome", "a day"]


@pytest.mark.parametrize("answers", [{"text": ["Rome"]}, [{"text": "Rome"}], {"text": ["Rome"], "answer_start": None}])
def test_a_place_may_be_missing(answers: object) -> None:
    assert read_answers(row(answers=answers), "answers") == (Span("Rome", -1),)


@pytest.mark.parametrize(
    "answers",
    [
        "Rome",
        ["Rome"],
        {"text": "Rome"},
        '{"text": ["Rome"]}',
        "{'text': array(['Rome'], dtype=object), 'answer_start': None}",
        '["Rome"]',
    ],
)
def test_answers_come_as_people_have_them(answers: object) -> None:
    assert read_answers(row(answers=answers), "answers") == (Span("Rome"),)


@pytest.mark.parametrize("start", [22, 22.0, "22"])
def test_a_start_may_have_become_a_fraction_or_a_text(start: object) -> None:
    cell = json.dumps({"text": ["a day"], "answer_start": [start]})
    assert read_answers(row(answers=cell), "answers") == (Span("a day", 22),)


@pytest.mark.parametrize("flag", [True, 1, 1.0, "True", "true", "1"])
def test_no_answer_is_said_in_any_format(flag: object) -> None:
    assert read_answers(row(answers="", is_impossible=flag), "answers", "is_impossible") == ()


@pytest.mark.parametrize("answers", [[], {"text": [], "answer_start": []}, None])
def test_a_question_may_have_no_answer(answers: object) -> None:
    assert read_answers(row(answers=answers, is_impossible=True), "answers", "is_impossible") == ()
    if answers is not None:
        assert read_answers(row(answers=answers), "answers", "is_impossible") == ()


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({}, "q.jsonl:7: column 'answers' is missing"),
        ({"answers": None, "is_impossible": False}, "q.jsonl:7: column 'answers' is missing"),
        ({"answers": 4}, "q.jsonl:7: column 'answers' holds a int, not answers: 4"),
        ({"answers": ["Rome", 4]}, "column 'answers' holds a list, not answers: ['Rome', 4]"),
        ({"answers": ""}, "q.jsonl:7: an answer (column 'answers') is empty"),
        ({"answers": {"text": ["Rome"], "answer_start": [0, 9]}}, "column 'answers' holds 1 texts and 2 starts"),
        ({"answers": {"text": ["Rome"], "answer_start": 0}}, "holds 1 texts and no list of starts"),
        ({"answers": [{"answer_start": 0}]}, "the text of an answer (column 'answers') is missing"),
        ({"answers": [{"text": 4, "answer_start": 0}]}, "(column 'answers') is a int, not a text: 4"),
        ({"answers": [{"text": " \n", "answer_start": 0}]}, "an answer (column 'answers') is empty"),
        ({"answers": [{"text": "Rome", "answer_start": "x"}]}, "the answer_start of 'Rome' (column 'answers') is 'x'"),
        ({"answers": [{"text": "Rome", "answer_start": True}]}, "is True, not a whole number"),
        (
            {"answers": [{"text": "Rome", "answer_start": 0}], "is_impossible": True},
            "'is_impossible' is true, and 'answers' holds an answer: Rome",
        ),
        ({"answers": [], "is_impossible": False}, "'is_impossible' is false, and 'answers' holds none"),
        ({"answers": [], "is_impossible": "yes"}, "column 'is_impossible' holds 'yes', neither true nor false"),
    ],
)
def test_what_is_no_answer_is_reported_with_its_row(values: dict[str, Any], told: str) -> None:
    with pytest.raises(DataError) as caught:
        read_answers(row(**values), "answers", "is_impossible")
    assert told in caught.value.message
    assert caught.value.message.startswith("q.jsonl:7: ")
    assert "\n" not in caught.value.message
    assert caught.value.hint


def test_an_answer_in_the_right_place_is_not_moved() -> None:
    placement = Placement()
    assert placement.place(Span("in a day", 35), CONTEXT, "r:1") == Span("in a day", 35)
    assert (placement.answers, placement.moved, placement.lost, placement.note) == (1, 0, 0, "")
    placement.check("r")


def test_an_answer_is_moved_to_the_only_place_where_it_occurs() -> None:
    placement = Placement()
    for start in (3, 500):
        assert placement.place(Span("burnt", start), CONTEXT, f"r:{start}") == Span("burnt", 49)
    assert (placement.answers, placement.moved, placement.lost) == (2, 2, 0)


def test_an_answer_without_a_start_is_at_its_only_place() -> None:
    placement = Placement()
    for number in range(10):
        assert placement.place(Span("burnt"), CONTEXT, f"r:{number}") == Span("burnt", 49)
    placement.check("r")
    assert (placement.moved, placement.lost, placement.note) == (0, 0, "")
    assert placement.place(Span("Rome"), CONTEXT, "r:10") is None, "it has two places"
    assert placement.lost == 1


def test_an_answer_that_occurs_nowhere_or_at_several_places_is_lost() -> None:
    placement = Placement()
    assert placement.place(Span("Paris", 0), CONTEXT, "r:1") is None
    assert placement.place(Span("Rome", 3), CONTEXT, "r:2") is None
    # Also where the places overlap, and where the start counts from the end.
    assert placement.place(Span("aa", 5), "aaa", "r:3") is None
    assert placement.place(Span("t.", -2), "t. t.", "r:4") is None
    assert (placement.moved, placement.lost) == (0, 4)


def test_misplaced_answers_are_reported_and_the_first_three_named() -> None:
    placement = Placement()
    for number in range(100):
        placement.place(Span("Rome", 0), CONTEXT, f"r:{number}")
    placement.place(Span("burnt", 1), CONTEXT, "r:100")
    placement.place(Span("Paris", 1), CONTEXT, "r:101")
    placement.check("r")
    assert placement.note == (
        "2 of 102 answers are not where they should be: 1 moved to the one place where they occur, "
        "1 left out, which occur nowhere or at several places (r:100, r:101)."
    )
    for number in (102, 103):
        placement.place(Span("burnt", 1), CONTEXT, f"r:{number}")
    assert placement.note.endswith("(r:100, r:101, r:102 and others).")


def test_above_one_in_twenty_misplaced_answers_the_data_are_refused() -> None:
    placement = Placement()
    for number in range(19):
        placement.place(Span("Rome", 0), CONTEXT, f"r:{number}")
    placement.place(Span("burnt", 1), CONTEXT, "r:19")
    placement.check("train.json")
    placement.place(Span("burnt", 1), CONTEXT, "r:20")
    with pytest.raises(DataError, match=r"^train.json: 2 of 21 answers are not in .* \(r:19, r:20\)"):
        placement.check("train.json")


def test_training_data_without_any_answer_are_refused() -> None:
    with pytest.raises(DataError, match=r"^train.json: not one question has an answer"):
        Placement().check("train.json")
