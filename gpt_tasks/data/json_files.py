"""JSON files: one object a line, or one document, which is a list of objects or SQuAD's own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from gpt_tasks.data.encodings import open_text
from gpt_tasks.data.exports import is_left_out, is_of_a_tool, read_export
from gpt_tasks.data.invalid import BrokenRow
from gpt_tasks.data.squad import read_questions
from gpt_tasks.errors import DataError
from gpt_tasks.types import Row

Form = Literal["lines", "list", "document"]
_LINES = "Give one JSON object per line."
_DOCUMENT = "Give a list of objects, a document of SQuAD's, or .jsonl with one object per line."


def read_json(path: Path, encoding: str, suffix: str) -> Iterator[Row]:
    """Yield the rows of a file; those of an annotation tool's export by its fields and labels.

    Raises DataError where a document is broken; a line that is broken is a BrokenRow.
    """
    for row in _rows(path, encoding, _form(path, encoding, suffix)):
        if isinstance(row, BrokenRow) or not is_of_a_tool(row.values):
            yield row
        elif not is_left_out(row.values):
            yield Row(read_export(row.values), row.where)


def odd_in_json(path: Path, encoding: str, suffix: str) -> list[str]:
    """Return what a user should know of a file: how many of an export's rows are left out."""
    form = _form(path, encoding, suffix)
    if form == "document":
        return []
    left_out = 0
    with suppress(DataError):  # Raised again when the rows are read.
        for number, row in enumerate(_rows(path, encoding, form)):
            if isinstance(row, BrokenRow):
                continue
            if number == 0 and not is_of_a_tool(row.values):
                break
            left_out += is_of_a_tool(row.values) and is_left_out(row.values)
    if not left_out:
        return []
    return [f"{path.name}: left out {left_out:,} rows that its annotators rejected, ignored or skipped."]


def _form(path: Path, encoding: str, suffix: str) -> Form:
    """Return the form of a file by its first line: the suffix alone does not decide between lines and a list."""
    with open_text(path, encoding) as text:
        first = next((line for line in text if line.strip()), "").lstrip()
    if first.startswith("["):
        return "list"
    if suffix.startswith(".jsonl"):
        return "lines"
    try:
        document = json.loads(first)
    except (ValueError, RecursionError):
        return "document"
    # A document of SQuAD's may be on one line too.
    is_row = isinstance(document, dict) and not isinstance(document.get("data"), list)
    return "lines" if is_row else "document"


def _rows(path: Path, encoding: str, form: Form) -> Iterator[Row]:
    return _lines(path, encoding) if form == "lines" else _document(path, encoding)


def _lines(path: Path, encoding: str) -> Iterator[Row]:
    with open_text(path, encoding) as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            where = f"{path.name}:{number}"
            try:
                values = json.loads(line)
            except json.JSONDecodeError as error:
                yield BrokenRow(where, f"{where}: this is not JSON: {error.msg} (column {error.colno})", _LINES)
            except (ValueError, RecursionError) as error:
                yield BrokenRow(where, f"{where}: this is not JSON: {error}", _LINES)
            else:
                if isinstance(values, dict):
                    yield Row(values, where)
                    continue
                yield BrokenRow(
                    where,
                    f"{where}: this is a {type(values).__name__}, not an object: {line.strip()[:60]}",
                    'Give one JSON object per line, as in {"text": "...", "label": "..."}.',
                )


def _document(path: Path, encoding: str) -> Iterator[Row]:
    """Rows of one JSON document, which is in memory as a whole."""
    name = path.name
    document: Any
    with open_text(path, encoding) as text:
        try:
            document = json.load(text)
        except json.JSONDecodeError as error:
            where = f"{name}:{error.lineno}"
            raise DataError(f"{where}: this is not JSON: {error.msg} (column {error.colno})", _DOCUMENT) from error
        except (ValueError, RecursionError) as error:
            raise DataError(f"{name}: this is not JSON: {error}", _DOCUMENT) from error
    if not isinstance(document, list):
        yield from read_questions(document, name)
        return
    for number, values in enumerate(document, start=1):
        where = f"{name}:item {number}"
        if isinstance(values, dict):
            yield Row(values, where)
        else:
            message = f"{name}: item {number} is a {type(values).__name__}, not an object"
            yield BrokenRow(where, message, _DOCUMENT)
