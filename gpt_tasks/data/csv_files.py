"""Comma-separated files: their delimiter and quotes, their header, and what is odd about them."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TextIO

from gpt_tasks.data.cells import refuse_repeated, unnamed_columns
from gpt_tasks.data.encodings import open_text
from gpt_tasks.data.invalid import BrokenRow
from gpt_tasks.errors import DataError
from gpt_tasks.types import Row

DELIMITERS = ",;\t|"
LONGEST_FIELD = 2**24
_SAMPLE = 2**16
# Excel's own first line, which says by what the others are separated.
_SEPARATOR_LINE = re.compile(r'"?sep=(.|\\t)"?\s*', re.IGNORECASE)
_QUOTING = "Quote a text that holds the delimiter, a quote or a line break, and double the quotes inside it."
# How many lines that look like rows, and rows with whose values they are compared, are stored; longer values are texts.
_STORED, _LONGEST_VALUE = 10_000, 64


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a file is written: `skipped` lines before its header, the delimiter, and whether quotes quote."""

    delimiter: str
    quoting: int = csv.QUOTE_MINIMAL
    skipped: int = 0

    def rows(self, lines: TextIO, name: str) -> Iterator[tuple[str, list[str]] | BrokenRow]:
        """Yield the fields of each row of a file called `name`, and where it begins, as in `reviews.csv:17`.

        A row whose quotes are broken is a BrokenRow.
        """
        csv.field_size_limit(max(csv.field_size_limit(), LONGEST_FIELD))
        coming = _Lines(lines)
        for _ in islice(coming, self.skipped):
            pass
        reader = csv.reader(coming, delimiter=self.delimiter, quoting=self.quoting, strict=True)  # type: ignore[arg-type]
        while True:
            coming.row.clear()
            where = f"{name}:{coming.number + 1}"
            try:
                fields = next(reader, None)
            except csv.Error as error:
                reason = "a quote is not closed" if coming.pass_broken_row() else str(error)
                begins = "begins here" if len(coming.row) == 1 else f"goes from here to line {coming.number}"
                yield BrokenRow(where, f"{where}: the row that {begins} is broken: {reason}", _QUOTING)
                continue
            if fields is None:
                return
            if fields:
                yield where, fields


class _Lines:
    """The lines of a file; those of the `row` that is being read can be read again. `number` counts what was read."""

    def __init__(self, lines: TextIO) -> None:
        self._coming = iter(lines)
        self._again: list[str] = []
        self.row: list[str] = []
        self.number = 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._again.pop() if self._again else next(self._coming)
        self.row.append(line)
        self.number += 1
        return line

    def pass_broken_row(self) -> bool:
        """Read on to the line where the quotes of the row are pairs: what is quoted by then is a part of it.

        Where they never are, one of its first line is alone, and that line is the row. Return whether this is so.
        """
        quotes, length = sum(line.count('"') for line in self.row), sum(map(len, self.row))
        while quotes % 2 and length < LONGEST_FIELD:
            line = next(self, None)
            if line is None:
                break
            quotes, length = quotes + line.count('"'), length + len(line)
        if quotes % 2:
            self._again += reversed(self.row[1:])
            self.number -= len(self.row) - 1
            del self.row[1:]
        return bool(quotes % 2)


def dialect_of(path: Path, suffix: str, encoding: str) -> Dialect:
    """Find out how a file is written: by its suffix, its first line, and the regularity of its rows."""
    with open_text(path, encoding, newline="") as lines:
        named = _SEPARATOR_LINE.fullmatch(lines.readline(_SAMPLE))
        skipped = 1 if named else 0
        if named:
            return Dialect("\t" if named[1] == "\\t" else named[1], skipped=skipped)
    if not suffix.startswith(".tsv"):
        with open_text(path, encoding, newline="") as lines:
            delimiter = _likeliest(lines.read(_SAMPLE))
        if delimiter != "\t":
            return Dialect(delimiter)
    return Dialect("\t", _quoting(path, encoding))


def read_csv(path: Path, encoding: str, dialect: Dialect) -> Iterator[Row]:
    """Yield the rows of a file by the names of its header; a column without a name, as of an index, is left out."""
    header: list[str] | None = None
    with open_text(path, encoding, newline="") as lines:
        for row in dialect.rows(lines, path.name):
            if isinstance(row, BrokenRow):
                if header is None:
                    raise row.error
                yield row
                continue
            where, fields = row
            if header is None:
                header = _header(fields, where)
            elif len(fields) != len(header):
                named = ", ".join(filter(None, header))
                yield BrokenRow(
                    where, f"{where}: the row has {len(fields)} fields, the header {len(header)} ({named})", _QUOTING
                )
            else:
                yield Row({column: value for column, value in zip(header, fields, strict=True) if column}, where)


def odd_in_csv(path: Path, encoding: str, dialect: Dialect) -> list[str]:
    """Return what a user should know of a file: columns without a name, and rows that a lone quote may hide."""
    header: list[str] = []
    suspects: list[tuple[str, list[str]]] = []
    with open_text(path, encoding, newline="") as lines:
        for where, fields in _whole(dialect.rows(lines, path.name)):
            if not header:
                header = fields
            elif len(suspects) < _STORED and any("\n" in value or "\r" in value for value in fields):
                suspects += ((where, line) for line in _lines_like_rows(fields, dialect.delimiter, len(header)))
    notes = []
    unnamed = [place for place, column in enumerate(header) if not column.strip()]
    if unnamed:
        notes.append(unnamed_columns(path.name, unnamed))
    # A line of a text may hold as many commas as a row; if it also holds a value of a column, it looks like one.
    values = _short_values(path, encoding, dialect, len(header)) if suspects else []
    lost = [where for where, line in suspects if any(map(set.__contains__, values, line))]
    if lost:
        notes.append(
            f"{lost[0]}: {len(lost):,} lines inside of quoted texts look like rows of their own. If a quote there is a "
            "plain character, these rows are lost in a text: quote that text, and double the quote."
        )
    return notes


def _whole(rows: Iterable[tuple[str, list[str]] | BrokenRow]) -> Iterator[tuple[str, list[str]]]:
    return (row for row in rows if not isinstance(row, BrokenRow))


def _header(fields: list[str], where: str) -> list[str]:
    header = [name.strip() for name in fields]
    if not any(header):
        raise DataError(f"{where}: the header names no column", "Give the file a first line with the columns' names.")
    refuse_repeated(header, where)
    return header


def _short_values(path: Path, encoding: str, dialect: Dialect, width: int) -> list[set[str]]:
    """Return values of each column, of the first rows that take one line; long ones are texts, and left out."""
    values: list[set[str]] = [set() for _ in range(width)]
    with open_text(path, encoding, newline="") as lines:
        for _, fields in islice(_whole(dialect.rows(lines, path.name)), 1, _STORED):
            if len(fields) == width and not any("\n" in value for value in fields):
                for seen, value in zip(values, fields, strict=True):
                    if 0 < len(value) <= _LONGEST_VALUE:
                        seen.add(value)
    return values


def _lines_like_rows(fields: list[str], delimiter: str, width: int) -> list[list[str]]:
    """Return those lines inside of a row's texts that have as many fields as the header, cut into these.

    A text's last line is left out: with the fields after it, it always looks like a row.
    """
    found = []
    for place, value in enumerate(fields if width > 1 else ()):
        if "\n" in value or "\r" in value:
            first, *inner = (line.split(delimiter) for line in value.splitlines()[:-1])
            found += [line for line in ([*fields[:place], *first], *inner) if len(line) == width]
    return found


def _likeliest(sample: str) -> str:
    """Choose the delimiter that parts the header and cuts the first rows into as many fields as the header."""
    best = (0.0, 1, ",")
    for delimiter in DELIMITERS:
        widths = []
        try:
            for fields in csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter, strict=True):
                if fields:
                    widths.append(len(fields))
        except csv.Error:
            # The sample ends inside quotes, or a wrong delimiter directly follows some.
            pass
        if len(sample) == _SAMPLE:
            widths = widths[:-1] or widths
        if widths and widths[0] > 1:
            regular = widths.count(widths[0]) / len(widths)
            best = max(best, (regular, widths[0], delimiter), key=lambda choice: choice[:2])
    return best[2]


def _quoting(path: Path, encoding: str) -> int:
    """Return whether quotes quote: in many tab-separated files they are plain characters.

    They are where only so every row has as many fields as the header; where it has either way, they are if quoting
    makes one row of several.
    """
    rows = {}
    for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_NONE):
        with open_text(path, encoding, newline="") as lines:
            rows[quoting] = _regular_rows(Dialect("\t", quoting).rows(lines, path.name))
    return csv.QUOTE_NONE if rows[csv.QUOTE_NONE] > rows[csv.QUOTE_MINIMAL] else csv.QUOTE_MINIMAL


def _regular_rows(rows: Iterable[tuple[str, list[str]] | BrokenRow]) -> int:
    """Return the number of rows where all have as many fields as the first, else 0."""
    width = count = 0
    for row in rows:
        width = width or (0 if isinstance(row, BrokenRow) else len(row[1]))
        if isinstance(row, BrokenRow) or len(row[1]) != width:
            return 0
        count += 1
    return count
