"""Excel's workbooks: the rows of the first sheet that holds some."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from gpt_tasks.data.cells import plain
from gpt_tasks.data.encodings import reading
from gpt_tasks.errors import DataError
from gpt_tasks.types import Row


def read_excel(path: Path) -> Iterator[Row]:
    """Yield the rows of a workbook's first sheet that is not empty; its first row has the columns' names."""
    from zipfile import BadZipFile

    try:
        from openpyxl import load_workbook
        from openpyxl.utils.exceptions import InvalidFileException
    except ImportError:
        raise DataError(
            f"{path}: openpyxl, which reads .xlsx, is not installed",
            "Install it: pip install 'gpt-tasks[excel]'. Or save the sheet as CSV.",
        ) from None

    with reading(path):
        try:
            book = load_workbook(path, read_only=True, data_only=True)
        except (BadZipFile, InvalidFileException, KeyError, ValueError) as error:
            raise DataError(f"{path}: this is not a whole .xlsx file: {error}", "Save it anew.") from error
        try:
            for sheet in book.worksheets:
                rows = list(islice(sheet.iter_rows(values_only=True), 1))
                if rows and any(value is not None for value in rows[0]):
                    yield from _sheet_rows(sheet.iter_rows(values_only=True), path.name)
                    return
        finally:
            book.close()
    raise DataError(f"{path}: the file is empty", "Give a file that holds rows.")


def _sheet_rows(rows: Iterator[tuple[Any, ...]], name: str) -> Iterator[Row]:
    header = ["" if value is None else str(value).strip() for value in next(rows)]
    for place, column in enumerate(header):
        if column and column in header[:place]:
            raise DataError(f"{name}:1: the header names the column '{column}' twice", "Rename one of them.")
    for number, cells in enumerate(rows, start=2):
        if any(value is not None for value in cells):
            values = {column: plain(value) for column, value in zip(header, cells, strict=False) if column}
            yield Row(dict.fromkeys(filter(None, header)) | values, f"{name}:{number}")
