"""One reading of choices for a whole file: decided by all of its rows, and asked for where they leave it open."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gpt_tasks.data.sources import open_source
from gpt_tasks.data.stream import stream_examples
from gpt_tasks.errors import DataError
from gpt_tasks.tasks.multiple_choice import MultipleChoiceTask
from gpt_tasks.types import Row

CHOICES = ["red", "green", "blue", "black"]


class Quiz(MultipleChoiceTask):
    name = "quiz"


def read(folder: Path, answers: list[Any], task: Quiz | None = None, choices: Any = CHOICES) -> list[int]:
    """The places of the right choices, in a file whose rows have these answers."""
    found = stream(folder, answers, task, choices)
    places = [int(str(example.target)) for example in found.examples()]
    found.check()
    return places


def stream(folder: Path, answers: list[Any], task: Quiz | None = None, choices: Any = CHOICES) -> Any:
    path = folder / "quiz.jsonl"
    rows = [{"question": f"{n}?", "choices": choices, "answer": answer} for n, answer in enumerate(answers)]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return stream_examples(task or Quiz(), open_source(path, {}), "all", columns={}, need_labels=True)


@pytest.mark.parametrize(
    ("answers", "places"),
    [
        (["A", "d", "B"], [0, 3, 1]),
        ([0, 3, 1], [0, 3, 1]),
        (["0", "3", "1"], [0, 3, 1]),
        ([0.0, 3.0, 1.0], [0, 3, 1]),
        (["red", "black"], [0, 3]),
        ([1, 4, 2], [0, 3, 1]),
        (["1", "4"], [0, 3]),
        # As ARC writes them: letters, and in some rows numbers.
        (["A", "1", "C", "4"], [0, 0, 2, 3]),
    ],
)
def test_answers_are_letters_texts_or_numbers(tmp_path: Path, answers: list[Any], places: list[int]) -> None:
    assert read(tmp_path, answers) == places


def test_numbers_from_1_are_said_to_be(tmp_path: Path) -> None:
    assert stream(tmp_path, [1, 4]).notes() == ("quiz.jsonl: answers count choices from 1.",)
    assert stream(tmp_path, [0, 3]).notes() == ()


def test_a_number_that_is_also_a_choice_is_read_as_the_other_rows_are(tmp_path: Path) -> None:
    numbers = ["3", "0", "1", "2"]
    rows = [{"question": "What is two and one?", "choices": numbers, "answer": "0"}]
    rows += [{"question": f"{n}?", "choices": CHOICES, "answer": str(n)} for n in range(4)]
    path = tmp_path / "quiz.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    found = stream_examples(Quiz(), open_source(path, {}), "all", columns={}, need_labels=True)
    assert [example.target for example in found.examples()] == ["0", "0", "1", "2", "3"]


@pytest.mark.parametrize(
    ("answers", "choices", "told"),
    [
        (["1", "2", "3"], CHOICES, "numbers of choices from 0 and as numbers of choices from 1: quiz.jsonl:1 has '1'"),
        (["0", "1"], ["1", "0"], "texts of choices and as numbers of choices from 0: quiz.jsonl:1 has '0'"),
        (["A", "B"], ["B", "A"], "texts of choices and as letters of choices"),
    ],
)
def test_a_file_that_can_be_read_in_two_ways_is_refused(
    tmp_path: Path, answers: list[str], choices: list[str], told: str
) -> None:
    with pytest.raises(DataError) as raised:
        read(tmp_path, answers, choices=choices)
    assert told in raised.value.message
    assert raised.value.message.startswith("quiz.jsonl: its answers can be read as ")
    assert "--answers" in raised.value.hint


def test_answers_of_several_kinds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"written in several ways: no texts of choices, as quiz\.jsonl:2 has 'B'"):
        read(tmp_path, ["red", "B"])
    with pytest.raises(DataError, match="written in several ways"):
        read(tmp_path, ["0", "4"])


@pytest.mark.parametrize(("answer", "place"), [("1", 1), (1, 1), ("B", 1), ("green", 1), ("3", 0)])
def test_a_row_by_itself_counts_from_0(answer: object, place: int) -> None:
    choices = ["3", "green", "blue"] if answer == "3" else CHOICES
    row = Row({"question": "?", "choices": choices, "answer": answer}, "r:1")
    assert Quiz().example(row, {name: name for name in row.values}).target == str(place)


def test_an_option_decides(tmp_path: Path) -> None:
    for answers, places in (("from-0", [1, 2]), ("from-1", [0, 1])):
        task = Quiz().configured(Quiz.Options(answers=answers))
        assert read(tmp_path, ["1", "2"], task) == places
    with pytest.raises(DataError, match=r"quiz\.jsonl:2: the answer .* none of the 4 choices \(read as numbers"):
        read(tmp_path, ["1", "red"], Quiz().configured(Quiz.Options(answers="from-1")))


def test_a_run_reads_open_files_as_it_read_its_training_data(tmp_path: Path) -> None:
    trained = stream(tmp_path, ["1", "4"]).task
    run = Quiz().restored(json.loads(json.dumps(trained.state())))
    assert read(tmp_path, ["1", "2"], run) == [0, 1]
    assert read(tmp_path, ["0", "2"], run) == [0, 2], "a file that leaves nothing open is read as it is"
    older = Quiz().restored({name: value for name, value in trained.state().items() if name != "answer_form"})
    assert read(tmp_path, ["1", "2"], older) == [1, 2]


def test_bad_answers_are_passed_over_and_named_as_other_bad_rows(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"quiz\.jsonl:2: the answer \(column 'answer'\) is 'nine', none of the 4"):
        read(tmp_path, ["0", "nine", "3"])


def test_choices_may_be_a_cell_or_have_names(tmp_path: Path) -> None:
    assert read(tmp_path, ["B", "A"], choices=json.dumps(CHOICES)) == [1, 0]
    assert read(tmp_path, ["B", "A"], choices="['red', 'green']") == [1, 0]
    arc = {"text": CHOICES, "label": ["1", "2", "3", "4"]}
    assert read(tmp_path, ["1", "2"], choices=arc) == [0, 1]


def test_other_splits_decide_what_one_leaves_open(tmp_path: Path) -> None:
    for split, answers in (("train", "0123"), ("test", "12")):
        rows = [{"question": f"{n}?", "choices": CHOICES, "answer": answer} for n, answer in enumerate(answers)]
        (tmp_path / f"{split}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    found = stream_examples(Quiz(), open_source(tmp_path, {}), "test", columns={}, need_labels=True)
    assert [example.target for example in found.examples()] == ["1", "2"]
