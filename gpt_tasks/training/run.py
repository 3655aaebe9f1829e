"""A finished run: its report, and its model to predict and evaluate with, from Python as from the command line."""

from __future__ import annotations

import json
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from gpt_tasks.errors import DataError, ModelError, PluginError, UsageError
from gpt_tasks.evaluation.report import Report
from gpt_tasks.files import machine_errors
from gpt_tasks.generation.decoding import Decoding
from gpt_tasks.plugins import Plugins, installed_plugins
from gpt_tasks.tasks.answers import Answer, answer_as_json
from gpt_tasks.tasks.base import Task, prompt_fields
from gpt_tasks.tasks.text_to_text import TextToTextTask
from gpt_tasks.training.run_folder import RunFolder
from gpt_tasks.types import Example, Row

if TYPE_CHECKING:
    import torch

    from gpt_tasks.data.sources import Source
    from gpt_tasks.heads.saved import SavedModel

TaskT = TypeVar("TaskT", bound=Task)
AnswerT = TypeVar("AnswerT")


def load(
    path: str | Path,
    *,
    device: str = "auto",
    precision: str = "auto",
    decoding: Mapping[str, Any] | None = None,
) -> Run[Any, Any]:
    """Open the finished run in a folder.

    `decoding` says how answers are written, as in `{"num_beams": 4}`; the names are those of `gpt-tasks generate`'s
    flags, and without it the likeliest token is taken each time. Raises UsageError where the run writes no answers,
    ModelError where the folder holds none, an unfinished or a damaged one, and PluginError naming the distribution to
    install where the run's plugin is missing. The model itself is loaded when it is first used.
    """
    folder = RunFolder(Path(path))
    with machine_errors():
        record = folder.record()
        if record.get("status") != "finished":
            raise ModelError(
                f"The run in {path} is unfinished",
                f"Go on with: gpt-tasks finetune {record.get('task')} --output {path} --resume",
            )
        file = folder.path / "metrics.json"
        try:
            report = Report.from_json(json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelError(f"{file} cannot be read: {error}", "Train the run again.") from None
    plugins, plugin = installed_plugins(), record["plugin"]
    task = _installed(plugins, folder.path, record["task"], plugin["distribution"], plugin["version"])
    # The options were valid when the run was made.
    task = task.configured(task.Options.model_construct(**record["config"]["options"])).resolved()
    # Imported here: these rooms import torch, which nobody should wait for who names a wrong folder.
    from gpt_tasks.training.head_run import ClassificationRun, MeasuredRun, SpanRun
    from gpt_tasks.training.modeling_run import ModelingRun
    from gpt_tasks.training.writing_run import WritingRun

    kinds: tuple[type[Run[Any, Any]], ...] = (ClassificationRun, MeasuredRun, SpanRun, WritingRun, ModelingRun)
    for kind in kinds:
        if isinstance(task, kind.family):
            return kind(folder, record, report, plugins, device, precision, _checked(decoding, task))
    raise ModelError(f"The run in {path} is of task '{task.name}', which trains nothing", "Train the run again.")


class Run(ABC, Generic[TaskT, AnswerT]):
    """A fine-tuned model with its task. `path` is its folder, `report` what it scored on its test split.

    Each family of tasks has its own kind of run, which says how the model is loaded, answers and is evaluated, and
    whether its figures can be told `by` the values of a column.
    """

    family: type[TaskT]
    sliced: ClassVar[bool] = False

    def __init__(
        self,
        folder: RunFolder,
        record: Mapping[str, Any],
        report: Report,
        plugins: Plugins,
        device: str = "auto",
        precision: str = "auto",
        decoding: Decoding | None = None,
    ) -> None:
        self.path = folder.path
        self.record = record
        self.report = report
        self._folder = folder
        self._plugins = plugins
        self._device = device
        self._precision = precision
        self._decoding = decoding

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, task={self.record['task']!r})"

    @property
    @abstractmethod
    def task(self) -> TaskT:
        """The task, as it was when the run was trained."""

    def predict(self, texts: Sequence[str | Mapping[str, str]]) -> list[AnswerT]:
        """Answer texts, or mappings of the task's fields, or of its columns, to texts (as for pairs), in order.

        The answer is a Prediction where one of several labels is right, a MultiLabelPrediction where several can be, a
        SpanAnswer where it stands in a context, a number, or a text where the model writes. Raises DataError for what
        is no text.
        """
        with self._guarded():
            examples = (self._example(given, f"text {number}") for number, given in enumerate(texts, start=1))
            return [answer for _, answer in self._answers(examples)]

    def predict_rows(
        self, data: str | Path, *, split: str | None = None, column: Mapping[str, str] | None = None
    ) -> Iterator[tuple[Example, AnswerT]]:
        """Yield every row of a source with its answer, a chunk at a time; right answers are not looked at.

        Columns that `column` does not name are found under the names of the training data, where those are there.
        Raises DataError, naming the row, for what cannot be used.
        """
        from gpt_tasks.data.examples import check_encodable, stream_examples

        with self._guarded():
            source, split, columns = self._opened(data, split, column or {})
            rows = stream_examples(self.task, source, split, columns=columns, need_labels=False)
            yield from self._answers(map(check_encodable, rows))

    def evaluate(
        self,
        data: str | Path,
        *,
        split: str | None = None,
        by: str | None = None,
        column: Mapping[str, str] | None = None,
        output: str | Path | None = None,
    ) -> Report:
        """Evaluate on data with right answers and return the report; with `output` it is also written to that folder.

        `split` chooses one of a source that has several (by default test); `by` names a column whose values are
        also evaluated each by itself; `column` is as in `predict_rows`. Raises UsageError for `by` where there are
        no labels.
        """
        if by is not None and not self.sliced:
            raise UsageError(f"--by {by} is for tasks of one label for each example", "Leave it out.")
        folder = _empty(output)
        with self._guarded(), tempfile.TemporaryDirectory(prefix="gpt-tasks-") as scratch:
            source, split, columns = self._opened(data, split, column or {})
            return self._evaluated(source, split, columns, by=by, scratch=Path(scratch), output=folder)

    @abstractmethod
    def _answers(self, examples: Iterable[Example]) -> Iterator[tuple[Example, AnswerT]]:
        """Yield each example with its answer, in order, a chunk at a time."""

    @abstractmethod
    def _evaluated(
        self,
        source: Source,
        split: str,
        columns: Mapping[str, str],
        *,
        by: str | None,
        scratch: Path,
        output: Path | None,
    ) -> Report:
        """Evaluate on a split of a source, whose fields stand in `columns`; see `evaluate`."""

    def _reads(self) -> Sequence[str]:
        """Return the names of the texts that an example is made of."""
        return list(dict.fromkeys(prompt_fields(self.task.prompt)))

    def _saved(self) -> tuple[SavedModel, TaskT, torch.device]:
        """Load the model, in evaluation mode, with its task, and settle the device to run it on."""
        from gpt_tasks.backbone.precision import resolve_device
        from gpt_tasks.heads.saved import load_model

        device = resolve_device(self._device)
        registry = self._plugins.registry
        saved = load_model(self._folder.model, registry.heads, registry.methods)
        record = saved.record
        task = _installed(self._plugins, self.path, record.task, record.plugin, record.plugin_version)
        task = task.restored(record.state).resolved()
        if not isinstance(task, self.family) or (task.head is None) != (saved.head is None):
            raise ModelError(
                f"Task '{record.task}' is of another family than when the run was trained",
                _way_out(record.plugin, record.plugin_version),
            )
        return saved, task, device

    def _opened(
        self, data: str | Path, split: str | None, given: Mapping[str, str]
    ) -> tuple[Source, str, dict[str, str]]:
        """Open a source; choose its split; and find its columns, as given or as the training data calls them."""
        from gpt_tasks.data.sources import open_source
        from gpt_tasks.data.splits import choose_split

        source = open_source(data, self._plugins.registry.sources)
        split = choose_split(source, split)
        first = next(source.splits[split](), None)
        there = first.values if first else {}
        trained = {field: name for field, name in self.record["config"]["column"].items() if name in there}
        return source, split, {**trained, **given}

    def _example(self, given: str | Mapping[str, str], where: str) -> Example:
        """Read a text, or a mapping as if it were a row of data."""
        from gpt_tasks.data.examples import check_encodable

        task, fields = self.task, self._reads()
        if len(fields) > 1 and not isinstance(given, Mapping):
            raise DataError(
                f"{where}: this run of task '{task.name}' reads {', '.join(fields)}, not one text",
                "Give a mapping with each of them, or a file with --input.",
            )
        values = given if isinstance(given, Mapping) else {fields[0]: given}
        mapping = {field: field for field in fields if field in values}
        return check_encodable(task.example(Row(values, where), task.asked_fields(list(values), mapping, where)))

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Tell what the machine refuses, and whose plugin fails."""
        with machine_errors(), self._plugins.attribute_errors():
            yield


def predictions_as_json(pairs: Iterable[tuple[Example, Answer]], task: Task | None = None) -> Iterator[str]:
    """Yield one JSON object for each answer: the inputs, and the text, or the label with every label's probability.

    `task` says how its inputs are written down.
    """
    for example, answer in pairs:
        inputs = example.inputs if task is None else task.record(example)
        yield json.dumps({**inputs, **answer_as_json(answer)}, ensure_ascii=False)


def _checked(decoding: Mapping[str, Any] | None, task: Task) -> Decoding | None:
    """Return the settings of writing answers, where there are any. Raises UsageError for what cannot be."""
    if not decoding:
        return None
    if not isinstance(task, TextToTextTask):
        raise UsageError(f"A run of task '{task.name}' writes no answers that --decoding could be for", "Leave it out.")
    found = Decoding.checked(**decoding)
    if found.num_return_sequences > 1:
        raise UsageError("An example gets one answer: num_return_sequences is for gpt-tasks generate", "Leave it out.")
    return found


def _installed(plugins: Plugins, path: Path, name: str, distribution: str, version: str) -> Task:
    """Return the task of a run. Raises PluginError where it is not installed, or is another distribution's."""
    tasks = plugins.registry.tasks
    told = f"The run in {path} needs task '{name}' of {distribution}"
    try:
        task = tasks[name]
    except UsageError:
        raise PluginError(f"{told}, which is not installed", _way_out(distribution, version)) from None
    owner = plugins.find(tasks.owner(name)).distribution
    if owner != distribution:
        raise PluginError(f"{told}, but here it is that of {owner}", _way_out(distribution, version))
    return task


def _way_out(distribution: str, version: str) -> str:
    return f"Install it: pip install {distribution}=={version}"


def _empty(output: str | Path | None) -> Path | None:
    folder = None if output is None else Path(output)
    if folder is not None and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"--output {folder} is not empty", "Give a folder that is empty or not there yet.")
    return folder
