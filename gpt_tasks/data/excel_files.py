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
            sheets = [sheet for sheet in book.worksheets if hasattr(sheet, "iter_rows")]
        except (BadZipFile, InvalidFileException, SyntaxError, KeyError, ValueError, TypeError) as error:
            raise _broken(path, error) from error
        try:
            for sheet in sheets:
                # What a file says of its extent may be wrong.
                sheet.reset_dimensions()
                rows = _whole(path, sheet.iter_rows())
                first = next(
                    (number for number, cells in enumerate(rows) if any(_value(cell) is not None for cell in cells)),
                    None,
                )
                if first is not None:
                    yield from _sheet_rows(islice(_whole(path, sheet.iter_rows()), first, None), path.name, first + 1)
                    return
        finally:
            book.close()
    raise DataError(f"{path}: the file is empty", "Give a file that holds rows.")


def _broken(path: Path, error: Exception) -> DataError:
    return DataError(f"{path}: this is not a whole .xlsx file: {str(error)[:200]}", "Save it anew.")


def _whole(path: Path, rows: Iterator[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """Yield rows of cells. Raises DataError where the sheet is damaged; errors of XML are SyntaxErrors."""
    try:
        yield from rows
    except (SyntaxError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise _broken(path, error) from error


def _value(cell: Any) -> Any:
    """Return the value of a cell; an error, as #N/A, is none."""
    return None if cell.data_type == "e" else cell.value


def _sheet_rows(rows: Iterator[tuple[Any, ...]], name: str, line: int) -> Iterator[Row]:
    header = ["" if cell.value is None else str(cell.value).strip() for cell in next(rows)]
    for place, column in enumerate(header):
        if column and column in header[:place]:
            raise DataError(f"{name}:{line}: the header names the column '{column}' twice", "Rename one of them.")
    for number, cells in enumerate(rows, start=line + 1):
        given = list(map(_value, cells))
        if any(value is not None for value in given):
            values = {column: plain(value) for column, value in zip(header, given, strict=False) if column}
            yield Row(dict.fromkeys(filter(None, header)) | values, f"{name}:{number}")
