"""Are the files of a run those that training left? By the checksums in its run.json."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from gpt_tasks.checksums import checksums, find_damage
from gpt_tasks.errors import ModelError
from gpt_tasks.saved_json import checked, read_json

RECORD = "run.json"
CHECKSUMS = "checksums"
"""In a run's record: the SHA-256 of each file that is read back to answer or to evaluate, by its path in the run."""
_READ_BACK = ("model", "baselines", "trained_rows.npy", "metrics.json")


class _Recorded(BaseModel):
    checksums: dict[str, str] | None = None


def checksums_of(run: Path) -> dict[str, str]:
    """Return the checksums that a run's record holds."""
    return checksums(run, _READ_BACK)


def verify_run(run: Path) -> None:
    """Raise ModelError naming the file of a run that is not the recorded one; older runs record nothing."""
    file = run / RECORD
    found = find_damage(run, checked(file, read_json(file), _Recorded, "Copy the run again.").checksums or {})
    if found is not None:
        raise ModelError(
            found, f"Copy the run again, or train it again. Opened unchecked: with --no-verify, or as {run / 'model'}."
        )
