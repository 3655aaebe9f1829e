"""Suites: YAML files that list tasks, each with its data, its prompt, its shots and its metrics."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gpt_tasks.errors import DataError, UsageError
from gpt_tasks.paths import user_path
from gpt_tasks.registry import Registries
from gpt_tasks.scoring.expressions import Fields
from gpt_tasks.strict_yaml import YamlError, parse_yaml
from gpt_tasks.tasks.base import Task
from gpt_tasks.tasks.options import useless_options

GROUP = "{group}"
_GZIP = ".gz"
_KEYS = {"question": "question", "label-word": "label_words", "prompt": "prompt"}


class Local(BaseModel):
    """A task's data under --data-dir, and how the entry differs for it."""

    model_config = ConfigDict(extra="allow", frozen=True)

    file: str = Field(description="A data file, relative to --data-dir.")
    fields: dict[str, str] | None = Field(None, description="These replace all of the entry's own.")
    by: str | None = Field(None, description="As the entry's own.")
    cluster: str | None = Field(None, description="As the entry's own.")
    shots_file: str | None = Field(None, description="A data file to draw shots from.")


class Entry(BaseModel):
    """One task of a suite. What is not listed here is an option of the task, such as `prompt`."""

    model_config = ConfigDict(extra="allow", frozen=True)

    task: str = Field(description="A registered task.")
    name: str | None = Field(None, description="What it is called in the results. Default: the task's name.")
    source: str = Field(description="A data file, relative to the suite's, or hf:OWNER/NAME[:CONFIG].")
    split: str = Field("test", description="Which split of a source that has several.")
    shots_split: str | None = Field(None, description="The split that shots are drawn from.")
    fields: dict[str, str] | None = Field(None, description="Each field of the task as an expression over columns.")
    shots: int = Field(0, ge=0, description="The number of few-shot examples.")
    metrics: list[str] | None = Field(None, min_length=1, description="Default: the task's own.")
    by: str | None = Field(None, description="A column: every value is scored separately, and the score is their mean.")
    cluster: str | None = Field(None, description="A column or field: its equal values belong together in intervals.")
    groups: list[str] | None = Field(None, description="The values of '{group}' in the source, one after another.")
    question: str | None = Field(None, description="Of a classification: how an example reads before its label.")
    label_words: dict[str, str] | None = Field(None, description="Of a classification: the words for its labels.")
    local: Local | None = Field(None, description="How the data under --data-dir differs.")


class SuiteFile(BaseModel):
    """The whole of a suite's file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9]+([_-][a-z0-9]+)*$")
    description: str = ""
    tasks: list[Entry] = Field(min_length=1)


@dataclass(frozen=True)
class ScoredTask:
    """A task of a suite, ready to be read: with its options applied, and its sources found.

    Where `shots_split` is None, shots are drawn from train, or from the scored split if there is no train. `where` is
    its place in the suite's file, for errors.
    """

    name: str
    where: str
    task: Task
    source: str
    split: str
    shots_source: str
    shots_split: str | None
    folder: Path
    fields: Fields
    shots: int
    metrics: tuple[str, ...]
    by: str | None
    cluster: str | None = None
    groups: tuple[str, ...] = ()
    group: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    is_local: bool = False
    """Whether its data are read from --data-dir."""

    def parts(self) -> list[ScoredTask]:
        """Return the task for each of its groups, with the source of that group; or itself where it has none."""
        return [
            replace(
                self,
                source=_beside(self.source.replace(GROUP, name), self.folder),
                shots_source=_beside(self.shots_source.replace(GROUP, name), self.folder),
                group=name,
            )
            for name in self.groups
        ] or [self]


@dataclass(frozen=True)
class LoadedSuite:
    """A suite's tasks, and the SHA-256 of its file."""

    name: str
    tasks: tuple[ScoredTask, ...]
    sha256: str

    def clustered(self, cluster: str) -> LoadedSuite:
        """Return the suite with the column or field by which the examples of every task belong together."""
        return replace(self, tasks=tuple(replace(task, cluster=cluster) for task in self.tasks))


def load_suite(
    suite: str, registry: Registries, *, data_dir: Path | None = None, shots: int | None = None
) -> LoadedSuite:
    """Read a registered suite by its name, or a suite's file by its path.

    With `data_dir` the local variant of every task is taken; `shots` replaces every task's own number. Raises
    UsageError for an unknown name, DataError for a file that is not a suite, naming what is wrong in it.
    """
    is_name = suite in registry.suites or not PurePath(suite).suffix
    path = registry.suites[suite].path if is_name else user_path(suite, "--suite")
    content = _content(path)
    try:
        file = SuiteFile.model_validate_json(json.dumps(_mapping(path, content)), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise DataError(f"{path}: {place}: {first['msg']}", "See docs/suites.md for what a suite holds.") from error
    tasks = [_scored(entry, path, registry, data_dir, shots) for entry in file.tasks]
    names = [task.name for task in tasks]
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"{path}: two tasks are called '{name}'", "Give each a different name (name:).")
    return LoadedSuite(file.name, tuple(tasks), hashlib.sha256(content.encode()).hexdigest())


def refuse_unread(data_dir: Path, suites: Sequence[LoadedSuite]) -> None:
    """Raise UsageError for --data-dir where no task of the suites reads from it."""
    if not any(task.is_local for suite in suites for task in suite.tasks):
        names = ", ".join(suite.name for suite in suites)
        raise UsageError(f"--data-dir {data_dir} has no effect: {names} comes with its data", "Leave it out.")


def _comes_with_data(entry: Entry, path: Path) -> bool:
    """Return whether the data of an entry are a file beside the suite's own, and no other is named for --data-dir."""
    return entry.local is None and (path.parent / entry.source).exists()


def _content(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(
            f"--suite {path}: there is no such file", "gpt-tasks list suites shows the built-in ones."
        ) from None
    except (UnicodeDecodeError, OSError) as error:
        raise DataError(f"{path}: this is no text file", "A suite is a YAML file.") from error


def _mapping(path: Path, content: str) -> Mapping[str, Any]:
    try:
        parsed = parse_yaml(content).value
    except YamlError as error:
        raise DataError(f"{path}:{error.line or 1}: {error}", "A suite is a YAML file.") from error
    if not isinstance(parsed, dict):
        raise DataError(f"{path}: this is no suite", "A suite has a name and a list of tasks.")
    return parsed


def _scored(entry: Entry, path: Path, registry: Registries, data_dir: Path | None, shots: int | None) -> ScoredTask:
    name = entry.name or entry.task
    where = f"{path}: task '{name}'"
    try:
        task = registry.tasks[entry.task].zero_shot()
    except UsageError as error:
        raise DataError(f"{path}: {error.message}", error.hint) from error
    if not task.can_be_asked:
        raise DataError(f"{where}: '{entry.task}' cannot be evaluated zero-shot", f"Take {_askable(registry)}.")
    options = dict(entry.model_extra or {})
    source, split, fields = _beside(entry.source, path.parent), entry.split, entry.fields or {}
    by, cluster, groups = entry.by, entry.cluster, tuple(entry.groups or ())
    shots_source, shots_split = source, entry.shots_split
    is_local = data_dir is not None and not _comes_with_data(entry, path)
    if data_dir is not None and is_local:
        if entry.local is None:
            raise DataError(
                f"{where}: it names no local file for --data-dir",
                "Leave --data-dir out, or say in the suite where the file is (local: {file: NAME}).",
            )
        options |= entry.local.model_extra or {}
        source = shots_source = _local_file(data_dir, entry.local.file)
        if entry.local.shots_file:
            shots_source = _local_file(data_dir, entry.local.shots_file)
        split, shots_split = "test", None
        fields = fields if entry.local.fields is None else entry.local.fields
        by, cluster, groups = entry.local.by, entry.local.cluster, ()
    useless = [option for option in useless_options(task.Options, "asked") if option in options]
    if useless:
        raise DataError(f"{where}: {useless[0]} has no effect: it is for training", "Leave it out.")
    try:
        configured = task.configured(task.Options.model_validate_json(json.dumps(options), strict=True)).prompted(
            entry.question, entry.label_words or {}
        )
    except UsageError as error:
        raise suite_error(error, where) from error
    except ValidationError as error:
        first = error.errors()[0]
        known = ", ".join([*Entry.model_fields, *task.Options.model_fields])
        raise DataError(f"{where}: {'.'.join(map(str, first['loc']))}: {first['msg']}", f"It knows {known}.") from error
    if configured.compares_labels and not configured.labels:
        raise DataError(f"{where}: it declares no labels", "Name them in the suite: labels: [A, B].")
    metrics = tuple(entry.metrics or configured.suite_metrics)
    _check_metrics(metrics, configured, registry, where)
    return ScoredTask(
        name=name,
        where=where,
        task=configured,
        source=source,
        split=split,
        shots_source=shots_source,
        shots_split=shots_split,
        folder=path.parent,
        fields=Fields(fields, where),
        shots=(entry.shots if shots is None else shots) if task.takes_shots else 0,
        metrics=metrics,
        by=by,
        cluster=cluster or configured.cluster or None,
        groups=groups,
        is_local=is_local,
    )


def suite_error(error: UsageError, where: str) -> DataError:
    """Return the error of a flag as that of the suite's key that it is here."""
    message = re.sub(rf"^--({'|'.join(_KEYS)})\b", lambda found: _KEYS[found[1]], error.message)
    return DataError(f"{where}: {message}", error.hint)


def _check_metrics(metrics: Sequence[str], task: Task, registry: Registries, where: str) -> None:
    known = [metric.name for metric in task.own_metrics] or list(task.suite_metrics)
    registered = [name for name, metric in registry.metrics.items() if metric.whole is None]
    for metric in metrics:
        if metric not in (*known, *registered):
            raise DataError(f"{where}: there is no metric '{metric}'", f"Task '{task.name}' has {', '.join(known)}.")


def _askable(registry: Registries) -> str:
    return ", ".join(name for name, task in registry.tasks.items() if task.zero_shot().can_be_asked)


def _local_file(data_dir: Path, name: str) -> str:
    """A file under --data-dir: as it is named, or else with gzip where it is named without, and the other way round."""
    other = data_dir / (name.removesuffix(_GZIP) if name.endswith(_GZIP) else f"{name}{_GZIP}")
    return str(data_dir / name if (data_dir / name).exists() or not other.exists() else other)


def _beside(source: str, folder: Path) -> str:
    """A source as found from any working directory: a relative path counts from the suite's folder."""
    beside = folder / source
    return str(beside) if beside.exists() else source
