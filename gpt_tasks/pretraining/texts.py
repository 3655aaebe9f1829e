"""Raw text files: found, decompressed where needed, and read document by document, in pieces that fit in memory."""

from __future__ import annotations

import gzip
import json
import lzma
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

from gpt_tasks.data.plain_text import Piece, read_documents
from gpt_tasks.errors import DataError
from gpt_tasks.files import parse_json
from gpt_tasks.paths import check_rereadable, check_utf8, real, user_path

PIECE_CHARACTERS = 1 << 16


def find_texts(sources: Sequence[str | Path], output: Path | None = None) -> list[Path]:
    """The files that `sources` (files, folders, globs) name, sorted within each source, but for those in `output`.

    Raises DataError where there is none, or one that can be read only once.
    """
    found: list[Path] = []
    written = None if output is None else real(output)
    for source in sources:
        path = user_path(source, "--text")
        if path.is_dir():
            files = sorted(file for file in path.rglob("*") if file.is_file() and _is_text_name(file.name))
        elif path.is_file():
            files = [path]
        else:
            check_rereadable(path)
            pattern = path.relative_to(path.anchor) if path.is_absolute() else path
            files = sorted(Path(path.anchor or ".").glob(str(pattern))) if any(c in str(path) for c in "*?[") else []
        files = [file for file in files if file.is_file() and (written is None or written not in real(file).parents)]
        for file in files:
            check_utf8(str(file), "The name")
        if not files:
            raise DataError(
                f"{source}: no such text", "Give .txt or .jsonl files (also .gz and .xz), folders of them, or globs."
            )
        found += [file for file in files if file not in found]
    return found


def read_pieces(files: Iterable[Path]) -> Iterator[Piece]:
    """Every document of the files in pieces of about 64k characters, cut between lines where there are lines.

    Raises DataError for a file that holds no text, is not UTF-8, or has a broken row.
    """
    for file in files:
        empty = True
        rows = _bare_suffix(file) == ".jsonl"
        for piece in _read_jsonl(file) if rows else read_documents(_lines(file), PIECE_CHARACTERS):
            empty = empty and not piece.text.strip()
            yield piece
        if empty:
            raise DataError(f"{file}: no text in this file", "Leave it out, or give the file that was meant.")


def _read_jsonl(file: Path) -> Iterator[Piece]:
    for number, line in enumerate(_lines(file, longest=-1), start=1):
        if not line.strip():
            continue
        try:
            text = parse_json(line)["text"]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{file}:{number}: not a JSON object with a field 'text'") from error
        if not isinstance(text, str) or not text.strip():
            raise DataError(f"{file}:{number}: 'text' is {json.dumps(text)[:40]}, not a text")
        for start in range(0, len(text), 4 * PIECE_CHARACTERS):
            end = start + 4 * PIECE_CHARACTERS
            yield Piece(text[start:end], end >= len(text), number)


def _lines(file: Path, longest: int = 1 << 20) -> Iterator[str]:
    """Lines of a file, in parts of at most `longest` characters; raises DataError where it is not text."""
    try:
        with _open(file) as stream:
            while line := stream.readline(longest):
                if "\0" in line:
                    raise DataError(f"{file}: this is not a text file (it holds zero bytes)")
                yield line
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not UTF-8 text ({error.reason})", "Convert it to UTF-8.") from error
    except (gzip.BadGzipFile, lzma.LZMAError, EOFError, zlib.error) as error:
        raise DataError(f"{file}: cannot be decompressed ({error})") from error
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror})") from error


def _open(file: Path) -> TextIO:
    match file.suffix:
        case ".gz":
            return gzip.open(file, "rt", encoding="utf-8-sig")
        case ".xz":
            return lzma.open(file, "rt", encoding="utf-8-sig")
        case _:
            return file.open(encoding="utf-8-sig")


def _bare_suffix(file: Path) -> str:
    return Path(file.stem).suffix if file.suffix in (".gz", ".xz") else file.suffix


def _is_text_name(name: str) -> bool:
    return _bare_suffix(Path(name)) in (".txt", ".jsonl")
