"""JSON in either form, whatever its suffix, and the exports of annotation tools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gpt_tasks.data.formats import open_file
from gpt_tasks.data.invalid import BrokenRow

ROWS = [{"text": "good", "label": "a"}, {"text": "bad", "label": "b"}]


def read(path: Path) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    file = open_file(path)
    return [dict(row.values) for row in file.rows()], file.notes


def written(path: Path, content: object, form: str) -> Path:
    rows = content if isinstance(content, list) else [content]
    lines = "".join(f"{json.dumps(row)}\n" for row in rows)
    text = {"lines": lines, "array": json.dumps(content), "indented": json.dumps(content, indent=1)}[form]
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("form", ["lines", "array", "indented"])
@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_rows_are_lines_or_a_list_whatever_the_suffix(tmp_path: Path, suffix: str, form: str) -> None:
    assert read(written(tmp_path / f"r{suffix}", ROWS, form)) == (ROWS, ())


PRODIGY = {"_input_hash": 1, "_task_hash": 2}


def test_prodigys_rows_are_those_that_were_accepted(tmp_path: Path) -> None:
    answers = ("accept", "reject", "ignore", "accept")
    rows = [{"text": f"t{n}", "label": "SPORT", "answer": answer, **PRODIGY} for n, answer in enumerate(answers)]
    found, notes = read(written(tmp_path / "r.jsonl", rows, "lines"))
    assert [(row["text"], row["label"]) for row in found] == [("t0", "SPORT"), ("t3", "SPORT")]
    assert notes == ("r.jsonl: left out 2 rows that its annotators rejected, ignored or skipped.",)


def test_prodigys_choices_are_labels_and_its_spans_need_no_tokens(tmp_path: Path) -> None:
    chosen = {"text": "t", "options": [{"id": "a", "text": "A"}], "answer": "accept", **PRODIGY}
    spans = [{"start": 0, "end": 1, "label": "PER", "token_start": 0, "token_end": 0}]
    tagged = {"text": "t", "tokens": [{"text": "t", "id": 0}], "spans": spans, "answer": "accept", **PRODIGY}
    rows = [{**chosen, "accept": ["a"]}, {**chosen, "accept": ["a", "b"]}, tagged]
    (one, two, entity), _ = read(written(tmp_path / "r.jsonl", rows, "lines"))
    assert (one["label"], one["labels"]) == ("a", ["a"])
    assert two["labels"] == ["a", "b"]
    assert "label" not in two
    assert entity["spans"] == spans
    assert "tokens" not in entity


def label_studio(*results: dict[str, Any], cancelled: bool = False) -> dict[str, Any]:
    annotation = {"result": list(results), "was_cancelled": cancelled}
    return {"id": 7, "data": {"text": "Anna likes soup"}, "annotations": [annotation]}


def test_label_studios_answers_are_columns(tmp_path: Path) -> None:
    choice = {"type": "choices", "from_name": "mood", "value": {"choices": ["glad"]}}
    entity = {"type": "labels", "from_name": "ner", "value": {"start": 0, "end": 4, "text": "Anna", "labels": ["PER"]}}
    summary = {"type": "textarea", "from_name": "summary", "value": {"text": ["Soup."]}}
    stars = {"type": "rating", "from_name": "stars", "value": {"rating": 4}}
    rows = [label_studio(choice, entity, summary, stars), label_studio(cancelled=True)]
    (row,), notes = read(written(tmp_path / "r.json", rows, "indented"))
    assert row == {
        "id": 7,
        "text": "Anna likes soup",
        "mood": "glad",
        "label": "glad",
        "labels": ["glad"],
        "spans": [entity["value"]],
        "summary": "Soup.",
        "stars": 4,
    }
    assert notes == ("r.json: left out 1 rows that its annotators rejected, ignored or skipped.",)


def test_what_label_studio_leaves_out_is_nothing_and_its_answers_replace_no_text(tmp_path: Path) -> None:
    def row(*results: object) -> dict[str, Any]:
        return {"data": {"text": "good"}, "annotations": [{"result": list(results)}]}

    one = {"from_name": "text", "type": "choices", "value": {"choices": "sport"}}
    none = {"from_name": "kind", "type": "choices", "value": {"choices": None}}
    found, _ = read(written(tmp_path / "r.json", [row(one), row(none), row(None)], "array"))
    assert [each["text"] for each in found] == ["good"] * 3
    assert found[0]["label"] == "sport"
    assert [each.get("label") for each in found[1:]] == [None, None]


def test_what_label_studio_did_not_annotate_has_no_answers_and_an_empty_annotation_has_none(tmp_path: Path) -> None:
    unannotated = {"data": {"text": "good"}, "annotations": []}
    (one, other), notes = read(written(tmp_path / "r.json", [unannotated, label_studio()], "array"))
    assert one == {"text": "good"}
    assert (other["spans"], other["labels"], other.get("label")) == ([], [], None)
    assert notes == ()


def test_a_text_that_prodigys_annotators_accepted_without_a_mark_has_no_entity(tmp_path: Path) -> None:
    rows = [{"text": "good", "answer": "accept", "_view_id": view, **PRODIGY} for view in ("ner_manual", "choice")]
    (marked, chosen), _ = read(written(tmp_path / "r.jsonl", rows, "lines"))
    assert marked["spans"] == []
    assert "spans" not in chosen


@pytest.mark.parametrize("form", ["lines", "array", "indented"])
def test_a_key_that_is_given_twice_is_told_with_its_row(tmp_path: Path, form: str) -> None:
    path = written(tmp_path / "r.json", [*ROWS, {"text": "x", "TEXT": "y"}], form)
    path.write_text(path.read_text(encoding="utf-8").replace("TEXT", "text"), encoding="utf-8")
    *whole, twice = open_file(path).rows()
    assert [dict(row.values) for row in whole] == ROWS
    assert isinstance(twice, BrokenRow)
    assert twice.error.message.endswith("3: the column 'text' is there twice")


@pytest.mark.parametrize("first", ["{", '{"text": ', "[]", '["a"]'])
def test_a_first_line_that_is_broken_is_one_row(tmp_path: Path, first: str) -> None:
    (tmp_path / "r.jsonl").write_text("\n".join([first, *map(json.dumps, ROWS)]), encoding="utf-8")
    broken, *whole = open_file(tmp_path / "r.jsonl").rows()
    assert isinstance(broken, BrokenRow)
    assert [dict(row.values) for row in whole] == ROWS
