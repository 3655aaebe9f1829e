"""Read the rows of one file, of any kind that `SUFFIXES` names, in any encoding and dialect."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from gpt_tasks.data.plain_text import read_passages
from gpt_tasks.data.squad import read_questions
from gpt_tasks.errors import DataError, MachineError
from gpt_tasks.extensions import FileFormat
from gpt_tasks.types import Row

TEXT_SUFFIXES = (".json", ".jsonl", ".csv", ".tsv", ".txt")
SUFFIXES = (*TEXT_SUFFIXES, *(f"{suffix}.gz" for suffix in TEXT_SUFFIXES), ".parquet")

DELIMITERS = ",;\t|"
LONGEST_FIELD = 2**24
_SAMPLE = 2**16
_CHUNK = 2**20
_BATCH = 1024
# Control characters that no text in a Western code page holds; almost any bytes are valid cp1252.
_BINARY = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_QUOTING = "Quote a text that holds the delimiter, a quote or a line break, and double the quotes inside it."


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file that was found readable, and how it is to be read. `note` is a message to the user about it, or empty."""

    path: Path
    suffix: str
    encoding: str = ""
    note: str = ""
    format: FileFormat | None = None

    def rows(self) -> Iterator[Row]:
        """Read the rows from the beginning. Raises DataError naming the line of one that is broken."""
        if self.format is not None:
            return _format_rows(self, self.format)
        if self.suffix == ".parquet":
            return _parquet_rows(self)
        if self.suffix.startswith(".jsonl"):
            return _json_rows(self)
        if self.suffix.startswith(".json"):
            return _document_rows(self)
        if self.suffix.startswith(".txt"):
            return _text_rows(self)
        return _csv_rows(self)


def suffix_of(path: Path, formats: Sequence[FileFormat] = ()) -> str | None:
    """Return the suffix by which a file is read, as `.csv.gz`, or None for a file that is no data."""
    added = [f"{suffix}{packed}" for each in formats for suffix in each.suffixes for packed in ("", ".gz")]
    return next((suffix for suffix in (*SUFFIXES, *added) if path.name.lower().endswith(suffix)), None)


def open_file(path: Path, formats: Sequence[FileFormat] = ()) -> DataFile:
    """Find out how a file is to be read, without reading its rows. `formats` are further ones that are known.

    Text is UTF-8, or UTF-16 where its first bytes say so; a .csv, .tsv or .txt that is neither is read as cp1252.
    Raises DataError for a file of an unknown kind, an empty one and a binary one, MachineError for one that cannot be
    read.
    """
    suffix = suffix_of(path, formats)
    if suffix is None:
        known = [*SUFFIXES, *(suffix for each in formats for suffix in each.suffixes)]
        raise DataError(f"{path}: files of this kind cannot be read", f"Give one that ends in {', '.join(known)}.")
    chosen = next((each for each in formats if suffix.removesuffix(".gz") in each.suffixes), None)
    if suffix == ".parquet":
        return DataFile(path, suffix)
    with _bytes(path) as file:
        head = file.read(4)
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        candidates = ["utf-16"]
    else:
        candidates = ["utf-8-sig"] if suffix.startswith(".json") else ["utf-8-sig", "cp1252"]
    problems = []
    for encoding in candidates:
        problem = _misreading(path, encoding)
        if not problem:
            note = f"{path.name} is not UTF-8; it was read as cp1252 (Windows)." if encoding == "cp1252" else ""
            return DataFile(path, suffix, encoding, note, chosen)
        problems.append(problem)
    raise DataError(problems[0], "Save it as text in UTF-8.")


def read_rows(path: Path) -> Iterator[Row]:
    """Read the rows of a file. Raises as `open_file` does, and DataError naming the line of a row that is broken."""
    return open_file(path).rows()


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Raise what goes wrong in reading a file as DataError or MachineError."""
    try:
        yield
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path}: this is not a whole .gz file: {error}", "Compress it anew.") from error
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such file", "Check the path.") from error
    except OSError as error:
        raise MachineError(
            f"{path}: the file cannot be read: {error.strerror or error}", "Fix its permission, or give another file."
        ) from error


def _misreading(path: Path, encoding: str) -> str:
    """Say where a file is not text in an encoding; an empty answer means that it is."""
    decoder = codecs.getincrementaldecoder(encoding)()
    binary = {"utf-16": None, "cp1252": _BINARY}.get(encoding, re.compile(b"\x00"))
    line, filled = 1, False
    with _bytes(path) as file:
        while True:
            chunk = file.read(_CHUNK)
            odd = binary.search(chunk) if binary else None
            if odd:
                line += chunk[: odd.start()].count(b"\n")
                return f"{path.name}:{line}: this is a binary file, not text"
            try:
                text = decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                byte = error.object[error.start]
                line += error.object[: error.start].count(b"\n")
                return f"{path.name}:{line}: byte {byte:#04x} is not {encoding.removesuffix('-sig').upper()}"
            line += text.count("\n")
            filled = filled or bool(text.strip())
            if not chunk:
                break
    if not filled:
        raise DataError(f"{path}: the file is empty", "Give a file that holds rows.")
    return ""


def _format_rows(file: DataFile, format: FileFormat) -> Iterator[Row]:
    with _text(file, newline=None) as lines:
        yield from format.read(lines, file.path.name)


def _json_rows(file: DataFile) -> Iterator[Row]:
    with _text(file, newline=None) as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            where = f"{file.path.name}:{number}"
            try:
                values = json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(
                    f"{where}: this is not JSON: {error.msg} (column {error.colno})", "Give one JSON object per line."
                ) from error
            except (ValueError, RecursionError) as error:
                raise DataError(f"{where}: this is not JSON: {error}", "Give one JSON object per line.") from error
            if not isinstance(values, dict):
                raise DataError(
                    f"{where}: this is a {type(values).__name__}, not an object: {line.strip()[:60]}",
                    'Give one JSON object per line, as in {"text": "...", "label": "..."}.',
                )
            yield Row(values, where)


def _document_rows(file: DataFile) -> Iterator[Row]:
    """Rows of one JSON document, which is in memory as a whole: a list of objects, or SQuAD's own."""
    name, hint = file.path.name, "Give a list of objects, a document of SQuAD's, or .jsonl with one object per line."
    with _text(file, newline=None) as text:
        try:
            document = json.load(text)
        except json.JSONDecodeError as error:
            where = f"{name}:{error.lineno}"
            raise DataError(f"{where}: this is not JSON: {error.msg} (column {error.colno})", hint) from error
        except (ValueError, RecursionError) as error:
            raise DataError(f"{name}: this is not JSON: {error}", hint) from error
    if not isinstance(document, list):
        yield from read_questions(document, name)
        return
    for number, values in enumerate(document, start=1):
        if not isinstance(values, dict):
            raise DataError(f"{name}: item {number} is a {type(values).__name__}, not an object", hint)
        yield Row(values, f"{name}:item {number}")


def _text_rows(file: DataFile) -> Iterator[Row]:
    """Rows of the columns `passage` and `continues`: what other tasks read as one text is not found in them."""
    with _text(file, newline=None) as lines:
        for text, ends, number in read_passages(lines):
            yield Row({"passage": text, "continues": not ends}, f"{file.path.name}:{number}")


def _csv_rows(file: DataFile) -> Iterator[Row]:
    name = file.path.name
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_FIELD))
    delimiter = "\t" if file.suffix.startswith(".tsv") else _delimiter(file)
    with _text(file, newline="") as lines:
        reader = csv.reader(lines, delimiter=delimiter, quoting=_quoting(file, delimiter), strict=True)
        header: list[str] = []
        begins = 1
        try:
            for fields in reader:
                where = f"{name}:{begins}"
                begins = reader.line_num + 1
                if not fields:
                    continue
                if not header:
                    header = _header(fields, where)
                elif len(fields) != len(header):
                    raise DataError(
                        f"{where}: the row has {len(fields)} fields, the header {len(header)} ({', '.join(header)})",
                        _QUOTING,
                    )
                else:
                    yield Row(dict(zip(header, fields, strict=True)), where)
        except csv.Error as error:
            raise DataError(f"{name}:{begins}: the row that begins here is broken: {error}", _QUOTING) from error


def _header(fields: list[str], where: str) -> list[str]:
    header = [name.strip() for name in fields]
    for position, name in enumerate(header):
        if not name:
            raise DataError(f"{where}: column {position + 1} of the header has no name", "Name it, or take it out.")
        if name in header[:position]:
            raise DataError(f"{where}: the header names the column '{name}' twice", "Rename one of them.")
    return header


def _delimiter(file: DataFile) -> str:
    """Choose the delimiter that splits the header and cuts the first rows into as many fields as the header."""
    with _text(file, newline="") as lines:
        sample = lines.read(_SAMPLE)
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


def _quoting(file: DataFile, delimiter: str) -> Any:
    """Return whether quotes quote: in many tab-separated files they are plain characters.

    They are where only so every row has as many fields as the header; where it has either way, they are if quoting
    makes one row of several.
    """
    if delimiter != "\t":
        return csv.QUOTE_MINIMAL
    rows = {}
    for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_NONE):
        with _text(file, newline="") as lines:
            rows[quoting] = _regular_rows(csv.reader(lines, delimiter=delimiter, quoting=quoting, strict=True))
    return csv.QUOTE_NONE if rows[csv.QUOTE_NONE] > rows[csv.QUOTE_MINIMAL] else csv.QUOTE_MINIMAL


def _regular_rows(rows: Iterable[list[str]]) -> int:
    """Return the number of rows where all have as many fields as the first, else 0."""
    width = count = 0
    try:
        for fields in rows:
            width = width or len(fields)
            if fields and len(fields) != width:
                return 0
            count += 1
    except csv.Error:
        return 0
    return count


def _parquet_rows(file: DataFile) -> Iterator[Row]:
    import pyarrow as pa
    from pyarrow import parquet

    number = 0
    with reading(file.path):
        try:
            # Buffered, a column of a row group is read piece by piece and not held whole.
            with parquet.ParquetFile(file.path, buffer_size=_CHUNK) as table:
                for batch in table.iter_batches(batch_size=_BATCH):
                    for values in batch.to_pylist():
                        number += 1
                        yield Row(values, f"{file.path.name}:{number}")
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise DataError(
                f"{file.path}: this is not a whole .parquet file: {str(error).splitlines()[0]}", "Write it anew."
            ) from error


@contextmanager
def _bytes(path: Path) -> Iterator[IO[bytes]]:
    packed = path.suffix.lower() == ".gz"
    with reading(path), cast(IO[bytes], gzip.open(path)) if packed else path.open("rb") as file:
        yield file


@contextmanager
def _text(file: DataFile, newline: str | None) -> Iterator[io.TextIOWrapper]:
    with _bytes(file.path) as binary, io.TextIOWrapper(binary, encoding=file.encoding, newline=newline) as text:
        yield text
