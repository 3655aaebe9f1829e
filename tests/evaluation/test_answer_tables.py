"""Answers in a workbook or a Parquet file are what they were when the file is read again."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from gpt_tasks.data.excel_files import read_excel
from gpt_tasks.data.parquet_files import read_parquet
from gpt_tasks.errors import DataError, UsageError
from gpt_tasks.evaluation.answer_files import check_answer_file
from gpt_tasks.evaluation.answer_tables import write_parquet, write_workbook

pytest.importorskip("openpyxl")

ROWS: list[dict[str, Any]] = [
    {"id": 1, "text": "=1+1", "note": None, "share": 0.25, "seen": True, "prediction": "positive"},
    {"id": 2, "text": "é 😂 数\nof\r\n\"two\", 'so'", "note": "#N/A", "share": 1.0, "seen": False, "prediction": None},
    {"id": 10**15 - 1, "text": " 007 ", "note": "-2+3", "share": None, "seen": None, "prediction": "@x"},
]  # fmt: skip
READERS = {".xlsx": (write_workbook, read_excel), ".parquet": (write_parquet, read_parquet)}


def again(file: Path, rows: list[dict[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows, written and read."""
    write, read = READERS[file.suffix]
    write(file, list(rows[0]), ((f"in:{n}", row) for n, row in enumerate(rows, start=1)))
    return [dict(row.values) for row in read(file)]


@pytest.mark.parametrize("suffix", READERS)
def test_values_are_what_they_were(tmp_path: Path, suffix: str) -> None:
    found = again(tmp_path / f"out{suffix}", ROWS)
    assert found == ROWS
    assert [list(row) for row in found] == [list(row) for row in ROWS]
    kinds = [{name: type(value) for name, value in row.items()} for row in found]
    wanted = [{name: type(value) for name, value in row.items()} for row in ROWS]
    if suffix == ".xlsx":  # a sheet knows one kind of number
        for kind in (*kinds, *wanted):
            kind["share"] = kind["id"] = float
    assert kinds == wanted


def test_a_formula_stays_a_text_in_a_workbook(tmp_path: Path) -> None:
    from openpyxl import load_workbook

    again(tmp_path / "out.xlsx", ROWS)
    cells = load_workbook(tmp_path / "out.xlsx").active["B2:C3"]
    assert [(cell.value, cell.data_type) for row in cells for cell in row][::3] == [("=1+1", "s"), ("#N/A", "s")]
    assert cells[0][0].quotePrefix


@pytest.mark.parametrize("suffix", READERS)
def test_lists_mappings_and_large_numbers(tmp_path: Path, suffix: str) -> None:
    rows = [{"tags": ["a", "é"], "of": {"a": 1}, "n": 2**60 + 1}, {"tags": [], "of": {"b": [2]}, "n": 3}]
    found = again(tmp_path / f"out{suffix}", rows)
    assert [row["of"] for row in found] == ['{"a": 1}', '{"b": [2]}']
    if suffix == ".parquet":
        assert [row["tags"] for row in found] == [["a", "é"], []]
        assert [row["n"] for row in found] == [2**60 + 1, 3]
    else:
        assert [row["tags"] for row in found] == ['["a", "é"]', "[]"]
        assert [row["n"] for row in found] == [str(2**60 + 1), 3]


def test_all_rows_of_a_parquet_file_decide_a_columns_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpt_tasks.evaluation.answer_tables._BATCH", 2)
    columns = {
        "late": [None, None, None, "x", None],
        "wide": [1, 2, 3, 4.5, None],
        "mixed": [1, True, "x", None, [2]],
        "none": [None] * 5,
        "huge": [1, 2, 3, 2**70, 4],
    }
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    file = tmp_path / "out.parquet"
    found = again(file, rows)
    read = {name: [row[name] for row in found] for name in columns}
    assert {name: read[name] for name in ("late", "wide", "none")} == {
        name: columns[name] for name in ("late", "wide", "none")
    }
    assert read["mixed"] == ["1", "true", "x", None, "[2]"]
    assert read["huge"] == ["1", "2", "3", str(2**70), "4"]
    assert str(parquet.read_schema(file).field("wide").type) == "double"


@pytest.mark.parametrize(
    ("value", "told"),
    [("a\x01b", "in:1: column 'text' has a control character"), ("x" * 32_768, "has 32,768 characters, and a cell of")],
)
def test_what_no_cell_holds_is_named(tmp_path: Path, value: str, told: str) -> None:
    with pytest.raises(DataError, match=told) as refused:
        again(tmp_path / "out.xlsx", [{"text": value}])
    assert refused.value.hint == "Write a .csv, .parquet or .jsonl."
    assert again(tmp_path / "out.parquet", [{"text": value}]) == [{"text": value}]


def test_without_openpyxl_the_way_out_is_named_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_answer_file(tmp_path / "out.xlsx", [])
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(UsageError, match=r"openpyxl, which writes \.xlsx, is not installed") as refused:
        check_answer_file(tmp_path / "out.xlsx", [])
    assert "pip install 'gpt-tasks[excel]'" in refused.value.hint
