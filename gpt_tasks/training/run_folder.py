"""The folder of a run: made empty, marked unfinished until all is there, cleared away where nothing can be resumed."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from gpt_tasks.backbone.verify import CHECKSUMS, RECORD, verify_model
from gpt_tasks.checksums import checksums
from gpt_tasks.errors import ModelError, UsageError
from gpt_tasks.files import parse_json, write_json
from gpt_tasks.training.checkpoint_files import last_checkpoint

SCHEMA_VERSION = 1
RUNS = Path("runs")
_VERSIONS = ("gpt-tasks", "torch", "transformers", "tokenizers", "scikit-learn", "peft", "accelerate", "numpy")


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run; `run.json` says what it is and whether it is finished."""

    path: Path

    @property
    def model(self) -> Path:
        """The trained model, which transformers loads directly, with its head and task."""
        return self.path / "model"

    @property
    def checkpoints(self) -> Path:
        """What training resumes from."""
        return self.path / "checkpoints"

    @property
    def logs(self) -> Path:
        """The history of losses and metrics, and TensorBoard's files where it is installed."""
        return self.path / "logs"

    @property
    def baselines(self) -> Path:
        """The fitted baselines, so that later evaluations can compare the model with them."""
        return self.path / "baselines"

    @property
    def scratch(self) -> Path:
        """Memory-mapped data, there only while the run is in progress."""
        return self.path / "scratch"

    @property
    def resumable(self) -> bool:
        """Whether a complete checkpoint is there."""
        return last_checkpoint(self.checkpoints) is not None

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return (self.path / RECORD).exists() and self.record()["status"] == "finished"

    def record(self) -> dict[str, Any]:
        """Read run.json. Raises ModelError where it is missing, broken, or of a schema this version does not read."""
        file = self.path / RECORD
        try:
            record = parse_json(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ModelError(
                f"{self.path} is no run: it holds no run.json", "Give the folder that gpt-tasks finetune wrote."
            ) from None
        except (ValueError, OSError) as error:
            raise ModelError(f"{file} cannot be read: {error}", "Train the run again.") from None
        version = record.get("schema_version") if isinstance(record, dict) else None
        if version != SCHEMA_VERSION:
            newer = isinstance(version, int) and version > SCHEMA_VERSION
            raise ModelError(
                f"{file} has schema version {version}; this gpt-tasks reads {SCHEMA_VERSION}",
                "Upgrade gpt-tasks." if newer else "Train the run again with this version.",
            )
        return dict(record)

    def write(self, record: Mapping[str, Any], status: Literal["unfinished", "finished"]) -> None:
        """Write run.json."""
        versions = {name: _version(name) for name in _VERSIONS}
        write_json(
            self.path / RECORD,
            {"schema_version": SCHEMA_VERSION, "status": status, **record, "versions": versions},
        )

    def checksums(self) -> dict[str, dict[str, str]]:
        """Return the checksums of the model's files, as run.json records them."""
        return {CHECKSUMS: checksums(self.model)}

    def verify(self) -> None:
        """Raise ModelError naming the file of the model that is not the one that was trained."""
        verify_model(self.model, self.record().get(CHECKSUMS))

    def create(self) -> None:
        """Make the folder. Raises UsageError where one with anything in it is already there."""
        if self.path.exists() and not self.path.is_dir():
            raise UsageError(f"--output {self.path} is a file", "Give a folder that is empty or not there yet.")
        if (self.path / RECORD).exists():
            unfinished = self.record()["status"] == "unfinished"
            raise UsageError(
                f"--output {self.path} already holds {'an unfinished' if unfinished else 'a'} run",
                "Continue it with --resume, or give another folder."
                if unfinished
                else "Give a folder that is empty or not there yet.",
            )
        if self.path.is_dir() and any(self.path.iterdir()):
            raise UsageError(f"--output {self.path} is not empty", "Give a folder that is empty or not there yet.")
        self.path.mkdir(parents=True, exist_ok=True)

    def artifacts(self) -> list[Path]:
        """Return what a finished run consists of: the model, its report, its card and its plots."""
        working = (self.logs, self.scratch, self.checkpoints)
        return sorted(path for path in self.path.iterdir() if path not in working and path.name[0] != ".")

    def clear(self) -> None:
        """Take the run away, checkpoints and all, and the folder of runs where this was the only one."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self.path.parent == RUNS:
            with suppress(OSError):
                RUNS.rmdir()


def default_folder(task: str) -> Path:
    """Return a folder under ./runs, named by the task and the time, that is not there yet."""
    stem = f"{task}-{datetime.now():%Y%m%d-%H%M%S}"
    folder, number = RUNS / stem, 1
    while folder.exists():
        folder, number = RUNS / f"{stem}-{number}", number + 1
    return folder


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""
