"""Rows of answers as a table: CSV, Excel's workbooks and Parquet."""

from __future__ import annotations

import csv
import json
import math
import pickle
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

from gpt_tasks.errors import DataError, UsageError
from gpt_tasks.files import temporary_folder

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH = 1024
# What a sheet holds at most: of rows, of the characters of a cell, and of a number's digits.
_SHEET_ROWS = 2**20
_CELL = 32_767
_EXACT = 10**15
_OTHERS = "Write a .csv, .parquet or .jsonl."

Values = Mapping[str, Any]
Rows = Iterator[tuple[str, Values]]
"""Each row's place, as `new.csv:3`, and its values; all have the columns of the first."""


def write_delimited(file: TextIO, header: Sequence[str], rows: Rows, delimiter: str) -> None:
    """Write rows with a line feed at their end; lists and mappings are JSON, null is nothing."""
    writer = csv.DictWriter(_Lines(file), header, restval="", delimiter=delimiter)
    writer.writeheader()
    for _, values in rows:
        writer.writerow({name: _cell(value) for name, value in values.items()})


def check_workbooks(output: Path) -> None:
    """Raise UsageError where openpyxl, which writes workbooks, is not installed."""
    try:
        import openpyxl  # noqa: F401
    except ImportError:
        raise UsageError(
            f"--output {output}: openpyxl, which writes .xlsx, is not installed",
            "Install it: pip install 'gpt-tasks[excel]'. Or write a .csv or .parquet.",
        ) from None


def write_workbook(file: Path, header: Sequence[str], rows: Rows) -> None:
    """Write rows to the one sheet of a workbook: a text stays text, also one that begins as a formula does.

    Raises DataError for a text that no cell can hold, and for more rows than a sheet has.
    """
    from openpyxl import Workbook
    from openpyxl.cell import WriteOnlyCell
    from openpyxl.utils.exceptions import IllegalCharacterError

    book = Workbook(write_only=True)
    sheet = book.create_sheet("answers")

    def cell(value: Any, where: str, name: str) -> Any:
        value = _cell(value) if not isinstance(value, bool) else value
        if isinstance(value, float) and not math.isfinite(value):
            return None if math.isnan(value) else cell(str(value), where, name)
        if isinstance(value, int) and abs(value) >= _EXACT:
            value = str(value)
        if not isinstance(value, str):
            return value
        if len(value) > _CELL:
            raise DataError(
                f"{where}: column '{name}' has {len(value):,} characters, and a cell of .xlsx holds {_CELL:,}", _OTHERS
            )
        try:
            made = WriteOnlyCell(sheet, value=value)
        except IllegalCharacterError:
            raise DataError(
                f"{where}: column '{name}' has a control character, which no .xlsx holds", _OTHERS
            ) from None
        made.data_type = "s"  # openpyxl takes a text for a formula that begins with =, and for an error as #N/A
        made.quotePrefix = value.startswith("=")  # so that Excel leaves it a text when the cell is edited
        return made

    try:
        sheet.append([cell(name, "the header", name) for name in header])
        for number, (where, values) in enumerate(rows, start=2):
            if number > _SHEET_ROWS:
                raise DataError(f"{where}: a sheet of .xlsx holds {_SHEET_ROWS:,} rows", _OTHERS)
            sheet.append([cell(values.get(name), where, name) for name in header])
    finally:
        sheet.close()  # or else openpyxl's own file is still being written when it is forgotten
    book.save(file)


def write_parquet(file: Path, header: Sequence[str], rows: Rows) -> None:
    """Write rows to a Parquet file: numbers, truth values, texts and lists of them as such, else as `write_delimited`.

    All rows decide a column's type, so that they are put aside in a temporary file first.
    """
    import pyarrow as pa
    from pyarrow import parquet

    types: dict[str, pa.DataType | None] = {name: pa.null() for name in header}
    with temporary_folder() as folder, (folder / "rows").open("w+b") as aside:
        count = 0
        while columns := _columns(header, rows):
            types = {name: _common(types[name], values) for name, values in columns.items()}
            pickle.dump(columns, aside)
            count += 1
        schema = pa.schema(
            [(name, pa.string() if kind is None or pa.types.is_null(kind) else kind) for name, kind in types.items()]
        )
        with parquet.ParquetWriter(file, schema) as writer:
            for columns in _put_aside(aside, count):
                arrays = [
                    pa.array(
                        [_text(value) for value in columns[name]] if types[name] is None else columns[name], of.type
                    )
                    for name, of in zip(header, schema, strict=True)
                ]
                writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def _columns(header: Sequence[str], rows: Rows) -> dict[str, list[Any]]:
    """Return the values of the next rows by column; nothing where there are none."""
    some = [values for _, values in islice(rows, _BATCH)]
    return {name: [values.get(name) for values in some] for name in header} if some else {}


def _put_aside(file: BinaryIO, count: int) -> Iterator[dict[str, list[Any]]]:
    file.seek(0)
    for _ in range(count):
        yield pickle.load(file)


def _common(before: pa.DataType | None, values: Sequence[Any]) -> pa.DataType | None:
    """Return the type of a column with some more values; None where they have none in common."""
    import pyarrow as pa

    if before is None:
        return None
    try:
        found = pa.array(values).type
        both = pa.unify_schemas(
            [pa.schema([("", before)]), pa.schema([("", found)])], promote_options="permissive"
        ).field(0)
    except (pa.ArrowException, OverflowError):
        return None
    inner = both.type
    while pa.types.is_list(inner):
        inner = inner.value_type
    plain = (pa.types.is_null, pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating, pa.types.is_string)
    # Mappings differ from row to row.
    return both.type if any(is_of(inner) for is_of in plain) else None


class _Lines:
    """Writes rows with a line feed at their end; the writer, whose rows end with both, quotes carriage returns too."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, row: str) -> None:
        self._file.write(row.removesuffix("\r\n") + "\n")


def _cell(value: Any) -> Any:
    """Return a value as it is written to a cell: lists and mappings as JSON, nothing for null."""
    if value is None or (isinstance(value, str | int | float) and not isinstance(value, bool)):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)


def _text(value: Any) -> str | None:
    found = _cell(value)
    return found if found is None else str(found)
