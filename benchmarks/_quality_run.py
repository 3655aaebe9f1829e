"""One fine-tuning of `quality.py`, by the command line; one that is there already is not done again."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from _cores import gpt_tasks

from gpt_tasks import load
from gpt_tasks.training.run_folder import RunFolder


def finetuned(task: str, flags: Sequence[str], limit: int | None, output: Path, core: int | None) -> Any:
    """Return the finished run in `output`, trained on `limit` rows; one that was stopped is continued.

    Raises SystemExit where the command fails, and where another limit was trained there.
    """
    if not RunFolder(output).finished:
        # Validation and test stay whole.
        whole = ["--limit-validation", str(sys.maxsize), "--limit-test", str(sys.maxsize)]
        limited = [] if limit is None else ["--limit", str(limit), *whole]
        resumed = ["--resume"] if (output / "run.json").exists() else []
        gpt_tasks(["finetune", task, *flags, *limited, "--output", str(output), *resumed], core)
    run = load(output)
    if run.record["config"]["limit"] != limit:
        raise SystemExit(f"{output} was trained on other rows: give --keep another folder")
    return run
