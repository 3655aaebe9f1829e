"""The folder of a run: made empty, marked unfinished until all is there, cleared away where nothing can be resumed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from gpt_tasks.backbone.verify import RECORD
from gpt_tasks.errors import ModelError, UsageError
from gpt_tasks.files import write_json
from gpt_tasks.paths import OutputFolder, free_folder
from gpt_tasks.saved_json import checked, read_json
from gpt_tasks.training.checkpoint_files import last_checkpoint
from gpt_tasks.training.record import SCHEMA_VERSION, FinishedRecord, RunRecord

RUNS = Path("runs")
_AGAIN = "Copy the run again, or train it again."
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
    def adapter(self) -> Path:
        """What an adapter's method trained, as peft opens it, where it is kept."""
        return self.path / "adapter"

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
        if not file.is_file():
            is_adapter = (self.path / "adapter_config.json").exists()
            raise ModelError(
                f"{self.path} is no run: it holds no run.json",
                "It is an adapter, without a head: give the run that it is in, or --task TASK to ask it without one."
                if is_adapter
                else "Give the folder that gpt-tasks finetune wrote.",
            )
        record = read_json(file, _AGAIN)
        version = record.get("schema_version")
        if version != SCHEMA_VERSION:
            newer = isinstance(version, int) and version > SCHEMA_VERSION
            raise ModelError(
                f"{file} has schema version {version!r:.20}; this gpt-tasks reads {SCHEMA_VERSION}",
                "Upgrade gpt-tasks." if newer else "Train the run again with this version.",
            )
        checked(file, record, FinishedRecord if record.get("status") == "finished" else RunRecord, _AGAIN)
        return record

    def write(self, record: Mapping[str, Any], status: Literal["unfinished", "finished"]) -> None:
        """Write run.json."""
        versions = {name: _version(name) for name in _VERSIONS}
        write_json(
            self.path / RECORD,
            {"schema_version": SCHEMA_VERSION, "status": status, **record, "versions": versions},
        )

    def create(self, *, private: bool = False) -> OutputFolder:
        """Make the folder. Raises UsageError where one with anything in it is already there."""
        if (self.path / RECORD).exists():
            unfinished = self.record()["status"] == "unfinished"
            raise UsageError(
                f"--output {self.path} already holds {'an unfinished' if unfinished else 'a'} run",
                "Continue it with --resume, or give another folder."
                if unfinished
                else "Give a folder that is empty or not there yet.",
            )
        free_folder(self.path)
        folder = OutputFolder.of(self.path)
        folder.make(private=private)
        return folder

    def artifacts(self) -> list[Path]:
        """Return what a finished run consists of: the model, its report, its card and its plots."""
        working = (self.logs, self.scratch, self.checkpoints)
        return sorted(path for path in self.path.iterdir() if path not in working and path.name[0] != ".")


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
