"""JSON files: one object a line, or one document, which is a list of objects or SQuAD's own."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from gpt_tasks.data.encodings import open_text
from gpt_tasks.data.exports import is_left_out, is_of_a_tool, read_export
from gpt_tasks.data.invalid import BrokenRow
from gpt_tasks.data.squad import read_questions
from gpt_tasks.errors import DataError
from gpt_tasks.files import parse_json
from gpt_tasks.types import Row

Form = Literal["lines", "list", "document"]
# How a document of SQuAD's begins, where it is on several lines.
_DOCUMENT_BEGINS = re.compile(r'\s*\{\s*"(?:version|data)"')
_LINES = 'Give one JSON object per line, as in {"text": "...", "label": "..."}.'
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
        first, second = ([*islice(filter(str.strip, text), 2), "", ""])[:2]
        first = first.lstrip()
    if first.startswith("[") and not second:
        return "list"
    lines = suffix.startswith(".jsonl")
    try:
        document = parse_json(first)
    except ValueError:
        if first.startswith("["):
            return "list"
        return "lines" if lines and not _DOCUMENT_BEGINS.match(first + second) else "document"
    # A document of SQuAD's may be on one line too.
    articles = document.get("data") if isinstance(document, dict) else None
    if not isinstance(articles, list):
        return "lines"
    is_squads = any(isinstance(article, dict) and "paragraphs" in article for article in articles)
    return "document" if is_squads or not lines else "lines"


def _rows(path: Path, encoding: str, form: Form) -> Iterator[Row]:
    return _lines(path, encoding) if form == "lines" else _document(path, encoding)


def _lines(path: Path, encoding: str) -> Iterator[Row]:
    with open_text(path, encoding) as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            where = f"{path.name}:{number}"
            try:
                values = parse_json(line, _object)
            except json.JSONDecodeError as error:
                yield BrokenRow(where, f"{where}: this is not JSON: {error.msg} (column {error.colno})", _LINES)
            except ValueError as error:
                yield BrokenRow(where, f"{where}: this is not JSON: {error}", _LINES)
            else:
                shown = f": {line.strip()[:60]}"
                yield _row(
                    values, where, shown, 'Give one JSON object per line, as in {"text": "...", "label": "..."}.'
                )


def _document(path: Path, encoding: str) -> Iterator[Row]:
    """Rows of one JSON document, which is in memory as a whole."""
    name = path.name
    document: Any
    with open_text(path, encoding) as text:
        try:
            document = parse_json(text.read(), _object)
        except json.JSONDecodeError as error:
            where = f"{name}:{error.lineno}"
            raise DataError(f"{where}: this is not JSON: {error.msg} (column {error.colno})", _DOCUMENT) from error
        except ValueError as error:
            raise DataError(f"{name}: this is not JSON: {error}", _DOCUMENT) from error
    if not isinstance(document, list):
        yield from read_questions(document, name)
        return
    for number, values in enumerate(document, start=1):
        yield _row(values, f"{name}:item {number}", "", _DOCUMENT)


class _Repeated(dict[str, Any]):
    """An object in which a key is given twice."""

    key = ""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) == len(pairs):
        return values
    repeated = _Repeated(values)
    repeated.key = next(key for place, (key, _) in enumerate(pairs) if key in dict(pairs[:place]))
    return repeated


def _row(values: Any, where: str, shown: str, hint: str) -> Row:
    if isinstance(values, _Repeated):
        return BrokenRow(where, f"{where}: the column '{values.key[:60]}' is there twice", "Leave one of them.")
    if isinstance(values, dict):
        return Row(values, where)
    return BrokenRow(where, f"{where}: this is a {type(values).__name__}, not an object{shown}", hint)
