"""Are the files of a run those that training left? By the checksums in its run.json."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from gpt_tasks.checksums import checksums, find_damage
from gpt_tasks.errors import GptTasksError, ModelError, said
from gpt_tasks.saved_json import checked, read_json
from gpt_tasks.shown import quoted

RECORD = "run.json"
PRETRAIN_RECORD = "pretrain.json"
CHECKSUMS = "checksums"
"""In a run's record: the SHA-256 of each file that is read back to answer or to evaluate, by its path in the run."""
_READ_BACK = ("model", "adapter", "baselines", "trained_rows.npy", "metrics.json")


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
    except (OSError, ValueError, RecursionError):
        record = None  # another error says so, where the file is needed
    if isinstance(record, dict) and "status" in record:
        refuse_unfinished(folder, record)
    if (folder / PRETRAIN_RECORD).is_file() and not (folder / "config.json").is_file():
        raise ModelError(
            f"The pretraining in {folder} is unfinished",
            f"Continue with the same gpt-tasks pretrain --output {quoted(folder)}, and --resume.",
        )


class _Recorded(BaseModel):
    checksums: dict[str, str] | None = None


def checksums_of(run: Path) -> dict[str, str]:
    """Return the checksums that a run's record holds."""
    return checksums(run, _READ_BACK)


def verify_run(run: Path) -> None:
    """Raise ModelError naming the file of a run that is not the recorded one; older runs record nothing."""
    found = _damage(run)
    if found is not None:
        raise ModelError(
            found, f"Copy the run again, or train it again. Opened unchecked: with --no-verify, or as {run / 'model'}."
        )


@contextmanager
def blaming_damage(run: Path) -> Iterator[None]:
    """Raise ModelError for what goes wrong with a run that was opened unchecked, where a file of it is damaged."""
    try:
        yield
    except GptTasksError:
        raise
    except Exception as error:
        found = _damage(run)
        if found is None:
            raise
        raise ModelError(
            f"{found}. So it cannot be used: {type(error).__name__}: {said(error)[:200]}",
            "Copy the run again, or train it again.",
        ) from error


def _damage(run: Path) -> str | None:
    file = run / RECORD
    recorded = checked(file, read_json(file), _Recorded, "Copy the run again.").checksums
    return find_damage(run, recorded or {})
