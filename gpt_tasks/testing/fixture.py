"""What checks work on: a task with a few rows, read, encoded and trained by the toolkit's own code."""

from __future__ import annotations

import atexit
import contextlib
import copy
import io
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpt_tasks.backbone.locate import Location
from gpt_tasks.plugins import Plugin, Plugins
from gpt_tasks.registry import Registry
from gpt_tasks.tasks.base import Task
from gpt_tasks.tasks.fixtures import Fixtures
from gpt_tasks.testing.backbone import CONTEXT, write_backbone
from gpt_tasks.testing.checks import SkipError
from gpt_tasks.testing.rows import TRAINED, as_jsonl, few_rows, made_up_rows, sample_rows
from gpt_tasks.types import Example, Row

if TYPE_CHECKING:
    from gpt_tasks.data.splits import Splits
    from gpt_tasks.learners.base import Learner
    from gpt_tasks.training.session import Session

LONG = 100_000
"""The most tokens where nothing is to be cut."""
_OWNER = "the task under test"


class TaskFixture:
    """A task under test, and what is made of it; each thing on first access.

    `plugins` provide the learner, head and metrics that the task names; no observer of theirs is called.
    """

    def __init__(self, task: Task, plugins: Plugins) -> None:
        self.task = task
        self.plugins = _with_task(plugins, task)

    def close(self) -> None:
        """Remove the files that were written."""
        shutil.rmtree(self.scratch, ignore_errors=True)

    @cached_property
    def scratch(self) -> Path:
        """A folder for files."""
        return _temporary_folder()

    @cached_property
    def samples(self) -> Mapping[str, Sequence[Row]] | None:
        """The first rows of each split of the task's samples; None where it has none."""
        return sample_rows(self.task, self.plugins.registry.sources)

    @cached_property
    def rows(self) -> list[Row]:
        """The rows that everything is tried on, those to be learned first."""
        return made_up_rows(self.task) if self.samples is None else few_rows(self.task, self.samples)

    @cached_property
    def data(self) -> Path:
        """The rows in the files of a folder: train, validation, test."""
        folder = self.scratch / "data"
        folder.mkdir(exist_ok=True)
        middle = TRAINED + (len(self.rows) - TRAINED) // 2
        splits = {"train": self.rows[:TRAINED], "validation": self.rows[TRAINED:middle], "test": self.rows[middle:]}
        for split, rows in splits.items():
            (folder / f"{split}.jsonl").write_text(as_jsonl(rows), encoding="utf-8")
        return folder

    @cached_property
    def splits(self) -> Splits:
        """The rows as examples, with the task fitted to them."""
        from gpt_tasks.data.splits import load_splits

        schemes = self.plugins.registry.sources
        return load_splits(self.task, data=self.data, seed=0, schemes=schemes, scratch=self.scratch)

    @property
    def examples(self) -> list[Example]:
        """The examples to be learned."""
        return list(self.splits.train)

    @property
    def fitted(self) -> Task:
        """The task, fitted to the examples."""
        return self.splits.task

    @property
    def fixtures(self) -> Fixtures:
        """The fixtures of the fitted task."""
        return self.fitted.fixtures()

    @cached_property
    def columns(self) -> dict[str, str]:
        """The fields of the rows, and the columns that hold them."""
        return self.fitted.fields(list(self.rows[0].values), {}, "the rows")

    def example(self, row: Row, task: Task | None = None) -> Example:
        """Read a row as the fitted task, or another one, reads it, with its target as that task calls it."""
        task = self.fitted if task is None else task
        example = task.example(row, self.columns)
        if example.target is None or example.references:
            return example
        return replace(example, target=task.normalize_label(example.target, example.where))

    @property
    def backbone(self) -> Location:
        """Where the backbone of the checks is."""
        return Location("the backbone of the checks", _backbone())

    @cached_property
    def learner(self) -> Learner[Any] | None:
        """The task's learner, without a model and with room for any text; None for a task that trains nothing."""
        return None if self.task.learner is None else self.new_learner(LONG)

    def new_learner(self, max_length: int) -> Learner[Any]:
        """Return the task's learner, without a model, with room for so many tokens."""
        import torch

        from gpt_tasks.backbone.load import open_backbone
        from gpt_tasks.learners.base import LearnerSettings

        backbone = open_backbone(self.backbone)
        tokenizer: Any = backbone.tokenizer
        # Whole texts are encoded too, and nobody need be warned of their length.
        tokenizer.model_max_length = LONG
        kind = self.plugins.registry.learners[str(self.task.learner)].load()
        settings = LearnerSettings(max_length, 1024, "float32", torch.device("cpu"))
        learner: Learner[Any] = kind(self.fitted, backbone, settings)
        learner.prepare_backbone(self.splits.train)
        return learner

    @cached_property
    def session(self) -> Session:
        """A fine-tuning of all weights that is ready to begin. See `new_session`."""
        return self.new_session()

    def new_session(self, method: str = "full") -> Session:
        """Open a fine-tuning of the rows by a method. Raises SkipError for a task that trains nothing."""
        needs_training(self.task)
        from gpt_tasks.backbone.methods import with_options
        from gpt_tasks.training.config import configured
        from gpt_tasks.training.run_folder import RunFolder
        from gpt_tasks.training.session import Session

        config = configured(
            {"data": self.data, "method": method, "max_length": CONTEXT, "device": "cpu", "precision": "float32"}
        )
        folder = RunFolder(Path(tempfile.mkdtemp(dir=self.scratch)))
        folder.write({"task": self.task.name, "config": config.model_dump()}, "unfinished")
        # Notes about the data are for users who train on them.
        with contextlib.redirect_stderr(io.StringIO()):
            prepared = with_options(self.plugins.registry.methods[method], {})
            return Session.open(self.task, prepared, self.backbone, config, folder, self.plugins)


def needs_training(task: Task) -> None:
    """Raise SkipError for a task that trains nothing."""
    if task.learner is None:
        raise SkipError("The task trains nothing: it names no learner.")


def read_all(fixture: TaskFixture) -> None:
    """Read every sample row as an example. Raises DataError, naming the row, for one that cannot be read."""
    task = fixture.task
    for rows in (fixture.samples or {"made up": fixture.rows}).values():
        columns = task.fields(list(rows[0].values), {}, rows[0].where)
        for row in rows:
            task.example(row, columns)


def _with_task(plugins: Plugins, task: Task) -> Plugins:
    """Return plugins that provide the task, in place of one of its name, and observe nothing."""
    registry = copy.copy(plugins.registry)
    registry.tasks = Registry("task")
    owner = plugins.registry.tasks.owner(task.name) if task.name in plugins.registry.tasks else _OWNER
    registry.tasks.add(task.name, task, owner)
    found = list(plugins.plugins)
    if owner == _OWNER:
        found.append(Plugin(_OWNER, type(task).__module__, "not installed", ""))
    return Plugins(registry, found)


@cache
def _backbone() -> Path:
    """The backbone of the checks, written once in a process."""
    return write_backbone(_temporary_folder())


def _temporary_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="gpt-tasks-checks-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
