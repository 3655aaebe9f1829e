"""Folders of one sub-folder for each class, in which every text is a .txt file."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from pathlib import Path

from gpt_tasks.data.encodings import SAMPLE, choose_encoding, find_code_page, open_text, read_as, reading
from gpt_tasks.data.invalid import BrokenRow
from gpt_tasks.errors import DataError
from gpt_tasks.paths import check_utf8
from gpt_tasks.types import Row

_SUFFIX = ".txt"


def class_folders(folder: Path) -> list[Path]:
    """Return the sub-folders that hold texts, sorted."""
    return [each for each in sub_folders(folder) if any(_texts(each))]


def sub_folders(folder: Path) -> list[Path]:
    """Return the folders in a folder that are not hidden, sorted."""
    return sorted(each for each in folder.iterdir() if each.is_dir() and not each.name.startswith("."))


def shared_code_page(folders: Iterable[Path], name: str) -> tuple[str | None, str]:
    """Return the code page of those texts that are not UTF-8, and a sentence for the user about them.

    Single texts are too short to tell; all are taken to be in the same one. The folders are those of data called
    `name`.
    """
    sample = b""
    texts = others = 0
    for path in (path for folder in folders for path in _texts(folder)):
        with reading(path):
            content = path.read_bytes()
        texts += 1
        if not _is_unicode(content):
            others += 1
            sample += content + b"\n" if len(sample) < SAMPLE else b""
    found = find_code_page(sample.splitlines(keepends=True)) if sample else None
    return found, f"{others:,} of {texts:,} texts of {name} are not UTF-8; {read_as(found)}" if found else ""


def read_classes(folders: list[Path], encoding: str | None, code_page: str | None) -> Iterator[Row]:
    """Yield a row of `text` and `label`, the folder's name, for each text; one that cannot be read is a BrokenRow.

    Texts are in `encoding`, where it is given; those that are not UTF-8 are in `code_page`.
    """
    for folder in folders:
        for path in sorted(_texts(folder)):
            where = f"{folder.name}/{path.name}"
            try:
                found, _ = choose_encoding(path, given=encoding, code_page=lambda path: code_page)
                with open_text(path, found) as file:
                    yield Row({"text": file.read().rstrip("\n"), "label": folder.name}, where)
            except DataError as error:
                yield BrokenRow(where, error.message, error.hint)


def _texts(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.suffix.lower() == _SUFFIX and not path.name.startswith(".") and path.is_file():
            check_utf8(f"{folder.name}/{path.name}", "The name")
            yield path


def _is_unicode(content: bytes) -> bool:
    """Return whether a text is UTF-8, or one of Unicode's other encodings, which no code page holds."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in content:
        return True
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True
