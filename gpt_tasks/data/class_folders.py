"""Folders of one sub-folder for each class, in which every text is a .txt file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from gpt_tasks.data.encodings import choose_encoding, open_text
from gpt_tasks.data.invalid import BrokenRow
from gpt_tasks.errors import DataError
from gpt_tasks.types import Row

_SUFFIX = ".txt"


def class_folders(folder: Path) -> list[Path]:
    """Return the sub-folders that hold texts, sorted; none where they are fewer than two."""
    found = [each for each in sorted(folder.iterdir()) if _is_class(each)]
    return found if len(found) > 1 else []


def read_classes(folders: list[Path], encoding: str | None) -> Iterator[Row]:
    """Yield a row of `text` and `label`, the folder's name, for each text; one that cannot be read is a BrokenRow."""
    for folder in folders:
        for path in sorted(_texts(folder)):
            where = f"{folder.name}/{path.name}"
            try:
                found, _ = choose_encoding(path, given=encoding, detect=False)
                with open_text(path, found) as file:
                    yield Row({"text": file.read().rstrip("\n"), "label": folder.name}, where)
            except DataError as error:
                yield BrokenRow(where, error.message, error.hint)


def _is_class(folder: Path) -> bool:
    return folder.is_dir() and not folder.name.startswith(".") and any(_texts(folder))


def _texts(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if path.suffix.lower() == _SUFFIX and not path.name.startswith("."))
