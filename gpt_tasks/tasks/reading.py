"""Read a row of data: which column holds which field, and the text that is in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from unicodedata import normalize

from gpt_tasks.errors import DataError
from gpt_tasks.types import Row


def refuse_unknown_fields(task: str, known: Iterable[str], mapping: Mapping[str, str]) -> None:
    """Raise DataError where the user maps a field that a task does not have."""
    known = list(known)
    odd = [field for field in mapping if field not in known]
    if odd:
        raise DataError(
            f"--column {odd[0]}={mapping[odd[0]]}: task '{task}' has no field '{odd[0]}'",
            f"Its fields are {', '.join(known)}.",
        )


def choose_columns(fields: Iterable[str], columns: Mapping[str, str], mapping: Mapping[str, str]) -> dict[str, str]:
    """Return the column of each field: the one that the user maps, else the task's own, else the field's name."""
    return {field: mapping.get(field, columns.get(field, field)) for field in fields}


def require_columns(chosen: Mapping[str, str], available: Sequence[str], where: str) -> None:
    """Raise DataError, naming the columns that are there, for a field whose column is not."""
    for field, column in chosen.items():
        if column not in available:
            raise DataError(
                f"{where}: there is no column '{column}'; the columns are {', '.join(available)}",
                f"Say which one holds it: --column {field}=NAME, or {field}: NAME under the fields of a suite.",
            )


def extra_columns(row: Row, extra: Sequence[str]) -> dict[str, str]:
    """Return further columns of a row as text in Unicode's form NFC, empty where there is nothing."""
    found = {column: row.values.get(column) for column in extra}
    return {column: "" if value is None else normalize("NFC", str(value)) for column, value in found.items()}


def text_of(row: Row, column: str) -> str:
    """Return the text in a row's column. Raises DataError where it is missing, empty or no text."""
    value = row.values.get(column)
    if value is None:
        raise DataError(f"{row.where}: column '{column}' is missing", "Give every row a text, or leave the row out.")
    if not isinstance(value, str):
        raise DataError(
            f"{row.where}: column '{column}' holds a {type(value).__name__}, not a text: {str(value)[:60]}",
            "Give the text as one string.",
        )
    if not value.strip():
        raise DataError(f"{row.where}: column '{column}' is empty", "Give every row a text, or leave the row out.")
    return value


def plain_text(row: Row, column: str) -> str:
    """Return a row's text, which may be empty, or a number as text. Raises DataError where it is neither."""
    value: Any = row.values.get(column)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        kind = "missing" if value is None else f"a {type(value).__name__}, not a text"
        raise DataError(f"{row.where}: column '{column}' is {kind}", "Give every row a text.")
    return value
