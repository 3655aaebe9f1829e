"""What docs/data.md says is read as what: every cell of its table is written into a file of its format, and read."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest

from gpt_tasks.data.formats import SUFFIXES
from gpt_tasks.data.sources import open_source
from gpt_tasks.data.sqlite import register_sources
from gpt_tasks.plugins import installed_plugins
from gpt_tasks.tasks.reading import as_label

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
SQLITE = {"sqlite": register_sources()[0]}


def table(first: str) -> list[list[str]]:
    """The cells of the table whose header begins so, the header's among them."""
    lines = PAGE.splitlines()
    begins = next(number for number, line in enumerate(lines) if line.startswith(f"| {first} |"))
    rows = []
    for line in lines[begins:]:
        if not line.startswith("|"):
            break
        rows.append([re.sub(r"^`(.*)`$", r"\1", cell[1:-1]) for cell in line.strip("|").split("|")])
    return [rows[0], *rows[2:]]


def as_csv(cell: str, folder: Path) -> object:
    (folder / "r.csv").write_text(f"text,label\nsome,{cell}\n", encoding="utf-8")
    return folder / "r.csv"


def as_jsonl(cell: str, folder: Path) -> object:
    (folder / "r.jsonl").write_text(f'{{"text": "some", "label": {json.dumps(json.loads(cell))}}}\n', encoding="utf-8")
    return folder / "r.jsonl"


def as_parquet(cell: str, folder: Path) -> object:
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.table({"text": ["some"], "label": [python(cell)]}), folder / "r.parquet")
    return folder / "r.parquet"


def as_excel(cell: str, folder: Path) -> object:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.append(["text", "label"])
    book.active.append(["some", python(cell)])
    book.save(folder / "r.xlsx")
    return folder / "r.xlsx"


def as_database(cell: str, folder: Path) -> object:
    with sqlite3.connect(folder / "r.db") as database:
        database.execute("CREATE TABLE r (text, label)")
        database.execute("INSERT INTO r VALUES (?, ?)", ("some", python(cell)))
    database.close()
    return f"sqlite:{folder}/r.db#r"


def as_frame(cell: str, folder: Path) -> object:
    return pytest.importorskip("pandas").DataFrame({"text": ["some"], "label": [python(cell)]})


def python(cell: str) -> Any:
    return eval(cell, {"date": date, "datetime": datetime})


WRITERS: list[Callable[[str, Path], object]] = [as_csv, as_jsonl, as_parquet, as_excel, as_database, as_frame]
HEADER, *VALUES = table("what")


@pytest.mark.parametrize("values", VALUES, ids=[values[0] for values in VALUES])
def test_each_value_is_read_as_the_same_label_in_every_format(values: list[str], tmp_path: Path) -> None:
    _, *cells, label = values
    assert len(cells) == len(WRITERS)
    for write, cell in zip(WRITERS, cells, strict=True):
        (row,) = open_source(write(cell, tmp_path), SQLITE).splits["all"]()
        assert as_label(row.values["label"]) == label, write.__name__


def test_every_format_is_on_the_page() -> None:
    told = " ".join(cells[0] for cells in table("`--data`"))
    assert all(f"{suffix.removesuffix('.gz')}" in told for suffix in SUFFIXES)
    for name, reader in installed_plugins().registry.sources.items():
        for said in getattr(reader, "suffixes", (f"{name}:",)):
            assert said in told
