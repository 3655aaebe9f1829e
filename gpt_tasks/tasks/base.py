"""A task: its columns, how an example reads as text, its right answer, and how an answer is scored."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, Self

from gpt_tasks.errors import UsageError
from gpt_tasks.extensions import Metric
from gpt_tasks.metrics.aggregate import as_statistic, metric_statistic
from gpt_tasks.tasks.card import Display, TaskCard
from gpt_tasks.tasks.fixtures import Fixtures
from gpt_tasks.tasks.options import TaskOptions
from gpt_tasks.tasks.reading import choose_columns, extra_columns, refuse_unknown_fields, require_columns, text_of
from gpt_tasks.tasks.state import saved_value
from gpt_tasks.types import Example, Request, Response, Row, Statistic

SHOT_SEPARATOR = "\n\n"
"""Separates few-shot examples, and the last of them from the request."""

# Older names of attributes in states of version 0.1.0.
_OLD_ATTRIBUTES = {"introduction": "instruction", "centre": "mean", "spread": "std"}


class TrainingExamples(Protocol):
    """The training data, as `Task.fit` sees it: examples, their `fields`, and how often each target was `observed`."""

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the inputs."""
        ...

    @property
    def observed(self) -> Mapping[str, int]:
        """The targets, and how many examples have each."""
        ...

    def __iter__(self) -> Iterator[Example]: ...


class Task:
    """What a model is to answer. One instance serves every run: it holds no state of any of them.

    A subclass gives `name`, `columns` (its fields and the data's columns they are read from), `target` (the field of
    the right answer, where data have one) and `prompt` (how an example reads as text: a format string over the fields).
    `metrics` names the metrics of its reports: those that it defines itself, `own_metrics`, or registered ones. A task
    that can be trained names its `learner`, and its `head` if it has one, by registered names; `best_metric` chooses
    the best checkpoint, and `command` is the one by which a run is used. `labels` are the names that `decisions` speaks
    of. `inputs` are the fields that a trained model reads. `former_names` are its names in older runs.

    Methods that read, score and show answers have defaults for answers that JSON can hold. A model is evaluated
    zero-shot by `requests` and `prediction`, where a task has them.
    """

    name: ClassVar[str]
    former_names: ClassVar[tuple[str, ...]] = ()
    columns: ClassVar[Mapping[str, str]]
    target: ClassVar[str] = ""
    prompt: str
    metrics: Sequence[str]
    own_metrics: Sequence[Metric] = ()
    best_metric: str = "loss"
    learner: ClassVar[str | None] = None
    head: ClassVar[str | None] = None
    command: ClassVar[Literal["predict", "generate", "chat"]] = "predict"
    labels: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    instruction: str = ""
    takes_shots: ClassVar[bool] = True
    delimiter: ClassVar[str] = " "
    """What separates a prompt from each of several answers that are compared; a chat template does without it."""
    compares_labels: ClassVar[bool] = False
    """Whether the likelihoods of labels' words are compared, so that they can be calibrated."""
    has_confusion_matrix: ClassVar[bool] = False
    may_answer_nothing: ClassVar[bool] = False
    """Whether a written answer that is empty is a right one, as where a question has no answer."""
    cluster: ClassVar[str] = ""
    """The field whose equal values make examples belong together, as questions on one context: intervals go by it."""
    is_stratified: ClassVar[bool] = False
    """Whether splits keep the shares of the targets."""
    normalize_labels: bool = False
    """Whether labels of the data that differ only in what is not seen, or in case, are one."""
    Options: ClassVar[type[TaskOptions]] = TaskOptions

    @property
    def description(self) -> str:
        """The first line of the class's docstring."""
        return (inspect.getdoc(type(self)) or self.name).splitlines()[0]

    def samples(self) -> Path | None:
        """The folder of embedded samples: `samples/` next to the module that defines the task, where there is one."""
        folder = Path(inspect.getfile(type(self))).parent / "samples"
        return folder if folder.is_dir() else None

    def defaults(self, method: str, parameters: int) -> Mapping[str, float | int]:
        """Return settings that suit this task better than the method's own, for a backbone of so many parameters.

        The settings are those of `gpt_tasks.extensions.SET_BY_METHODS`, as in `{"learning_rate": 1e-4}`.
        """
        return {}

    def configured(self, options: TaskOptions) -> Self:
        """Return this task with its options applied."""
        task = copy.copy(self)
        for field, value in options.model_dump(exclude_none=True).items():
            setattr(task, field, value)
        return task

    def resolved(self) -> Task:
        """Return the task that does the work: this one, unless an option makes it one of another family."""
        return self

    # Reading data.

    def fields(self, available: Sequence[str], mapping: Mapping[str, str], where: str) -> dict[str, str]:
        """Choose the columns to read: field -> column, given the columns there are and the user's own mapping.

        Called once for each source. By default those of `columns` and `target`. Raises DataError, naming the columns
        that are there, where one that the task needs is not, the target's included.
        """
        chosen = self.input_fields(available, mapping, where)
        if self.target:
            chosen |= choose_columns([self.target], self.columns, mapping)
        require_columns(chosen, available, where)
        return chosen

    def input_fields(self, available: Sequence[str], mapping: Mapping[str, str], where: str) -> dict[str, str]:
        """Choose the columns of the inputs, where targets are ignored or missing. Called to predict."""
        known = dict.fromkeys([*self.columns, *([self.target] if self.target else [])])
        refuse_unknown_fields(self.name, known, mapping)
        chosen = choose_columns([field for field in self.columns if field != self.target], self.columns, mapping)
        require_columns(chosen, available, where)
        return chosen

    def example(self, row: Row, columns: Mapping[str, str], extra: Sequence[str] = ()) -> Example:
        """Read one row; it has no target where `columns` are those of `input_fields`.

        Called for every row. By default inputs are texts, and the target is what `read_target` returns. Raises
        DataError naming the row where a text or the target cannot be used.
        """
        inputs = {field: text_of(row, column) for field, column in columns.items() if field != self.target}
        target = self.read_target(row, columns[self.target]) if self.target in columns else None
        return Example(inputs, target, row.where, extra_columns(row, extra))

    def learnable(self, example: Example) -> Example:
        """Return an example that is to be trained on. Raises DataError for one that can only be answered."""
        return example

    def read_target(self, row: Row, column: str) -> str:
        """Return the right answer as a text. Raises DataError naming the row where it cannot be one."""
        return text_of(row, column)

    def settled(self, rows: Callable[[], Iterator[Row]], columns: Mapping[str, str], where: str) -> Self:
        """Return this task as it reads a split of data, where only all of its rows decide how.

        Called once for each split with right answers, before `example`; `rows()` starts reading the rows, `columns` are
        those of `fields`. Raises DataError, naming `where` the data are from, if there is no telling.
        """
        return self

    @property
    def reading_note(self) -> str:
        """What a user should know of how data are read, as they were `settled`; nothing where it is as ever."""
        return ""

    def is_labelled(self, row: Row, mapping: Mapping[str, str]) -> bool:
        """Return whether a row has its target: many published test sets hide theirs. Called on a split's first row."""
        return True

    def fit(self, train: TrainingExamples, where: str) -> Self:
        """Return this task fitted to the training data: with their labels, say. Called once, before training.

        Raises DataError naming `where` the data are from if nothing can be learned from them.
        """
        return self

    def normalize_label(self, target: str, where: str) -> str:
        """Return what a target in the data means to the fitted task. Called for each distinct target.

        Raises DataError naming `where` it was met if the model cannot give it.
        """
        return target

    def labels_of(self, target: str) -> tuple[str, ...]:
        """Return the labels that a target names: what rows of a label are counted by, in notes on rare ones.

        By default the target itself, where it is one of the task's labels, or splits keep the targets' shares.
        """
        return (target,) if self.is_stratified or target in self.labels else ()

    def special_tokens(self) -> tuple[str, ...]:
        """Return the tokens that the model must be given to read what the task was fitted to."""
        return ()

    def target_names(self, known: Iterable[str]) -> tuple[str, ...]:
        """Return the distinct targets in the order in which they are numbered."""
        return tuple(dict.fromkeys(known))

    # Scoring answers.

    def references(self, example: Example) -> Sequence[Any]:
        """Return the right answers, as metrics and files have them."""
        return example.references or (example.target,)

    def plain(self, prediction: Any) -> Any:
        """Return the plain answer of a prediction, as metrics and files have it: a label, a text, a number."""
        return prediction

    def compared(self, example: Example, prediction: Any) -> tuple[Any, Sequence[Any]]:
        """Return the answer and the references as metrics compare them; called for each example of an evaluation."""
        return self.plain(prediction), self.references(example)

    def score(self, example: Example, prediction: Any) -> Mapping[str, Statistic]:
        """Return what an answer contributes to the task's own metrics, by their names.

        Called for each example of an evaluation, as in `{"accuracy": Statistic(1.0)}`. By default each of `own_metrics`
        that has a `statistic` is called.
        """
        compared = self.compared(example, prediction)
        return {
            metric.name: as_statistic(metric, metric.statistic(*compared))
            for metric in self.own_metrics
            if metric.statistic is not None
        }

    def decisions(self, example: Example, prediction: Any) -> Iterable[tuple[str | None, str | None]]:
        """Return pairs of a right label and the one given, None where there is none, for figures of each label."""
        return ()

    def probability(self, prediction: Any) -> float | None:
        """Return the probability that the model gives to its answer, where the worst mistakes are to be shown."""
        return None

    def confidence(self, prediction: Any) -> float | None:
        """Return how probable the whole answer is to the model, as files of answers say; None where nobody knows.

        Called for each answer. A task gives one of all of its answers or of none. By default it is `probability`.
        """
        return self.probability(prediction)

    def contributions(self, metrics: Iterable[Metric], example: Example, prediction: Any) -> dict[str, Statistic]:
        """Return what a prediction contributes to metrics that are means: the task's `score`, or the metrics' own.

        Raises PluginError where a metric fails.
        """
        found: dict[str, Statistic] = {}
        scores = self.score(example, prediction)
        for metric in metrics:
            if metric.name in scores:
                found[metric.name] = scores[metric.name]
            elif metric.whole is None and metric.statistic is not None:
                found[metric.name] = metric_statistic(metric, *self.compared(example, prediction))
        return found

    # Showing answers.

    def record(self, example: Example) -> Mapping[str, Any]:
        """Return the inputs as JSON values, for a line of a file."""
        return example.inputs

    def to_json(self, prediction: Any) -> dict[str, Any]:
        """Return a prediction as JSON values: `predicted`, and further values (see `report.ANSWERED`)."""
        answer = self.plain(prediction)
        return {"predicted": round(answer, 6) if isinstance(answer, float) else answer}

    def line(self, example: Example, prediction: Any) -> Mapping[str, Any]:
        """Return a line of predictions.jsonl: the inputs, the references and the prediction."""
        return {**self.record(example), "references": list(self.references(example)), **self.to_json(prediction)}

    def to_text(self, prediction: Any) -> str:
        """Return a prediction as a line to be read."""
        answer = self.plain(prediction)
        return f"{answer:.3g}" if isinstance(answer, float) else str(answer) or "-"

    def display(self, example: Example, prediction: Any) -> Display | None:
        """Return the inputs, the right answers and the one given, each as text, to be shown in a report.

        None where there is nothing to show.
        """
        right = tuple(str(reference) for reference in self.references(example))
        return dict(example.inputs), right or ("-",), self.to_text(prediction)

    def table_row(self, text: str, prediction: Any) -> Mapping[str, str]:
        """Return the cells, by column, that `gpt-tasks predict` shows of a text and its answer."""
        return {"answer": self.to_text(prediction), "text": text}

    def pipeline_output(self, example: Example, prediction: Any) -> Any:
        """Return a prediction in the form of transformers' pipelines: see `AnsweringModel.as_pipeline`."""
        return {"label": self.plain(prediction), "score": self.probability(prediction)}

    def card(self) -> TaskCard:
        """Return what a model card says of the task."""
        return TaskCard()

    def fixtures(self) -> Fixtures:
        """Return what the conformance kit needs to check this task: see `Fixtures`."""
        return Fixtures()

    # Zero- and few-shot evaluation.

    def zero_shot(self) -> Task:
        """Return the task for zero-shot evaluation, in place of this one."""
        return self

    @property
    def can_be_asked(self) -> bool:
        """Whether a model can be evaluated zero-shot."""
        return type(self).requests is not Task.requests

    @property
    def zero_shot_metrics(self) -> Sequence[str]:
        """The metrics of a zero-shot evaluation: those of every report, unless there are more."""
        return self.metrics

    @property
    def suite_metrics(self) -> Sequence[str]:
        """The metrics of a suite that names none."""
        return self.zero_shot_metrics

    def prompted(self, prompt: str | None, verbalizer: Mapping[str, str]) -> Self:
        """Return this task with another question before its labels, and other words for them.

        Raises UsageError for a task that compares no labels, if either is given.
        """
        if prompt is not None or verbalizer:
            label, word = next(iter(verbalizer.items()), ("", ""))
            given = f"--question {prompt!r}" if prompt is not None else f"--label-word {label}={word}"
            raise UsageError(
                f"{given}: task '{self.name}' compares no labels: a question and words for labels do not apply",
                "Give --option prompt=TEXT for another prompt."
                if "prompt" in self.Options.model_fields
                else "Leave it out.",
            )
        return self

    def check_question(self, fields: Sequence[str]) -> None:
        """Raise UsageError where the request does not fit the fields that the data are read by."""

    def requests(self, example: Example, context: str) -> list[Request]:
        """Return the requests for an example; `context` comes first: an instruction, few-shot examples."""
        raise UsageError(f"Task '{self.name}' cannot be evaluated zero-shot", "Fine-tune a model on it.")

    def prediction(self, example: Example, responses: Sequence[Response]) -> Any:
        """Return the prediction that follows from the responses to `requests`, of the type that a learner predicts."""
        raise UsageError(f"Task '{self.name}' cannot be evaluated zero-shot", "Fine-tune a model on it.")

    def fewshot_example(self, example: Example) -> str:
        """Return an example with its right answer, as it comes before the one to be answered."""
        raise UsageError(f"Task '{self.name}' takes no few-shot examples", "Leave --shots out.")

    # Saving.

    def state(self) -> dict[str, Any]:
        """Return what is saved with a trained model so that `restored` rebuilds this task: JSON values only.

        By default the prompt, the labels, the fields that a model reads, and the values of its options.
        """
        names = ["prompt", *(name for name in ("labels", "inputs") if getattr(self, name)), *self.Options.model_fields]
        return {name: getattr(self, name) for name in dict.fromkeys(names) if hasattr(self, name)}

    def private(self) -> Self:
        """Return this task without what it has learned of the data but labels and numbers, as a private run saves it.

        A task overrides it whose `state` holds texts of the data.
        """
        return self

    def restored(self, state: Mapping[str, Any]) -> Self:
        """Return this task as saved in `state`. Raises ValueError where a value is of another type than annotated."""
        task = copy.copy(self)
        for field, value in state.items():
            current = _OLD_ATTRIBUTES.get(field, field)
            name = current if hasattr(task, current) else field
            setattr(task, name, saved_value(type(task), self.Options, name, value))
        return task
