"""Rows that cannot be used: all counted, five named, left out if that is wanted; and notes on labels."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from gpt_tasks.data.oddities import label_counts
from gpt_tasks.data.sources import open_source
from gpt_tasks.data.splits import Splits, load_examples, load_splits
from gpt_tasks.data.stream import stream_examples
from gpt_tasks.errors import DataError
from gpt_tasks.plugins import installed_plugins
from gpt_tasks.tasks.base import Task
from gpt_tasks.tasks.classification import ClassificationTask
from gpt_tasks.tasks.multi_label import MultiLabelTask
from gpt_tasks.tasks.text_to_text import TextToTextTask


class Topic(ClassificationTask):
    name = "topic"


class Summary(TextToTextTask):
    name = "summary"
    prompt = "{text}"
    answer = " {short}"


def write(path: Path, rows: Sequence[Mapping[str, Any] | str]) -> Path:
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def load(path: Path, task: Task | None = None, **settings: Any) -> Splits:
    return load_splits(task or Topic(), data=path, seed=0, schemes={}, scratch=path.parent / "scratch", **settings)


ROWS = [{"text": f"text {n}", "label": "ab"[n % 2]} for n in range(60)]
BAD = ['{"text": ', "[]", {"text": " ", "label": "a"}, {"text": "x"}, *[{"text": "", "label": "b"}] * 4]


def test_all_bad_rows_are_counted_and_the_first_five_named(tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", [*ROWS, *BAD])
    with pytest.raises(DataError) as raised:
        load(path)
    message = raised.value.message
    assert message.startswith("r.jsonl: 8 of 68 rows cannot be used: r.jsonl:61: this is not JSON")
    assert [f"r.jsonl:{line}: " in message for line in range(61, 69)] == [True] * 5 + [False] * 3
    assert message.endswith("; and others")
    assert "\n" not in message
    assert "--skip-invalid" in raised.value.hint


def test_bad_rows_are_left_out_if_that_is_wanted(tmp_path: Path) -> None:
    splits = load(write(tmp_path / "r.jsonl", [*BAD, *ROWS]), skip_invalid=True)
    assert sum(map(len, (splits.train, splits.validation, splits.test))) == 60
    (note,) = [note for note in splits.notes if note.startswith("Left out 8 of 68 rows of r.jsonl")]
    assert "r.jsonl:1: this is not JSON" in note


def test_where_no_row_can_be_used_nothing_is_left_to_train_on(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"r\.jsonl: none of its 4 rows can be used"):
        load(write(tmp_path / "r.jsonl", [{"text": "", "label": "b"}] * 4), skip_invalid=True)


def test_rows_of_another_width_are_counted_too(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text("text,label\na,b\nc\nd,e,f\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"2 of 3 rows cannot be used: r\.csv:3: the row has 1 fields.*r\.csv:4: the"):
        load(path)


class Mood(ClassificationTask):
    name = "mood"
    labels = ("a", "b")


class Tags(MultiLabelTask):
    name = "tags"
    labels = ("a", "b")


UNKNOWN = [{"text": f"odd {n}", "label": "z"} for n in range(7)]


def test_rows_of_labels_that_are_not_declared_are_counted_with_all_other_bad_ones(tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", [*ROWS, *UNKNOWN, {"text": "", "label": "a"}])
    with pytest.raises(DataError) as raised:
        load(path, Mood())
    assert raised.value.message == (
        "r.jsonl: 8 of 68 rows cannot be used: r.jsonl:68: column 'text' is empty; "
        + "; ".join(f"r.jsonl:{line}: label 'z' is not one of a, b" for line in range(61, 65))
        + "; and others"
    )
    splits = load(path, Mood(), skip_invalid=True)
    assert sum(map(len, (splits.train, splits.validation, splits.test))) == 60
    assert splits.train.label_names == ("a", "b")
    assert any(note.startswith("Left out 8 of 68 rows of r.jsonl") for note in splits.notes)


def test_a_number_beyond_the_declared_labels_is_left_out_too(tmp_path: Path) -> None:
    rows = [{"text": f"text {n}", "label": n % 2} for n in range(40)]
    path = write(tmp_path / "r.jsonl", [*rows, {"text": "odd", "label": 7}])
    with pytest.raises(DataError, match=r"r\.jsonl:41: label '7' is not one of a, b"):
        load(path, Mood())
    splits = load(path, Mood(), skip_invalid=True)
    assert sum(sum(each.observed.values()) for each in (splits.train, splits.validation, splits.test)) == 40


def test_of_several_labels_one_that_is_not_declared_is_enough(tmp_path: Path) -> None:
    rows = [{"text": f"text {n}", "labels": ["ab"[n % 2]]} for n in range(40)]
    path = write(tmp_path / "r.jsonl", [*rows, {"text": "odd", "labels": ["a", "z"]}])
    with pytest.raises(DataError, match=r"r\.jsonl:41: label 'z' is not one of a, b"):
        load(path, Tags())
    splits = load(path, Tags(), skip_invalid=True)
    assert sum(map(len, (splits.train, splits.validation, splits.test))) == 40


def test_bad_rows_of_every_split_are_named_at_once(tmp_path: Path) -> None:
    test = write(tmp_path / "t.jsonl", [*UNKNOWN[:2], {"text": "new", "label": "a"}])
    with pytest.raises(
        DataError, match=r"^r\.jsonl:61: column 'text' is empty; t\.jsonl: 2 of 3 rows cannot be used: "
    ):
        load(write(tmp_path / "r.jsonl", [*ROWS, {"text": "", "label": "a"}]), Mood(), test=test)


def test_labels_that_a_trained_task_does_not_know_are_left_out_of_its_evaluation(tmp_path: Path) -> None:
    source = open_source(write(tmp_path / "r.jsonl", [*UNKNOWN, *ROWS]), {})
    with pytest.raises(DataError, match=r"r\.jsonl: 7 of 67 rows cannot be used: r\.jsonl:1: label 'z' is not one of"):
        load_examples(Mood(), source, "all", scratch=tmp_path / "scratch")
    examples, notes = load_examples(Mood(), source, "all", skip_invalid=True, scratch=tmp_path / "scratch")
    assert [example.where for example in examples] == [f"r.jsonl:{line}" for line in range(8, 68)]
    assert examples.observed == {"a": 30, "b": 30}
    assert notes[0].startswith("Left out 7 of 67 rows of r.jsonl, which cannot be used: r.jsonl:1: label 'z'")
    none = open_source(write(tmp_path / "none.jsonl", UNKNOWN), {})
    with pytest.raises(DataError, match="none of its 7 rows can be used") as raised:
        load_examples(Mood(), none, "all", skip_invalid=True, scratch=tmp_path / "scratch")
    assert "--skip-invalid" not in raised.value.hint


def test_bad_rows_are_the_reason_where_too_little_is_left_to_learn(tmp_path: Path) -> None:
    rows = [*ROWS[::2], {"text": "x"}, {"text": "y"}]
    with pytest.raises(DataError, match=r"r\.jsonl: 2 of 32 rows cannot be used: r\.jsonl:31: the label"):
        load(write(tmp_path / "r.jsonl", rows))


@pytest.mark.parametrize("lacking", [1, 150])
def test_columns_are_those_of_all_rows(tmp_path: Path, lacking: int) -> None:
    rows = [*[{"text": f"bare {n}"} for n in range(lacking)], *({**row, "town": "X"} for row in ROWS)]
    path = write(tmp_path / "r.jsonl", rows)
    with pytest.raises(DataError, match=r"r\.jsonl:1: the label .* is missing"):
        load(path)
    splits = load(path, skip_invalid=True, by="town")
    assert sum(map(len, (splits.train, splits.validation, splits.test))) == 60


def test_where_no_row_could_be_parsed_all_are_counted(tmp_path: Path) -> None:
    source = open_source(write(tmp_path / "r.jsonl", ['{"text": ', "[]", "x"]), {})
    with pytest.raises(DataError, match=r"r\.jsonl: none of its 3 rows can be used: r\.jsonl:1: this is not JSON"):
        stream_examples(Topic(), source, "all", columns={}, need_labels=False)


def test_rows_of_broken_quotes_are_left_out_and_no_other(tmp_path: Path) -> None:
    lines = [f"text number {n},{'ab'[n % 2]}" for n in range(60)]
    lines[20] = '"so" it is,a'
    lines[30] = '"He said "hi" to me\nyes, a\nand left",a'
    lines[40] = '"it began,a'
    path = tmp_path / "r.csv"
    path.write_text("\n".join(["text,label", *lines, '"fine, really",b', ""]), encoding="utf-8")
    with pytest.raises(DataError) as raised:
        load(path)
    assert raised.value.message == (
        "r.csv: 3 of 61 rows cannot be used: r.csv:22: the row that begins here is broken: ',' expected after '\"'; "
        "r.csv:32: the row that goes from here to line 34 is broken: ',' expected after '\"'; "
        "r.csv:44: the row that begins here is broken: a quote is not closed"
    )
    splits = load(path, skip_invalid=True)
    found = {text for each in (splits.train, splits.validation, splits.test) for text in each.texts("text")}
    assert found == {*(f"text number {n}" for n in range(60) if n not in (20, 30, 40)), "fine, really"}


def test_labels_that_look_alike_are_rare_or_untested_are_told(tmp_path: Path) -> None:
    rows = [{"text": f"text {n}", "label": label} for n, label in enumerate(["Sport", "art"] * 30)]
    rows += [{"text": f"more {n}", "label": "sport"} for n in range(6)]
    rows += [{"text": f"odd {n}", "label": "art\u200b"} for n in range(6)]
    rows += [{"text": "single", "label": "rare"}]
    notes = load(write(tmp_path / "r.jsonl", rows)).notes
    assert any(note.startswith("The labels 'Sport' and 'sport' differ only in case") for note in notes)
    assert any(note.startswith("The labels 'art' and 'art\\u200b' differ only") for note in notes)
    assert any(note.startswith("Fewer than 5 rows have the label rare (1)") for note in notes)
    assert any(note.startswith("No row of test has the label rare") for note in notes)
    assert not [note for note in load(write(tmp_path / "s.jsonl", ROWS)).notes if "label" in note and "No" in note]


def in_family(family: str, text: str, label: str) -> dict[str, Any]:
    """A row of a text and its one label, as a family's data have it."""
    if family == "ner":
        return {"tokens": [*text.split(), "Ann"], "tags": [*("O" for _ in text.split()), f"B-{label}"]}
    return {"text": text, **({"labels": [label]} if family == "multi-label" else {"label": label})}


FAMILIES = ("classification", "multi-label", "ner")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_with_labels_is_told_of_odd_ones(tmp_path: Path, family: str) -> None:
    labels = [*["Sport", "art"] * 30, *["sport", "art\u200b", "caf\u00e9", "cafe\u0301"] * 6, "rare"]
    rows = [in_family(family, f"text {place}", label) for place, label in enumerate(labels)]
    test = write(tmp_path / "t.jsonl", [in_family(family, f"new {place}", "Sport") for place in range(5)])
    notes = load(write(tmp_path / "r.jsonl", rows), installed_plugins().registry.tasks[family], test=test).notes
    assert (
        "The labels 'Sport' and 'sport' differ only in case, spaces, or signs that are not seen: they are learned as "
        "different ones (--normalize-labels makes them one)." in notes
    )
    assert any(note.startswith("The labels 'art' and 'art\\u200b' differ only") for note in notes)
    assert any("'caf\u00e9'" in note and "'cafe\\u0301'" in note for note in notes)
    assert any(note.startswith("Fewer than 5 rows have the label rare (1)") for note in notes)
    untested = "art, art\u200b, cafe\u0301, caf\u00e9, rare and 1 more"
    assert f"No row of test has the label {untested}: nothing is said of it." in notes


@pytest.mark.parametrize("family", FAMILIES)
def test_labels_of_one_form_are_one_if_that_is_wanted(tmp_path: Path, family: str) -> None:
    labels = [*["Sport"] * 20, *["sport", "SPORT\u200b"] * 8, *["art"] * 20, *["  art", "Art"] * 4, *["cafe\u0301"] * 9]
    rows = [in_family(family, f"text {place}", label) for place, label in enumerate(labels)]
    path = write(tmp_path / "r.jsonl", rows)
    task = installed_plugins().registry.tasks[family]
    splits = load(path, task.configured(task.Options(normalize_labels=True)))
    assert sorted(splits.task.labels) == ["Sport", "art", "caf\u00e9"]
    found = label_counts(splits.task, splits.train)
    for split in (splits.validation, splits.test):
        for label, count in label_counts(splits.task, split).items():
            found[label] += count
    assert found == {"Sport": 36, "art": 28, "caf\u00e9": 9}
    assert not any("differ only" in note for note in splits.notes)
    (note,) = [note for note in splits.notes if note.startswith("Labels read as another (--normalize-labels): ")]
    assert "'sport' as 'Sport'" in note

    restored = task.restored(json.loads(json.dumps(splits.task.state())))
    source = open_source(write(tmp_path / "new.jsonl", [in_family(family, "a text", "SPORT ")]), {})
    examples, notes = load_examples(restored, source, "all", scratch=tmp_path / "scratch")
    assert label_counts(restored, examples) == {"Sport": 1}, "an evaluation reads labels as the training did"
    assert any(re.search(r"read as another \(--normalize-labels\): 'SPORT ?' as 'Sport'", note) for note in notes)
    strict = load(path, task).task
    with pytest.raises(DataError, match=r"'SPORT ?' is not one of"):
        load_examples(strict, source, "all", scratch=tmp_path / "scratch")


@pytest.mark.parametrize("family", ["classification", "multi-label"])
def test_truth_values_beside_their_numbers_are_refused_with_both_readings(tmp_path: Path, family: str) -> None:
    values = [True, "1", False, 0] * 15
    rows = [in_family(family, f"text {place}", value) for place, value in enumerate(values)]
    path = write(tmp_path / "r.jsonl", rows)
    task = installed_plugins().registry.tasks[family]
    with pytest.raises(DataError, match="the labels 'false' and '0', which may be one label") as raised:
        load(path, task)
    assert "--labels false --labels true" in raised.value.hint
    four = load(path, task.configured(task.Options(labels=("0", "1", "false", "true")))).task
    assert four.labels == ("0", "1", "false", "true")
    two = load(path, task.configured(task.Options(labels=("false", "true"))))
    assert label_counts(two.task, two.train).keys() == {"false", "true"}


def test_empty_answers_are_counted(tmp_path: Path) -> None:
    rows = [{"text": f"text {n}", "short": "" if n % 8 == 0 else f"s {n}"} for n in range(40)]
    notes = load(write(tmp_path / "r.jsonl", rows), Summary()).notes
    assert "5 of 40 answers of train are empty: r.jsonl:1, r.jsonl:9, r.jsonl:17, r.jsonl:25, r.jsonl:33." in notes


def test_one_column_cannot_be_two_fields(tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", ROWS)
    with pytest.raises(DataError, match="both 'text' and 'label' would be read from the column 'text'"):
        load(path, columns={"label": "text"})
