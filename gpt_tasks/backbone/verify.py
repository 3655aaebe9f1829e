"""Are the files of a trained model those that training left? By the checksums in the run's run.json."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gpt_tasks.checksums import find_damage
from gpt_tasks.errors import ModelError

RECORD = "run.json"
CHECKSUMS = "checksums"
"""In a run's record: the SHA-256 of each file of its model, by its path there."""


def verify_model(folder: Path, recorded: object) -> None:
    """Raise ModelError naming the file of a run's model that is not the recorded one; older runs record nothing."""
    if recorded is None:
        return
    if not isinstance(recorded, Mapping):
        raise ModelError(f"{folder.parent / RECORD}: '{CHECKSUMS}' is no mapping", "Copy the run again.")
    found = find_damage(folder, recorded)
    if found is not None:
        raise ModelError(
            found, f"Copy the run again, or train it again. Opened unchecked: with --no-verify, or as {folder}."
        )
