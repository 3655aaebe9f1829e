"""SHA-256 of the files of a folder, and which of them is no longer what it was."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


def checksums(folder: Path, parts: Iterable[str] = (".",)) -> dict[str, str]:
    """Return the SHA-256 of every file of a folder, in hexadecimal, by its path there: of those in and below `parts`.

    A part is a folder or a file; one that is not there has no files.
    """
    places = [folder / part for part in parts]
    files = [path for place in places for path in (place, *place.rglob("*")) if path.is_file()]
    return _digests(folder, sorted(file.relative_to(folder).as_posix() for file in files))


def find_damage(folder: Path, recorded: Mapping[str, str]) -> str | None:
    """Return which file of a folder is not the recorded one, and why; None where all are. Other files do not count."""
    for name in recorded:
        if not (folder / name).is_file():
            return f"{folder / name} is missing"
    for name, digest in _digests(folder, recorded).items():
        if digest != recorded[name]:
            return f"{folder / name} is damaged, or another file: its SHA-256 is not the recorded one"
    return None


def _digests(folder: Path, names: Iterable[str]) -> dict[str, str]:
    # In threads: a core hashes one or two gigabytes a second, and Python's lock is free meanwhile.
    with ThreadPoolExecutor() as pool:
        return dict(zip(names, pool.map(lambda name: _sha256(folder / name), names), strict=True))


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
