"""A finished run: its report, and its model to predict and evaluate with, from Python as from the command line."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpt_tasks.errors import DataError, ModelError, PluginError, UsageError
from gpt_tasks.evaluation.report import Report
from gpt_tasks.files import machine_errors
from gpt_tasks.plugins import Plugins, installed_plugins
from gpt_tasks.tasks.base import Task, prompt_fields
from gpt_tasks.tasks.classification import LABEL, ClassificationTask
from gpt_tasks.tasks.text_to_text import TextToTextTask
from gpt_tasks.training.run_folder import RunFolder
from gpt_tasks.types import Example, Prediction, Row

if TYPE_CHECKING:
    from gpt_tasks.data.sources import Source
    from gpt_tasks.evaluation.predictor import Predictor
    from gpt_tasks.evaluation.written import AnswerWriter
    from gpt_tasks.heads.model import TaskRecord


def load(path: str | Path, *, device: str = "auto", precision: str = "auto") -> Run:
    """Open the finished run in a folder.

    Raises ModelError where the folder holds none, an unfinished or a damaged one, and PluginError naming the
    distribution to install where the run's plugin is missing. The model itself is loaded when it is first used.
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
        # Labels are what a classification settles; a task without any has its answers written.
        kind = Run if record["labels"] else WritingRun
        return kind(folder, record, report, installed_plugins(), device, precision)


class Run:
    """A fine-tuned model with its task. `path` is its folder, `report` what it scored on its test split."""

    def __init__(
        self,
        folder: RunFolder,
        record: Mapping[str, Any],
        report: Report,
        plugins: Plugins,
        device: str = "auto",
        precision: str = "auto",
    ) -> None:
        self.path = folder.path
        self.record = record
        self.report = report
        self._folder = folder
        self._plugins = plugins
        self._device = device
        self._precision = precision

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, task={self.record['task']!r})"

    @property
    def task(self) -> ClassificationTask:
        """The task, with the labels and the prompt that it was trained with."""
        return self.predictor.task

    @cached_property
    def predictor(self) -> Predictor:
        """The model with its task, loaded when it is first asked for."""
        from gpt_tasks.backbone.precision import resolve_device, resolve_precision
        from gpt_tasks.evaluation.predictor import Predictor
        from gpt_tasks.heads.model import TaskModel, load_model

        device = resolve_device(self._device)
        with machine_errors(), self._plugins.blaming():
            saved = load_model(self._folder.model, self._plugins.registry.heads)
            task = self._restored(saved.record)
            if not isinstance(task, ClassificationTask) or saved.head is None:
                raise ModelError(f"{self.path / 'model'} holds no head", "Copy the run again.")
            return Predictor(
                task=task,
                model=TaskModel(saved.backbone.model.base_model, saved.head).to(device),
                tokenizer=saved.backbone.tokenizer,
                max_length=self.record["settings"]["max_length"],
                batch_tokens=self.record["settings"]["batch_tokens"],
                precision=resolve_precision(self._precision, device),
            )

    def predict(self, texts: Sequence[str | Mapping[str, str]]) -> list[Prediction]:
        """Answer texts, or mappings of the task's fields, or of its columns, to texts (as for pairs), in order.

        Raises DataError for what is no text.
        """
        examples = (self._example(given, f"text {number}") for number, given in enumerate(texts, start=1))
        with machine_errors(), self._plugins.blaming():
            return [prediction for _, prediction in self.predictor.predict(examples)]

    def predict_rows(
        self, data: str | Path, *, split: str | None = None, column: Mapping[str, str] | None = None
    ) -> Iterator[tuple[Example, Prediction]]:
        """Yield every row of a source with its prediction, a chunk at a time; labels are not looked at.

        Columns that `column` does not name are found under the names of the training data, where those are there.
        Raises DataError, naming the row, for what cannot be used.
        """
        from gpt_tasks.data.examples import stream_examples, whole_text
        from gpt_tasks.data.sources import open_source
        from gpt_tasks.data.splits import choose_split

        with machine_errors(), self._plugins.blaming():
            source = open_source(data, self._plugins.registry.sources)
            split = choose_split(source, split)
            columns = self._columns(source, split, column or {})
            rows = stream_examples(self.task, source, split, columns=columns, need_labels=False)
            yield from self.predictor.predict(map(whole_text, rows))

    def evaluate(
        self,
        data: str | Path,
        *,
        split: str | None = None,
        by: str | None = None,
        column: Mapping[str, str] | None = None,
        output: str | Path | None = None,
    ) -> Report:
        """Evaluate on labelled data and return the report; with `output` it is also written to that folder.

        `split` chooses one of a source that has several (by default test); `by` names a column whose values are
        also evaluated each by itself; `column` is as in `predict_rows`.
        """
        from gpt_tasks.data.sources import open_source
        from gpt_tasks.data.splits import choose_split, load_examples
        from gpt_tasks.evaluation.baselines import load_baselines
        from gpt_tasks.evaluation.evaluate import evaluate_examples

        folder = _empty(output)
        with (
            machine_errors(),
            self._plugins.blaming(),
            tempfile.TemporaryDirectory(prefix="gpt-tasks-") as scratch,
        ):
            source = open_source(data, self._plugins.registry.sources)
            split = choose_split(source, split)
            columns = self._columns(source, split, column or {})
            examples = load_examples(self.task, source, split, columns=columns, by=by, scratch=Path(scratch))
            baselines = load_baselines(self._folder.baselines)
            return evaluate_examples(
                self.predictor,
                examples,
                split=split,
                metrics=[self._plugins.registry.metrics[name] for name in self.task.metrics],
                baselines=baselines,
                by=by,
                training=self.report.training,
                notes=(*source.notes, *baselines.notes),
                output=folder,
            )

    def _columns(self, source: Source, split: str, given: Mapping[str, str]) -> dict[str, str]:
        """Return where the fields stand: as given, or as in the training data where it has columns of those names."""
        first = next(source.splits[split](), None)
        there = first.values if first else {}
        trained = {field: name for field, name in self.record["config"]["column"].items() if name in there}
        return {**trained, **given}

    def _restored(self, saved: TaskRecord) -> Task:
        tasks = self._plugins.registry.tasks
        install = f"Install it: pip install {saved.plugin}=={saved.plugin_version}"
        try:
            task = tasks[saved.task]
        except UsageError:
            raise PluginError(
                f"The run in {self.path} needs task '{saved.task}' of {saved.plugin}, which is not installed", install
            ) from None
        owner = self._plugins.find(tasks.owner(saved.task)).distribution
        if owner != saved.plugin:
            raise PluginError(
                f"The run in {self.path} needs task '{saved.task}' of {saved.plugin}, but here it is that of {owner}",
                install,
            )
        if isinstance(task, ClassificationTask) != bool(saved.head):
            raise ModelError(f"Task '{saved.task}' is of another family than when the run was trained", install)
        return task.restored(saved.state)

    def _example(self, given: str | Mapping[str, str], where: str) -> Example:
        """Read a text, or a mapping as if it were a row of data."""
        from gpt_tasks.data.examples import whole_text

        task = self.task
        fields = task.inputs or tuple(prompt_fields(task.prompt))
        if len(fields) > 1 and not isinstance(given, Mapping):
            raise DataError(
                f"{where}: this run of task '{task.name}' reads {', '.join(fields)}, not one text",
                "Give a mapping with each of them, or a file with --input.",
            )
        values = given if isinstance(given, Mapping) else {fields[0]: given}
        columns = task.fields(list(values), {field: field for field in fields if field in values}, where)
        columns.pop(LABEL, None)
        return whole_text(task.example(Row(values, where), columns))


class WritingRun(Run):
    """A model that was fine-tuned to write answers."""

    @cached_property
    def answering(self) -> AnswerWriter:
        """The model with its task, loaded when it is first asked for."""
        from gpt_tasks.backbone.precision import resolve_device, resolve_precision
        from gpt_tasks.evaluation.written import AnswerWriter
        from gpt_tasks.generation.writer import Writer
        from gpt_tasks.heads.language_model import LanguageModel
        from gpt_tasks.heads.model import load_model

        device = resolve_device(self._device)
        with machine_errors(), self._plugins.blaming():
            saved = load_model(self._folder.model, self._plugins.registry.heads)
            task = self._restored(saved.record)
            if not isinstance(task, TextToTextTask):
                raise ModelError(f"Task '{saved.record.task}' does not write", "Copy the run again.")
            causal_lm: Any = saved.backbone.model
            causal_lm = causal_lm.to(device).eval()
            tokenizer, precision = saved.backbone.tokenizer, resolve_precision(self._precision, device)
            window = saved.backbone.context_length
            return AnswerWriter(
                task,
                LanguageModel(causal_lm.base_model, causal_lm).eval(),
                Writer(causal_lm, tokenizer, window=window, precision=precision),
                tokenizer,
                self.record["settings"]["max_length"],
                self.record["settings"]["batch_tokens"],
                precision,
            )

    @property
    def task(self) -> TextToTextTask:  # type: ignore[override]
        """The task, with the prompt that it was trained with."""
        return self.answering.task

    def predict(self, texts: Sequence[str | Mapping[str, str]]) -> list[str]:  # type: ignore[override]
        """Write an answer to each text, or mapping of the task's fields, or of its columns, to texts, in order.

        Raises DataError for what is no text.
        """
        with machine_errors(), self._plugins.blaming():
            examples = [self._question(given, f"text {number}") for number, given in enumerate(texts, start=1)]
            return [written.text.strip() for written in self.answering.write(examples)]

    def predict_rows(  # type: ignore[override]
        self, data: str | Path, *, split: str | None = None, column: Mapping[str, str] | None = None
    ) -> Iterator[tuple[Example, str]]:
        """Yield every row of a source with its answer, a chunk at a time; right answers are not looked at.

        Columns that `column` does not name are found under the names of the training data, where those are there.
        Raises DataError, naming the row, for what cannot be used.
        """
        from gpt_tasks.data.examples import whole_text
        from gpt_tasks.data.sources import open_source
        from gpt_tasks.data.splits import choose_split
        from gpt_tasks.evaluation.predictor import chunks
        from gpt_tasks.evaluation.written import CHUNK

        with machine_errors(), self._plugins.blaming():
            source = open_source(data, self._plugins.registry.sources)
            split = choose_split(source, split)
            first = next(source.splits[split](), None)
            columns = self._columns(source, split, column or {})
            fields = self.task.asked_fields(list(first.values) if first else [], columns, source.name)
            rows = (whole_text(self.task.question(row, fields)) for row in source.splits[split]())
            for chunk in chunks(rows, CHUNK):
                written = self.answering.write(chunk)
                yield from zip(chunk, (each.text.strip() for each in written), strict=True)

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

        `split` chooses one of a source that has several (by default test); `column` is as in `predict_rows`. Raises
        UsageError for `by`, which is for labels.
        """
        from gpt_tasks.data.examples import stream_examples
        from gpt_tasks.data.sources import open_source
        from gpt_tasks.data.splits import choose_split
        from gpt_tasks.evaluation.written import evaluate_written

        if by is not None:
            raise UsageError(f"--by {by} is for tasks with labels", f"Leave it out: '{self.task.name}' writes.")
        folder = _empty(output)
        with machine_errors(), self._plugins.blaming():
            source = open_source(data, self._plugins.registry.sources)
            split = choose_split(source, split)
            columns = self._columns(source, split, column or {})
            examples = stream_examples(self.task, source, split, columns=columns, need_labels=True)
            training, notes = self.report.training, source.notes
            return evaluate_written(
                self.answering, examples, split=split, training=training, notes=notes, output=folder
            )

    def _question(self, given: str | Mapping[str, str], where: str) -> Example:
        from gpt_tasks.data.examples import whole_text

        fields = list(dict.fromkeys(prompt_fields(self.task.prompt)))
        if len(fields) > 1 and not isinstance(given, Mapping):
            raise DataError(
                f"{where}: this run of task '{self.task.name}' reads {', '.join(fields)}, not one text",
                "Give a mapping with each of them, or a file with --input.",
            )
        values = given if isinstance(given, Mapping) else {fields[0]: given}
        mapping = {field: field for field in fields if field in values}
        return whole_text(self.task.question(Row(values, where), self.task.asked_fields(list(values), mapping, where)))


def _empty(output: str | Path | None) -> Path | None:
    folder = None if output is None else Path(output)
    if folder is not None and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"--output {folder} is not empty", "Give a folder that is empty or not there yet.")
    return folder


def predictions_as_json(pairs: Iterable[tuple[Example, Prediction | str]]) -> Iterator[str]:
    """Yield one JSON object for each answer: the inputs, and the text, or the label with every label's probability."""
    for example, answer in pairs:
        told: dict[str, Any] = {"predicted": answer}
        if isinstance(answer, Prediction):
            probabilities = {label: round(p, 6) for label, p in answer.probabilities.items()}
            told = {"predicted": answer.label, "probabilities": probabilities}
        yield json.dumps({**example.inputs, **told}, ensure_ascii=False)
