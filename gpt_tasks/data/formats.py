"""Read the rows of one file, of any kind that `SUFFIXES` names, in any encoding and dialect."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from gpt_tasks.data.csv_files import dialect_of, odd_in_csv, read_csv
from gpt_tasks.data.encodings import choose_encoding, open_text
from gpt_tasks.data.excel_files import odd_in_excel, read_excel
from gpt_tasks.data.json_files import odd_in_json, read_json
from gpt_tasks.data.parquet_files import read_parquet
from gpt_tasks.data.plain_text import read_passages
from gpt_tasks.errors import DataError, UsageError
from gpt_tasks.extensions import FileFormat
from gpt_tasks.types import Row

TEXT_SUFFIXES = (".json", ".jsonl", ".csv", ".tsv", ".txt")
SUFFIXES = (*TEXT_SUFFIXES, *(f"{suffix}.gz" for suffix in TEXT_SUFFIXES), ".parquet", ".xlsx")


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file that was found readable. `rows()` reads its rows from the beginning; `notes` are sentences to the user.

    A row that is broken is a `BrokenRow`; what breaks a whole file raises DataError.
    """

    path: Path
    rows: Callable[[], Iterator[Row]]
    notes: tuple[str, ...] = ()


def suffix_of(path: Path, formats: Sequence[FileFormat] = ()) -> str | None:
    """Return the suffix by which a file is read, as `.csv.gz`, or None for a file that is no data."""
    added = [f"{suffix}{packed}" for each in formats for suffix in each.suffixes for packed in ("", ".gz")]
    return next((suffix for suffix in (*SUFFIXES, *added) if path.name.lower().endswith(suffix)), None)


def open_file(path: Path, formats: Sequence[FileFormat] = (), encoding: str | None = None) -> DataFile:
    """Find out how a file is to be read, without keeping its rows. `formats` are further ones that are known.

    Text is in `encoding`, or in the one that `choose_encoding` finds; JSON is UTF-8 where none is given. Raises
    DataError for a file of an unknown kind, an empty one and a binary one, MachineError for one that cannot be read.
    """
    suffix = suffix_of(path, formats)
    if suffix is None:
        known = [*SUFFIXES, *(suffix for each in formats for suffix in each.suffixes)]
        raise DataError(f"{path}: files of this kind cannot be read", f"Give one that ends in {', '.join(known)}.")
    if suffix in (".parquet", ".xlsx"):
        refuse_encoding(encoding, path.name)
        if suffix == ".parquet":
            return DataFile(path, partial(read_parquet, path))
        return DataFile(path, partial(read_excel, path), tuple(odd_in_excel(path)))
    kind = suffix.removesuffix(".gz")
    is_json = kind.startswith(".json")
    encoding, note = choose_encoding(path, given=encoding, code_page=(lambda path: None) if is_json else None)
    notes = (note,) if note else ()
    chosen = next((each for each in formats if kind in each.suffixes), None)
    if chosen is not None:
        return DataFile(path, partial(_format_rows, path, encoding, chosen), notes)
    if is_json:
        notes = (*notes, *odd_in_json(path, encoding, kind))
        return DataFile(path, partial(read_json, path, encoding, kind), notes)
    if kind == ".txt":
        return DataFile(path, partial(_text_rows, path, encoding), notes)
    dialect = dialect_of(path, kind, encoding)
    notes = (*notes, *odd_in_csv(path, encoding, dialect))
    return DataFile(path, partial(read_csv, path, encoding, dialect), notes)


def refuse_encoding(encoding: str | None, name: str) -> None:
    """Raise UsageError where an encoding is given for data that are no text files."""
    if encoding is not None:
        raise UsageError(f"--encoding {encoding} has no effect: {name} is no text file", "Leave it out.")


def is_plain_text(path: Path) -> bool:
    """Return whether a path names a file of plain text."""
    return path.name.lower().endswith((".txt", ".txt.gz")) and path.is_file()


def open_lines(path: Path, column: str, encoding: str | None = None) -> DataFile:
    """Open a file of plain text whose lines are rows of one column. Raises as `open_file` does."""
    encoding, note = choose_encoding(path, given=encoding)

    def rows() -> Iterator[Row]:
        with open_text(path, encoding) as lines:
            for number, line in enumerate(lines, start=1):
                yield Row({column: line.rstrip("\r\n")}, f"{path.name}:{number}")

    return DataFile(path, rows, (note,) if note else ())


def _format_rows(path: Path, encoding: str, format: FileFormat) -> Iterator[Row]:
    with open_text(path, encoding) as lines:
        yield from format.read(lines, path.name)


def _text_rows(path: Path, encoding: str) -> Iterator[Row]:
    """Rows of the columns `passage` and `continues`: what other tasks read as one text is not found in them."""
    with open_text(path, encoding) as lines:
        for text, ends, number in read_passages(lines):
            yield Row({"passage": text, "continues": not ends}, f"{path.name}:{number}")
