"""A model with its task, called as a pipeline of transformers is, so that `evaluate.evaluator` takes it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from gpt_tasks.errors import UsageError
from gpt_tasks.tasks.prompts import distinct_fields

if TYPE_CHECKING:
    from gpt_tasks.evaluation.answering import AnsweringModel

# The pipelines of models that write, and the key under which each of them returns a text.
_TEXT_KEYS = {
    "summarization": "summary_text",
    "text-generation": "generated_text",
    "text2text-generation": "generated_text",
    "translation": "translation_text",
}

# What evaluators pass along that is so in any case: texts that are too long are cut, no label is left out, and whether
# a question can be without an answer was decided when the model was trained.
_EXPECTED: Mapping[str, list[Any]] = {
    "truncation": [True],
    "ignore_labels": [[]],
    "handle_impossible_answer": [True, False],
}


class AnsweringPipeline:
    """A callable with a `task`, as `evaluate.evaluator` wants it; made by `as_pipeline`."""

    def __init__(self, model: AnsweringModel, task: str) -> None:
        self.model = model
        self.task = task

    def __call__(self, inputs: Any = None, **kwargs: Any) -> list[Any]:
        """Answer texts, pairs of texts (`text`, `text_pair`) or columns of questions and contexts, in order.

        Raises UsageError for a setting of transformers' pipelines that is not for these models.
        """
        columns: dict[str, Any] = {field: kwargs.pop(field) for field in ("question", "context") if field in kwargs}
        for name, value in kwargs.items():
            if value not in _EXPECTED.get(name, []):
                raise UsageError(f"A pipeline of gpt-tasks has no setting {name}={value!r}", "Leave it out.")
        if isinstance(inputs, Mapping):
            columns, inputs = dict(inputs), None
        given: Iterable[Any] = _rows(columns) if inputs is None else [inputs] if isinstance(inputs, str) else inputs
        key = _TEXT_KEYS.get(self.task)
        task, answers = self.model.task, []
        for example, prediction in self.model.answers([self._fields(each) for each in given]):
            answer = task.pipeline_output(example, prediction)
            answers.append({key: answer["generated_text"]} if key else answer)
        # A pipeline that writes returns a list for each text, as it can write several.
        return [[each] for each in answers] if self.task == "text-generation" else answers

    def _fields(self, given: str | Mapping[str, Any]) -> str | Mapping[str, Any]:
        """Give the texts of a pair the names of the task's fields."""
        if isinstance(given, str) or "text" not in given or not given.keys() <= {"text", "text_pair"}:
            return given
        if given.get("text_pair") is None:
            return str(given["text"])
        first, second = distinct_fields(self.model.task.prompt)[:2]
        return {first: given["text"], second: given["text_pair"]}


def as_pipeline(model: AnsweringModel, task: str | None = None) -> AnsweringPipeline:
    """Return a model as a pipeline; `task` is the name that transformers has for it, by default the model card's.

    Raises UsageError for a name that does not go with what the model answers.
    """
    ours = model.task
    tag = ours.card().pipeline_tag
    if task is None:
        task = ours.name if ours.name in _TEXT_KEYS else tag
    elif task != tag and not (tag in _TEXT_KEYS and task in _TEXT_KEYS):
        raise UsageError(f"A model of task '{ours.name}' is no pipeline for '{task}'", f"Leave it out, or say '{tag}'.")
    _repair_evaluators()
    return AnsweringPipeline(model, task)


def _rows(columns: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return rows of columns that are as long as each other, or the one row that they are."""
    if all(isinstance(column, str) for column in columns.values()):
        return [columns]
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _repair_evaluators() -> None:
    """Let evaluate's evaluators take a pipeline: version 0.4.6 asks for a class that transformers 5 no longer has."""
    import transformers
    from evaluate.evaluator import base

    if not hasattr(transformers, "TFPreTrainedModel") and base.transformers is transformers:
        absent = type("TFPreTrainedModel", (), {})
        base.transformers = SimpleNamespace(PreTrainedModel=transformers.PreTrainedModel, TFPreTrainedModel=absent)
