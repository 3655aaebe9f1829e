"""Text files in any encoding: which one it is, and the file opened as text."""

from __future__ import annotations

import codecs
import gzip
import io
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from gpt_tasks.errors import DataError, MachineError, UsageError

# What files are written in that are neither UTF-8 nor marked as UTF-16: Windows' code pages, and those of East Asia.
CODE_PAGES = (
    *("cp1252", "cp1251", "cp1250", "cp1253", "cp1254", "cp1255", "cp1256"),
    *("gb18030", "big5", "cp932", "euc_jp", "cp949", "koi8_r"),
)
_CHUNK = 2**20
SAMPLE = 2**16
"""So many bytes are enough to tell code pages apart."""
_HEAD = 2**12
_UTF_32 = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
# Ways to write names of hosts and the like.
_NOT_OF_TEXTS = ("punycode", "idna", "undefined")
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# Control characters that no text in a code page holds; almost any bytes are valid cp1252.
_BINARY = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")


def choose_encoding(
    path: Path, *, given: str | None = None, code_page: Callable[[Path], str | None] | None = None
) -> tuple[str, str]:
    """Return the encoding of a text file and a sentence for the user about it, empty where there is nothing to say.

    It is the `given` one, or UTF-8, or UTF-16 where the first bytes say so or where every other byte is zero, or else
    what `code_page` says of the file: by default, what charset-normalizer finds. Raises UsageError for a name that is
    no encoding, DataError for a file that is empty, binary, or in no encoding that was found.
    """
    if given is not None:
        return _checked(path, known_encoding(given)), ""
    with open_bytes(path) as file:
        head = file.read(_HEAD)
    if head.startswith(_UTF_32):
        return _checked(path, "utf-32"), ""
    if head.startswith(_UTF_16):
        return _checked(path, "utf-16"), ""
    problem = _misreading(path, "utf-8-sig")
    if not problem:
        return "utf-8-sig", ""
    found = _without_mark(head) or (code_page or _code_page)(path)
    if found is None or _misreading(path, found):
        raise DataError(problem, "Save it as text in UTF-8, or say how it is written with --encoding (not in score).")
    return found, f"{path.name} is not UTF-8; {read_as(found)}"


def read_as(encoding: str) -> str:
    """Return the end of a sentence about texts whose encoding was found."""
    return f"it was read as {encoding}. If that is wrong, name another with --encoding."


def known_encoding(name: str) -> str:
    """Return the name of an encoding of text. Raises UsageError where there is none of that name."""
    try:
        codecs.getincrementaldecoder(name)
        if codecs.lookup(name).name in _NOT_OF_TEXTS:
            raise ValueError(name)
        "".encode(name)
    except (LookupError, ValueError) as error:
        raise UsageError(f"--encoding {name!r}: there is no such encoding", "As in cp1251, gbk or utf-16.") from error
    return "utf-8-sig" if codecs.lookup(name).name == "utf-8" else name


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


@contextmanager
def open_bytes(path: Path) -> Iterator[IO[bytes]]:
    """Open a file, unpacked where it is a .gz. Raises as `reading` does."""
    packed = path.suffix.lower() == ".gz"
    with reading(path), cast(IO[bytes], gzip.open(path)) if packed else path.open("rb") as file:
        yield file


@contextmanager
def open_text(path: Path, encoding: str, newline: str | None = None) -> Iterator[io.TextIOWrapper]:
    """Open a file as text, unpacked where it is a .gz; `newline` is as in `open`. Raises as `reading` does."""
    with open_bytes(path) as binary, io.TextIOWrapper(binary, encoding=encoding, newline=newline) as text:
        yield text


def _checked(path: Path, encoding: str) -> str:
    problem = _misreading(path, encoding)
    if problem:
        raise DataError(problem, "Save it as text in UTF-8, or name another encoding with --encoding.")
    return encoding


def _misreading(path: Path, encoding: str) -> str:
    """Say where a file is not text in an encoding; an empty answer means that it is."""
    decoder = codecs.getincrementaldecoder(encoding)()
    binary = (
        re.compile(b"\x00") if encoding == "utf-8-sig" else None if "16" in encoding or "32" in encoding else _BINARY
    )
    line, filled = 1, False
    with open_bytes(path) as file:
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
            except UnicodeError as error:  # of UTF-16 without a mark
                return f"{path.name}: this is not {encoding.upper()}: {error}"
            line += text.count("\n")
            filled = filled or bool(text.strip())
            if not chunk:
                break
    if not filled:
        raise DataError(f"{path}: the file is empty", "Give a file that holds rows.")
    return ""


def _without_mark(head: bytes) -> str | None:
    """Return which UTF-16 a file without a mark is in: the one in which it has ASCII's line ends and is all text."""
    for encoding, line_end in (("utf-16-le", b"\n\x00"), ("utf-16-be", b"\x00\n")):
        if line_end in head:
            text = head[: len(head) // 2 * 2].decode(encoding, errors="replace")
            if "\n" in text and all(sign.isprintable() or sign.isspace() for sign in text[:-1]):
                return encoding
    return None


def _code_page(path: Path) -> str | None:
    with open_bytes(path) as file:
        return find_code_page(file)


def find_code_page(lines: Iterable[bytes]) -> str | None:
    """Return the code page of a text that is not UTF-8, by those of its lines that are not plain ASCII."""
    from charset_normalizer import from_bytes

    sample = b""
    for line in lines:
        if not line.isascii():
            sample += line[:_HEAD]
        if len(sample) >= SAMPLE:
            break
    matches = from_bytes(sample, cp_isolation=list(CODE_PAGES))
    best = matches.best()
    if best is None:
        return None
    # Where nothing tells them apart, as in a few accents, Western Europe's is by far the most frequent one.
    equal = [each for each in matches if (each.chaos, each.coherence) == (best.chaos, best.coherence)]
    if any(CODE_PAGES[0] in each.could_be_from_charset for each in equal):
        return CODE_PAGES[0]
    return str(best.encoding)
