"""A model with a task, from Python as from the command line: it answers texts and rows, and is evaluated on others."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from gpt_tasks.data.split_names import ALL
from gpt_tasks.errors import DataError, UsageError
from gpt_tasks.evaluation.report import Report
from gpt_tasks.events import observed
from gpt_tasks.files import temporary_folder
from gpt_tasks.paths import free_folder, output_folder, user_path
from gpt_tasks.plugins import Plugins
from gpt_tasks.shown import tell
from gpt_tasks.tasks.base import Task
from gpt_tasks.tasks.prompts import distinct_fields
from gpt_tasks.types import Example, Row

if TYPE_CHECKING:
    from gpt_tasks.data.invalid import InvalidRow
    from gpt_tasks.data.sources import Source
    from gpt_tasks.evaluation.evaluate import Predictor
    from gpt_tasks.evaluation.pipeline import AnsweringPipeline

T = TypeVar("T")
E = TypeVar("E", bound="Example | InvalidRow")


class AnsweringModel(ABC):
    """A model that answers examples of a task: a finished run, or a model that is prompted without training."""

    plugins: Plugins
    unfinished: ClassVar[str] = ""
    """The file that a stopped evaluation leaves in its output, and continues from."""

    @property
    @abstractmethod
    def task(self) -> Task:
        """The task, fitted."""

    @property
    @abstractmethod
    def predictor(self) -> Predictor:
        """What answers, loaded when it is first used."""

    @abstractmethod
    def guarded(self) -> AbstractContextManager[None]:
        """Turn what the machine refuses, and what a plugin raises, into errors that name them."""

    def predict(self, texts: str | Mapping[str, Any] | Sequence[str | Mapping[str, Any]]) -> Any:
        """Answer texts, or mappings of the task's fields, or of its columns (as for pairs), in order.

        A single text, or a single mapping, gets a single answer, a list of them a list. The answer is a Prediction
        where one of several labels is right, a MultiLabelPrediction where several can be, a SpanAnswer where it is in a
        context, a number, a text where the model writes, or what a plugin's task predicts. Raises DataError for what is
        no text, UsageError for what is no list of them either, as a table.
        """
        if isinstance(texts, str | Mapping):
            return self.predict([texts])[0]
        if hasattr(texts, "columns"):
            raise UsageError(
                f"predict: this is a table ({type(texts).__name__}), not texts", "Give it to predict_rows, or a column."
            )
        if isinstance(texts, bytes | bytearray | Set) or not isinstance(texts, Iterable):
            raise UsageError(
                f"predict: {texts!r:.60}: this is no text, and no list of texts", "Give a str, a mapping, or a list."
            )
        return [prediction for _, prediction in self.answers(texts)]

    def answers(self, texts: Iterable[str | Mapping[str, Any]]) -> Iterator[tuple[Example, Any]]:
        """Yield texts, or mappings, as examples, each with its answer, in order, a chunk at a time; see `predict`."""
        from gpt_tasks.data.examples import check_encodable

        with self.guarded():
            examples = (
                (given, check_encodable(given_example(self.task, given, f"text {number}")))
                for number, given in enumerate(texts, start=1)
            )
            yield from ((example, answer) for _, example, answer in self._answers(examples))

    def as_pipeline(self, task: str | None = None) -> AnsweringPipeline:
        """Return the model as a pipeline of transformers that `evaluate.evaluator` takes.

        `task` is the name that transformers has for what it does, by default the one of the model card. Raises
        UsageError for a name that does not go with its answers.
        """
        from gpt_tasks.evaluation.pipeline import as_pipeline

        return as_pipeline(self, task)

    def predict_rows(
        self,
        data: Any,
        *,
        split: str | None = None,
        column: Mapping[str, str] | None = None,
        encoding: str | None = None,
        skip_invalid: bool = False,
    ) -> Iterator[tuple[Example | InvalidRow, Any]]:
        """Yield every row of a source with its answer, a chunk at a time; right answers are not looked at.

        `data` is what `finetune` takes: a path, a data frame, a list of mappings. Raises DataError, counting them and
        naming the first, where rows cannot be used, before anything is answered; with `skip_invalid` each of them is
        yielded as an InvalidRow that says why, with None for its answer, and DataError is raised at the end where there
        is no other.
        """
        rows = self.answered_rows(data, split=split, column=column, encoding=encoding, skip_invalid=skip_invalid)
        return ((example, answer) for _, example, answer in rows)

    def answered_rows(
        self,
        data: Any,
        *,
        split: str | None = None,
        column: Mapping[str, str] | None = None,
        encoding: str | None = None,
        skip_invalid: bool = False,
    ) -> Iterator[tuple[Row, Example | InvalidRow, Any]]:
        """Yield every row of a source as it was read, as an example, and its answer: see `predict_rows`."""
        from gpt_tasks.data.stream import stream_examples

        with self.guarded():
            texts = self._opened_texts(data, encoding)
            if texts is None:
                source, split = self._opened(data, split, encoding)
                columns = self.columns(source, split, column or {})
                _refuse_useless(column or {}, self.task, source, split, columns)
            else:
                source, split, (field,) = texts, ALL, _fields_of_text(self.task, texts.name)
                columns = {field: field}
                for name, given in (column or {}).items():
                    raise UsageError(
                        f"--column {name}={given} has no effect: {source.name} has no columns", "Leave it out."
                    )
            for note in source.notes:
                tell(note)
            stream = partial(stream_examples, self.task, source, split, columns=columns, need_labels=False)
            if not skip_invalid:
                checked = stream()
                for _ in checked.read():
                    pass
                checked.check()
            yield from self._answers(stream(skip_invalid=skip_invalid).read())

    def evaluate(
        self,
        data: Any,
        *,
        split: str | None = None,
        by: str | None = None,
        cluster: str | None = None,
        column: Mapping[str, str] | None = None,
        metrics: Sequence[str] = (),
        encoding: str | None = None,
        skip_invalid: bool = False,
        output: str | Path | None = None,
    ) -> Report:
        """Evaluate on data with right answers and return the report; with `output` it is also written to that folder.

        `split` chooses one of a source that has several (by default test); `by` names a column whose values are also
        evaluated separately, `cluster` a column or field whose equal values belong together, so that intervals go by
        it; `data` and `column` are as in `predict_rows`; `metrics` are further ones, registered or
        `evaluate:NAME_OR_FOLDER`; with `skip_invalid` rows that cannot be used are left out.
        """
        from gpt_tasks.data.in_memory import described

        folder = None if output is None else user_path(output, "--output")
        if folder is None or not self._is_unfinished(folder):
            folder = free_folder(folder, unfinished=True)
        with (
            self.guarded(),
            temporary_folder() as scratch,
            output_folder(folder, keep=self.unfinished),
        ):
            source, split = self._opened(data, split, encoding)
            columns = self.columns(source, split, column or {})
            configuration = {
                **self.configuration(),
                "data": described(data),
                "split": split,
                "by": by,
                "cluster": cluster,
                "column": columns,
                "metrics": metrics,
            }
            with observed(self.plugins, "evaluate", folder, configuration) as observers:
                report = self.evaluate_source(
                    source, split, columns, by, metrics, folder, Path(scratch), skip_invalid, cluster
                )
                observers.send("evaluated", report.values())
                written = folder.iterdir() if folder else ()
                observers.finish(report.values(), sorted(each for each in written if each.name[0] != "."))
            return report

    @abstractmethod
    def configuration(self) -> dict[str, Any]:
        """Return what observers are to know of the model and its task, as JSON values."""

    @abstractmethod
    def evaluate_source(
        self,
        source: Source,
        split: str,
        columns: Mapping[str, str],
        by: str | None,
        metrics: Sequence[str],
        output: Path | None,
        scratch: Path,
        skip_invalid: bool = False,
        cluster: str | None = None,
    ) -> Report:
        """Evaluate on a split of a source, whose fields are in `columns`; see `evaluate`."""

    def columns(self, source: Source, split: str, given: Mapping[str, str]) -> dict[str, str]:
        """Return the columns of fields: those that are given."""
        return dict(given)

    def _is_unfinished(self, output: Path) -> bool:
        """Return whether a folder holds what a stopped evaluation left, and nothing finished."""
        if not self.unfinished or not (output / self.unfinished).is_file():
            return False
        return not any((output / name).exists() for name in ("metrics.json", "scores.json", "run.json"))

    def _answers(self, rows: Iterable[tuple[T, E]]) -> Iterator[tuple[T, E, Any]]:
        """Yield what each example was made of, the example and its answer, in order, a chunk at a time.

        The answer to what is no example is None.
        """
        from gpt_tasks.data.examples import chunks, text_length
        from gpt_tasks.data.oddities import very_long

        def length(row: tuple[T, E]) -> int:
            return text_length(row[1]) if isinstance(row[1], Example) else 0

        predictor = self.predictor
        for chunk in chunks(rows, predictor.chunk, length):
            examples = [example for _, example in chunk if isinstance(example, Example)]
            for note in very_long(examples):
                tell(note)
            answers = iter(predictor.predict(examples) if examples else ())
            for row, example in chunk:
                yield row, example, next(answers) if isinstance(example, Example) else None

    def _opened_texts(self, data: Any, encoding: str | None) -> Source | None:
        """Open a .txt file as texts, one a line, as stdin is; None for other data."""
        from gpt_tasks.data.formats import is_plain_text, open_lines
        from gpt_tasks.data.sources import Source

        if not isinstance(data, str | Path) or not is_plain_text(Path(data).expanduser()):
            return None
        (field,) = _fields_of_text(self.task, str(data))
        file = open_lines(Path(data).expanduser(), field, encoding)
        return Source(file.path.name, {ALL: file.rows}, file.notes)

    def _opened(self, data: Any, split: str | None, encoding: str | None) -> tuple[Source, str]:
        """Open a source, and choose its split."""
        from gpt_tasks.data.sources import open_source
        from gpt_tasks.data.splits import choose_split

        source = open_source(data, self.plugins.registry.sources, encoding)
        if split not in (None, ALL) and ALL in source.splits:
            raise UsageError(f"--split {split} has no effect: {source.name} has no splits", "Leave it out.")
        return source, choose_split(source, split)


def given_example(task: Task, given: str | Mapping[str, Any], where: str) -> Example:
    """Read a text, or a mapping of a task's fields or columns, as if it were a row of data."""
    fields = _fields_of_text(task, where, several=isinstance(given, Mapping))
    values = given if isinstance(given, Mapping) else {fields[0]: given}
    mapping = {field: field for field in fields if field in values}
    return task.example(Row(values, where), task.input_fields(list(values), mapping, where))


def _refuse_useless(
    given: Mapping[str, str], task: Task, source: Source, split: str, columns: Mapping[str, str]
) -> None:
    """Raise UsageError for a column that is given and is not read to answer: that of right answers."""
    first = next(source.whole_rows(split), None)
    if not given or first is None:
        return
    read = task.input_fields(list(first.values), columns, source.name)
    for field in given:
        if field not in read:
            raise UsageError(
                f"--column {field}={given[field]} has no effect: what is to be answered is read by {', '.join(read)}",
                "Leave it out.",
            )


def _fields_of_text(task: Task, where: str, *, several: bool = False) -> list[str]:
    """Return the fields that a task reads: one, or `several`. Raises DataError where one text is not enough."""
    fields = list(task.inputs) or distinct_fields(task.prompt)
    if len(fields) > 1 and not several:
        raise DataError(
            f"{where}: task '{task.name}' reads {', '.join(fields)}, not one text",
            "Give a mapping with each of them, or a file with a column for each.",
        )
    return fields
