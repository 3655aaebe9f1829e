"""The folders of checkpoints: each is complete once it has its marker, which holds the checksums of its files."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from gpt_tasks.checksums import checksums, find_damage
from gpt_tasks.errors import MachineError
from gpt_tasks.files import parse_json, write_json

COMPLETE = "COMPLETE"
_STATE = "trainer_state.json"


def mark_complete(folder: Path) -> None:
    """Write the marker of a checkpoint whose files are all there and on the disk: the last thing of it."""
    write_json(folder / COMPLETE, {"sha256": checksums(folder)})
    sync(folder)


def last_checkpoint(folder: Path) -> Path | None:
    """Return the newest complete checkpoint in `folder`, or None."""
    found = complete_checkpoints(folder)
    return found[-1] if found else None


def complete_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in `folder` that have their marker, the oldest first."""
    return [checkpoint for checkpoint in _checkpoints(folder) if (checkpoint / COMPLETE).is_file()]


def check(checkpoint: Path) -> None:
    """Raise MachineError where a file of a checkpoint is not the one that was saved."""
    found = _damage(checkpoint)
    if found is not None:
        raise MachineError(found, "Go on with --resume from an older checkpoint, or start another run.")


def remove_damaged(folder: Path, say: Callable[[str], None]) -> None:
    """Leave in `folder` nothing newer than the newest checkpoint that is whole, and name each that was damaged.

    Whole is one whose files are those that were saved, and those of the best checkpoint until then are too. Removed
    without a word is what a kill left without its marker. Raises MachineError, and removes no complete one, where none
    of them is whole.
    """
    complete = complete_checkpoints(folder)
    for checkpoint in _checkpoints(folder):
        if checkpoint not in complete:
            shutil.rmtree(checkpoint, ignore_errors=True)
    damaged: list[tuple[Path, str]] = []
    for checkpoint in reversed(complete):
        found = _damage(checkpoint) or _damage_of_best(checkpoint)
        if found is None:
            break
        damaged.append((checkpoint, found))
    if not damaged:
        return
    if len(damaged) == len(complete):
        raise MachineError(f"No checkpoint in {folder} is whole: {damaged[0][1]}", "Start another run.")
    for checkpoint, found in damaged:
        say(f"{found}. {checkpoint.name} is left out.")
        remove(checkpoint)


def remove(checkpoint: Path) -> None:
    """Remove a checkpoint, its marker first, so that a kill meanwhile leaves no half of one."""
    (checkpoint / COMPLETE).unlink(missing_ok=True)
    shutil.rmtree(checkpoint, ignore_errors=True)


def sync(folder: Path) -> None:
    """Have the folder's files on the disk before anything is said about them, so that it holds after a power cut."""
    for path in [*folder.iterdir(), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _damage(checkpoint: Path) -> str | None:
    """Return which file of a checkpoint is damaged, and how; older versions of gpt-tasks left the marker empty."""
    marker = checkpoint / COMPLETE
    try:
        content = marker.read_bytes()
        recorded = parse_json(content)["sha256"] if content else {}
        return find_damage(checkpoint, dict(recorded))
    except FileNotFoundError:
        return f"{marker} is missing"
    except (ValueError, KeyError, TypeError, RecursionError):
        return f"{marker} is damaged"


def _damage_of_best(checkpoint: Path) -> str | None:
    """Return what is damaged of the checkpoint that was the best until this one: at the end, its weights are taken."""
    try:
        best = parse_json((checkpoint / _STATE).read_text(encoding="utf-8")).get("best_global_step")
    except (OSError, ValueError, AttributeError):
        return f"{checkpoint / _STATE} is damaged"
    if best is None or best == _step(checkpoint):
        return None
    return _damage(checkpoint.with_name(f"checkpoint-{best}"))


def _checkpoints(folder: Path) -> list[Path]:
    found = [path for path in folder.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]
    return sorted(found, key=_step)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])
