"""Checksums of a folder: which file is no longer what it was."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from gpt_tasks.checksums import checksums, find_damage


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "below").mkdir()
    (tmp_path / "weights").write_bytes(bytes(range(256)) * 9000)
    (tmp_path / "below" / "empty").touch()
    return tmp_path


def test_they_are_sha256_by_path(folder: Path) -> None:
    assert checksums(folder) == {
        "below/empty": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "weights": hashlib.sha256(bytes(range(256)) * 9000).hexdigest(),
    }


def test_what_is_missing_or_another_is_named_and_what_came_after_is_not(folder: Path) -> None:
    recorded = checksums(folder)
    (folder / "notes.txt").write_text("mine")
    assert find_damage(folder, recorded) is None
    content = bytearray((folder / "weights").read_bytes())
    content[1_000_000] ^= 1
    (folder / "weights").write_bytes(content)
    assert f"{folder / 'weights'} is damaged" in str(find_damage(folder, recorded))
    (folder / "below" / "empty").unlink()
    assert find_damage(folder, recorded) == f"{folder / 'below' / 'empty'} is missing"
