"""What checks work on: a task with a few rows, read, encoded and trained by the toolkit's own code."""

from __future__ import annotations

import atexit
import contextlib
import copy
import io
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpt_tasks.backbone.load import Location
from gpt_tasks.errors import DataError
from gpt_tasks.plugins import Plugin, Plugins
from gpt_tasks.registry import Registry
from gpt_tasks.tasks.base import Task
from gpt_tasks.tasks.headed import HeadTask
from gpt_tasks.tasks.span import SpanTask
from gpt_tasks.tasks.text_to_text import TextToTextTask
from gpt_tasks.testing.backbone import CONTEXT, write_backbone
from gpt_tasks.testing.checks import SkipError
from gpt_tasks.testing.rows import TRAINED, as_jsonl, few_rows, made_up_rows, sample_rows
from gpt_tasks.testing.tokens import LONG
from gpt_tasks.types import Example, Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from gpt_tasks.data.splits import Splits
    from gpt_tasks.training.session import Session

_OWNER = "the task under test"


class TaskFixture:
    """A task under test, and what is made of it; each thing when it is first asked for.

    `plugins` bring the heads and metrics that the task names; no observer of theirs is told of anything.
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
        """The rows as examples, with the task that they settle."""
        from gpt_tasks.data.splits import load_splits

        schemes = self.plugins.registry.sources
        return load_splits(self.task, data=self.data, seed=0, schemes=schemes, scratch=self.scratch)

    @property
    def examples(self) -> list[Example]:
        """The examples to be learned."""
        return list(self.splits.train)

    @cached_property
    def fitted(self) -> Task:
        """The task as the examples settle it."""
        task = self.splits.task
        if isinstance(task, TextToTextTask):
            return task.settled(self.splits.train)
        if isinstance(task, SpanTask):
            task = copy.copy(task)
            task.unanswerable = "[]" in self.splits.train.observed
        return task

    @cached_property
    def columns(self) -> dict[str, str]:
        """The fields of the rows, and the columns that they stand in."""
        return self.fitted.fields(list(self.rows[0].values), {}, "the rows")

    @property
    def backbone(self) -> Location:
        """Where the backbone of the checks stands."""
        return Location("the backbone of the checks", _backbone())

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The backbone's tokenizer, with what the task needs."""
        from transformers import AutoTokenizer

        tokenizer: Any = AutoTokenizer.from_pretrained(_backbone(), local_files_only=True)
        # Whole texts are encoded too, and nobody need be warned of their length.
        tokenizer.model_max_length = LONG
        if isinstance(self.fitted, HeadTask):
            tokenizer.add_tokens([*self.fitted.own_tokens()], special_tokens=True)
        elif isinstance(self.fitted, TextToTextTask):
            self.fitted.prepare(tokenizer)
        found: PreTrainedTokenizerBase = tokenizer
        return found

    @cached_property
    def session(self) -> Session:
        """A fine-tuning of all weights that is ready to begin. See `new_session`."""
        return self.new_session()

    def new_session(self, method: str = "full") -> Session:
        """Open a fine-tuning of the rows by a method. Raises SkipError for a task that trains nothing."""
        if not self.task.trains:
            raise SkipError("The task trains nothing.")
        from gpt_tasks.training.config import configured
        from gpt_tasks.training.finetune import session_kind
        from gpt_tasks.training.run_folder import RunFolder

        config = configured(
            {"data": self.data, "method": method, "max_length": CONTEXT, "device": "cpu", "precision": "float32"}, {}
        )
        folder = RunFolder(Path(tempfile.mkdtemp(dir=self.scratch)))
        folder.write({}, "unfinished")
        # What is noted of the data is for who trains on them.
        with contextlib.redirect_stderr(io.StringIO()):
            kind = session_kind(self.task)
            return kind.open(
                self.task, self.plugins.registry.methods[method], self.backbone, config, folder, self.plugins
            )


def read_all(fixture: TaskFixture) -> None:
    """Read every sample row as an example. Raises DataError, naming the row, for one that cannot be read."""
    task = fixture.task
    for rows in (fixture.samples or {"made up": fixture.rows}).values():
        columns = task.fields(list(rows[0].values), {}, rows[0].where)
        for row in rows:
            if isinstance(task, HeadTask) and task.target not in columns:
                raise DataError(
                    f"{row.where}: the samples have no column '{task.target_column({})}'",
                    "Name the columns as `columns` says, or fix `columns`.",
                )
            task.example(row, columns)


def _with_task(plugins: Plugins, task: Task) -> Plugins:
    """Return plugins that bring the task, in place of one of its name, and observe nothing."""
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
