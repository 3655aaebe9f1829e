"""Are the files of a trained model those that training left? By the checksums in the run's run.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpt_tasks.checksums import find_damage
from gpt_tasks.errors import ModelError
from gpt_tasks.shown import quoted

RECORD = "run.json"
PRETRAIN_RECORD = "pretrain.json"
CHECKSUMS = "checksums"
"""In a run's record: the SHA-256 of each file of its model, by its path there."""


def refuse_unfinished(run: Path, record: Mapping[str, Any]) -> None:
    """Raise ModelError, which says how to continue, where a run's record says that it is unfinished."""
    if record.get("status") != "finished":
        raise ModelError(
            f"The run in {run} is unfinished",
            f"Continue with: gpt-tasks finetune {record.get('task')} --output {quoted(run)} --resume",
        )


def refuse_unfinished_folder(folder: Path) -> None:
    """Raise ModelError where a folder holds an unfinished run or pretraining, and not a model."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        record = None  # another error says so, where the file is needed
    if isinstance(record, dict) and "status" in record:
        refuse_unfinished(folder, record)
    if (folder / PRETRAIN_RECORD).is_file() and not (folder / "config.json").is_file():
        raise ModelError(
            f"The pretraining in {folder} is unfinished",
            f"Continue with the same gpt-tasks pretrain --output {quoted(folder)}, and --resume.",
        )


def verify_model(folder: Path, recorded: object) -> None:
    """Raise ModelError naming the file of a run's model that is not the recorded one; older runs record nothing."""
    if recorded is None:
        return
    if not isinstance(recorded, Mapping):
        raise ModelError(f"{folder.parent / RECORD}: '{CHECKSUMS}' is no mapping", "Copy the run again.")
    found = find_damage(folder, recorded)
    if found is not None:
        raise ModelError(
            found,
            f"Copy or train the run again. Opened unchecked: as {folder}, or (not by finetune) with --no-verify.",
        )
