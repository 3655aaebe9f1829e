"""Read a row of data: which column holds which field, and the text, number or list that is in it."""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any
from unicodedata import normalize

from gpt_tasks.errors import DataError, UsageError
from gpt_tasks.types import Row

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_WHOLE = re.compile(r"-?\d+(?:\.0*)?", re.ASCII)
# A text in quotes, and the white space between it and another one: numpy writes lists without commas.
_QUOTED = re.compile(r"""('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")(\s+(?=['"]))?""")
_ARRAY = re.compile(r"array\((\[.*?\])(?:,\s*dtype=[\w'<]+)?\)", re.DOTALL)


def refuse_unknown_fields(task: str, known: Iterable[str], mapping: Mapping[str, str]) -> None:
    """Raise UsageError where the user maps a field that a task does not have."""
    known = list(known)
    odd = [field for field in mapping if field not in known]
    if odd:
        raise UsageError(
            f"--column {odd[0]}={mapping[odd[0]]}: task '{task}' has no field '{odd[0]}'",
            f"Its fields are {', '.join(known)}.",
        )


def choose_columns(fields: Iterable[str], columns: Mapping[str, str], mapping: Mapping[str, str]) -> dict[str, str]:
    """Return the column of each field: the one that the user maps, else the task's own, else the field's name."""
    return {field: mapping.get(field, columns.get(field, field)) for field in fields}


def require_columns(chosen: Mapping[str, str], available: Sequence[str], where: str) -> None:
    """Raise DataError for a field whose column is not there, naming those that are, and for a column read twice."""
    for field, column in chosen.items():
        if column not in available:
            raise DataError(
                f"{where}: there is no column '{column}'; the columns are {', '.join(available)}",
                f"Say which one holds it: --column {field}=NAME, or {field}: NAME under the fields of a suite.",
            )
        first = next(name for name, other in chosen.items() if other == column)
        if first != field:
            raise DataError(
                f"{where}: both '{first}' and '{field}' would be read from the column '{column}'",
                f"Say which one holds each of them, as in --column {field}=NAME.",
            )


def extra_columns(row: Row, extra: Sequence[str]) -> dict[str, str]:
    """Return further columns of a row as text in Unicode's form NFC, empty where there is nothing."""
    return {column: normalize("NFC", as_label(row.values.get(column))) for column in extra}


def text_of(row: Row, column: str) -> str:
    """Return the text in a row's column, or a number as text. Raises DataError where it is missing or empty."""
    value = as_text(row.values.get(column))
    if value is None or (isinstance(value, str) and not value.strip()):
        lacking = "empty" if column in row.values else "missing"
        raise DataError(f"{row.where}: column '{column}' is {lacking}", "Give every row a text, or leave the row out.")
    if not isinstance(value, str):
        raise DataError(
            f"{row.where}: column '{column}' holds a {type(value).__name__}, not a text: {str(value)[:60]}",
            "Give the text as one string.",
        )
    return value


def plain_text(row: Row, column: str) -> str:
    """Return a row's text, which may be empty, or a number as text. Raises DataError where it is neither."""
    value = as_text(row.values.get(column))
    if not isinstance(value, str):
        kind = "missing" if value is None else f"a {type(value).__name__}, not a text"
        raise DataError(f"{row.where}: column '{column}' is {kind}", "Give every row a text.")
    return value


def as_text(value: Any) -> Any:
    """Return a number as a text, `true` and `false` of truth values, None of NaN; anything else as it is."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Real):
        return None if math.isnan(value) else str(value)
    return value


def as_label(value: Any) -> str:
    """Return a value as the text by which a label or a group is known in files of every format, empty where it is none.

    A whole number is written without a fraction (1, 1.0 and the text "1.0" are "1"), a truth value as `true` or
    `false`; white space around a text goes.
    """
    number = whole_number(value)
    text = as_text(value) if number is None else str(number)
    return "" if text is None else str(text).strip()


def whole_number(value: Any) -> int | None:
    """Return a whole number, also of a text as `3` or `3.0`; None for anything else."""
    if isinstance(value, str):
        # Digits with a leading zero are a name, as 007 is.
        found = _WHOLE.fullmatch(value.strip())
        digits = found[0].partition(".")[0] if found else ""
        return int(digits) if digits and str(int(digits[:18])) == digits else None
    if isinstance(value, bool):
        return None
    if isinstance(value, Integral):
        return int(value)
    return int(value) if isinstance(value, float) and value.is_integer() else None


def number_of(value: Any) -> float | None:
    """Return a finite number, also of a text; None for anything else, as `1_0`, which only Python reads as one."""
    if isinstance(value, bool) or (isinstance(value, str) and not _NUMBER.fullmatch(value.strip())):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def truth_value(value: Any) -> bool | None:
    """Return a truth value, also of 1, 1.0 or a text as `True`; None for anything else."""
    return {"true": True, "1": True, "false": False, "0": False}.get(as_label(value).lower())


def from_cell(value: Any) -> Any:
    """Return the list or mapping that a cell of text holds, any other value as it is.

    A spreadsheet has no lists: `["a", "b"]` (JSON), `['a', 'b']` (Python) and `['a' 'b']` (numpy) are read as one.
    """
    if not isinstance(value, str) or value.strip()[:1] + value.strip()[-1:] not in ("[]", "{}", "()"):
        return value
    text = value.strip()
    separated = _QUOTED.sub(lambda found: found[1] + ("," if found[2] else ""), text)
    for read, written in (
        (json.loads, text),
        (ast.literal_eval, separated),
        (ast.literal_eval, _ARRAY.sub(r"\1", separated)),
    ):
        try:
            found = read(written)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
        if isinstance(found, list | tuple | dict):
            return list(found) if isinstance(found, tuple) else found
    return value
