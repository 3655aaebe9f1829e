"""Excel's workbooks: the rows of the first sheet that holds some."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from gpt_tasks.data.cells import plain, refuse_repeated, unnamed_columns
from gpt_tasks.data.encodings import reading
from gpt_tasks.errors import DataError
from gpt_tasks.types import Row


def read_excel(path: Path) -> Iterator[Row]:
    """Yield the rows of a workbook's first sheet that is not empty; its first row has the columns' names."""
    header: list[str] | None = None
    for number, cells in _sheet(path):
        if header is None:
            header = _names(cells)
            refuse_repeated(header, f"{path.name}:{number}")
            continue
        given = list(map(_value, cells))
        if any(value is not None for value in given):
            values = {column: plain(value) for column, value in zip(header, given, strict=False) if column}
            yield Row(dict.fromkeys(filter(None, header)) | values, f"{path.name}:{number}")


def odd_in_excel(path: Path) -> list[str]:
    """Return what a user should know of a file: columns that have values and no name."""
    header: list[str] | None = None
    unnamed: set[int] = set()
    with suppress(DataError):  # Raised again when the rows are read.
        for _, cells in _sheet(path):
            header = _names(cells) if header is None else header
            for place, cell in enumerate(cells):
                if (place >= len(header) or not header[place]) and _value(cell) is not None:
                    unnamed.add(place)
    return [unnamed_columns(path.name, sorted(unnamed))] if unnamed else []


def _sheet(path: Path) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Yield the rows of a workbook's first sheet that is not empty, each with its number, from the first with values.

    Raises DataError where there is none, or where the file is damaged.
    """
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
                begun = False
                for number, cells in enumerate(_whole(path, sheet.iter_rows()), start=1):
                    begun = begun or any(_value(cell) is not None for cell in cells)
                    if begun:
                        yield number, cells
                if begun:
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


def _names(cells: tuple[Any, ...]) -> list[str]:
    return ["" if cell.value is None else str(cell.value).strip() for cell in cells]
