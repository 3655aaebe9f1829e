"""One table, written in every format: the same examples, and the same words about the same bad rows."""

from __future__ import annotations

import csv
import gzip
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpt_tasks.data.sources import open_source
from gpt_tasks.data.splits import load_examples
from gpt_tasks.data.sqlite import register_sources
from gpt_tasks.errors import DataError
from gpt_tasks.tasks.classification import ClassificationTask

COLUMNS = ("text", "label", "town")
ROWS = [
    ("good, I think", "glad", "Rome"),
    ('she said "no"', "sad", None),
    (None, "glad", "Rome"),
    (" ", "sad", "Oslo"),
    ("odd", "gladd", "Rome"),
    ("no label", None, "Oslo"),
    ("two\nlines", "glad", "Oslo"),
]
BAD = [
    "column 'text' is empty",
    "column 'text' is empty",
    "the label (column 'label') is missing",
    "label 'gladd' is not one of sad, glad",
]
SQLITE = {"sqlite": register_sources()[0]}


class Mood(ClassificationTask):
    name = "mood"
    labels = ("sad", "glad")


def as_table(folder: Path, suffix: str, delimiter: str) -> Path:
    with (folder / f"r{suffix}").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter).writerows([COLUMNS, *ROWS])
    return folder / f"r{suffix}"


def mappings() -> list[dict[str, Any]]:
    return [dict(zip(COLUMNS, row, strict=True)) for row in ROWS]


def by_column() -> dict[str, list[Any]]:
    return {name: list(values) for name, values in zip(COLUMNS, zip(*ROWS, strict=True), strict=True)}


def as_json(folder: Path) -> Path:
    (folder / "r.json").write_text(json.dumps(mappings()), encoding="utf-8")
    return folder / "r.json"


def as_lines(folder: Path) -> Path:
    (folder / "r.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, mappings())).encode()))
    return folder / "r.jsonl.gz"


def as_parquet(folder: Path) -> Path:
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.table(by_column()), folder / "r.parquet")
    return folder / "r.parquet"


def as_workbook(folder: Path) -> Path:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (COLUMNS, *ROWS):
        book.active.append(row)
    book.save(folder / "r.xlsx")
    return folder / "r.xlsx"


def as_database(folder: Path) -> str:
    with sqlite3.connect(folder / "r.db") as database:
        database.execute("CREATE TABLE r (text, label, town)")
        database.executemany("INSERT INTO r VALUES (?, ?, ?)", ROWS)
    database.close()
    return f"sqlite:{folder}/r.db#r"


FORMATS: dict[str, Callable[[Path], object]] = {
    "csv": lambda folder: as_table(folder, ".csv", ","),
    "tsv": lambda folder: as_table(folder, ".tsv", "\t"),
    "json": as_json,
    "jsonl": as_lines,
    "parquet": as_parquet,
    "xlsx": as_workbook,
    "sqlite": as_database,
    "list": lambda folder: mappings(),
    "pandas": lambda folder: pytest.importorskip("pandas").DataFrame(by_column()),
    "polars": lambda folder: pytest.importorskip("polars").DataFrame(by_column()),
    "datasets": lambda folder: pytest.importorskip("datasets").Dataset.from_dict(by_column()),
}


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_rows_are_read_and_the_same_are_refused(name: str, tmp_path: Path) -> None:
    source = open_source(FORMATS[name](tmp_path), SQLITE)
    scratch = tmp_path / "scratch"
    with pytest.raises(DataError) as raised:
        load_examples(Mood(), source, "all", by="town", scratch=scratch)
    counted, *named = raised.value.message.split("; ")
    assert " 4 of 7 rows cannot be used: " in counted
    said = [each.partition(": ")[2] for each in [counted.partition(" cannot be used: ")[2], *named]]
    assert said == BAD
    examples, _ = load_examples(Mood(), source, "all", by="town", skip_invalid=True, scratch=scratch)
    assert [(example.inputs["text"], example.target, example.extra["town"]) for example in examples] == [
        ("good, I think", "glad", "Rome"),
        ('she said "no"', "sad", ""),
        ("two\nlines", "glad", "Oslo"),
    ]
