"""SQuAD's own files: their questions as rows, and what a .json file of another form gets."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from gpt_tasks.data.formats import open_file
from gpt_tasks.data.invalid import BrokenRow
from gpt_tasks.data.sources import open_source
from gpt_tasks.errors import DataError

RIVER = "The Rhône rises in the Alps 🏔️ and ends in the sea."
ANSWERED = {"question": "Where does it rise?", "id": "q1", "answers": [{"text": "the Alps", "answer_start": 19}]}
UNANSWERED = {"question": "Who drained it?", "id": "q2", "answers": [], "is_impossible": True}
DOCUMENT: dict[str, Any] = {
    "version": "v2.0",
    "data": [
        {"title": "Rhône", "paragraphs": [{"context": RIVER, "qas": [ANSWERED, UNANSWERED]}]},
        {"paragraphs": [{"context": "One.", "qas": []}, {"context": "Two.", "qas": [{"question": "How many?"}]}]},
    ],
}


def written(path: Path, document: object) -> Path:
    data = json.dumps(document, ensure_ascii=False, indent=1).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("name", ["dev-v2.0.json", "dev.json.gz"])
def test_every_question_is_a_row_named_by_article_and_id(tmp_path: Path, name: str) -> None:
    rows = list(open_file(written(tmp_path / name, DOCUMENT)).rows())
    assert [row.where for row in rows] == [f"{name}:Rhône:q1", f"{name}:Rhône:q2", f"{name}:article 2:How many?"]
    assert [dict(row.values) for row in rows] == [
        {"title": "Rhône", "context": RIVER, **ANSWERED},
        {"title": "Rhône", "context": RIVER, **UNANSWERED},
        {"title": "article 2", "context": "Two.", "question": "How many?"},
    ]
    (answer,) = rows[0].values["answers"]
    start = answer["answer_start"]
    assert RIVER[start : start + len(answer["text"])] == "the Alps"


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_a_document_is_one_whatever_its_suffix(tmp_path: Path, suffix: str, indent: int | None) -> None:
    path = tmp_path / f"dev{suffix}"
    path.write_text(json.dumps(DOCUMENT, indent=indent), encoding="utf-8")
    assert next(row.values["question"] for row in open_file(path).rows()) == ANSWERED["question"]
    assert len(list(open_file(path).rows())) == 3


def test_rows_with_a_list_called_data_are_no_document(tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_text('{"data": [1, 2], "label": "a"}\n' * 2, encoding="utf-8")
    assert [row.where for row in open_file(tmp_path / "r.jsonl").rows()] == ["r.jsonl:1", "r.jsonl:2"]


def test_what_is_broken_in_a_document_is_left_out_alone(tmp_path: Path) -> None:
    paragraphs = [{"context": RIVER, "qas": [{"id": "q0"}, ANSWERED]}, {"qas": []}]
    document = {"data": [{"title": "Rome"}, {"title": "Rhône", "paragraphs": paragraphs}]}
    rows = list(open_file(written(tmp_path / "s.json", document)).rows())
    assert [row.error.message if isinstance(row, BrokenRow) else row.where for row in rows] == [
        "s.json:article 1: 'paragraphs' is missing",
        "s.json:article 2: 'question' is missing",
        "s.json:Rhône:q1",
        "s.json:article 2: 'context' is missing",
    ]


def test_a_folder_of_squads_files_gives_its_splits(tmp_path: Path) -> None:
    written(tmp_path / "train-v2.0.json", DOCUMENT)
    written(tmp_path / "dev-v2.0.json", {"data": DOCUMENT["data"][1:]})
    source = open_source(tmp_path, {})
    assert {name: len(list(read())) for name, read in source.splits.items()} == {"train": 3, "validation": 1}


def test_two_versions_of_one_split_are_an_error(tmp_path: Path) -> None:
    for name in ("train-v1.1.json", "train-v2.0.json"):
        written(tmp_path / name, DOCUMENT)
    with pytest.raises(DataError, match=r"both train-v1\.1\.json and train-v2\.0\.json could be the train split"):
        open_source(tmp_path, {})


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"text": "good"}, "s.json: a .json file is read where it has the form of SQuAD"),
        ({"data": {"context": "a"}}, "s.json: a .json file is read where it has the form of SQuAD"),
        ([{"text": "good"}, "bad"], "s.json:item 2: this is a str, not an object"),
        ({"data": ["a"]}, "s.json:article 1: this is a str, not an object: a"),
        ({"data": [{"title": "Rome"}]}, "s.json:article 1: 'paragraphs' is missing"),
        ({"data": [{"paragraphs": "a"}]}, "s.json:article 1: 'paragraphs' is not a list: a"),
        ({"data": [{"paragraphs": [{"qas": []}]}]}, "s.json:article 1: 'context' is missing"),
        ({"data": [{"paragraphs": [{"context": 1, "qas": []}]}]}, "s.json:article 1: 'context' is not a text: 1"),
        ({"data": [{"paragraphs": [{"context": "a"}]}]}, "s.json:article 1: 'qas' is missing"),
        ({"data": [{"paragraphs": [{"context": "a", "qas": [{"id": "q"}]}]}]}, "'question' is missing"),
    ],
)
def test_another_form_is_reported(tmp_path: Path, document: object, told: str) -> None:
    with pytest.raises(DataError) as caught:
        [row.values for row in open_file(written(tmp_path / "s.json", document)).rows()]
    assert told in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.hint


def test_a_list_of_objects_is_a_list_of_rows(tmp_path: Path) -> None:
    rows = list(open_file(written(tmp_path / "s.json", [{"text": "good", "label": 1}, {"text": "bad"}])).rows())
    assert [(row.where, dict(row.values)) for row in rows] == [
        ("s.json:item 1", {"text": "good", "label": 1}),
        ("s.json:item 2", {"text": "bad"}),
    ]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('{"data": [\n{"title": "a"]}', r"s\.json:2: this is not JSON: Expecting ',' delimiter \(column 14\)"),
        ('{"text": "a"}\n]\n', r"s\.json:2: this is not JSON: Expecting value"),
        ("[" * 100_000, r"s\.json: this is not JSON: .*nested too deep"),
        ("", r"s\.json: the file is empty"),
    ],
)
def test_a_broken_document_is_reported(tmp_path: Path, content: str, told: str) -> None:
    path = tmp_path / "s.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=told):
        [row.values for row in open_file(path).rows()]
