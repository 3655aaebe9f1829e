"""A checkpoint counts where its files are those that were saved; of the others each is named."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from gpt_tasks.errors import MachineError
from gpt_tasks.training.checkpoint_files import COMPLETE, last_checkpoint, mark_complete, remove_damaged

FILES = ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json")


def save(folder: Path, step: int, best: int | None = None) -> Path:
    checkpoint = folder / f"checkpoint-{step}"
    checkpoint.mkdir(parents=True)
    for name in FILES:
        (checkpoint / name).write_bytes(os.urandom(999))
    (checkpoint / "trainer_state.json").write_text(json.dumps({"best_global_step": best}))
    mark_complete(checkpoint)
    return checkpoint


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)


DAMAGE: dict[str, Callable[[Path], None]] = {
    "flipped": flip,
    "truncated": lambda file: os.truncate(file, file.stat().st_size // 2),
    "emptied": lambda file: os.truncate(file, 0),
    "missing": Path.unlink,
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", FILES)
def test_the_newest_whole_one_is_taken_and_the_damaged_one_named(name: str, damage: str, tmp_path: Path) -> None:
    save(tmp_path, 10)
    DAMAGE[damage](save(tmp_path, 20) / name)
    said: list[str] = []
    remove_damaged(tmp_path, said.append)
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-10"
    assert len(said) == 1
    assert str(tmp_path / "checkpoint-20" / name) in said[0]
    assert not (tmp_path / "checkpoint-20").exists()


def test_a_marker_that_is_damaged_counts_for_nothing(tmp_path: Path) -> None:
    save(tmp_path, 10)
    os.truncate(save(tmp_path, 20) / COMPLETE, 30)
    said: list[str] = []
    remove_damaged(tmp_path, said.append)
    assert f"checkpoint-20/{COMPLETE} is damaged" in said[0]
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-10"


def test_where_none_is_whole_it_is_an_error_and_nothing_is_removed(tmp_path: Path) -> None:
    for step in (10, 20):
        flip(save(tmp_path, step) / "model.safetensors")
    with pytest.raises(MachineError, match=r"No checkpoint in .* is whole: .*checkpoint-20/model.safetensors"):
        remove_damaged(tmp_path, print)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-10", "checkpoint-20"]
    with pytest.raises(MachineError):
        remove_damaged(tmp_path, print)


def test_one_whose_best_checkpoint_is_damaged_is_not_whole(tmp_path: Path) -> None:
    best = save(tmp_path, 10, best=10)
    save(tmp_path, 20, best=20)
    save(tmp_path, 30, best=20)
    flip(tmp_path / "checkpoint-20" / "model.safetensors")
    said: list[str] = []
    remove_damaged(tmp_path, said.append)
    assert last_checkpoint(tmp_path) == best
    assert len(said) == 2
    save(tmp_path, 20, best=10)
    shutil.rmtree(best)
    with pytest.raises(MachineError, match="checkpoint-10/COMPLETE is missing"):
        remove_damaged(tmp_path, print)


def test_what_a_kill_left_goes_without_a_word_and_what_an_older_version_left_stays(tmp_path: Path) -> None:
    old = save(tmp_path, 10)
    os.truncate(old / COMPLETE, 0)
    flip(old / "optimizer.pt")
    (save(tmp_path, 20) / COMPLETE).unlink()
    said: list[str] = []
    remove_damaged(tmp_path, said.append)
    assert said == []
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-10"]
    remove_damaged(tmp_path / "nowhere", said.append)
    assert last_checkpoint(tmp_path / "nowhere") is None
