"""Tasks that a language model answers as it is, by the likelihood of texts or by writing, after examples or without."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from gpt_tasks.errors import DataError
from gpt_tasks.tasks.base import Task, TaskOptions, prompt_fields
from gpt_tasks.tasks.measures import Measure, Part
from gpt_tasks.types import Example, Request, Response, Row

SHOT_SEPARATOR = "\n\n"


def checked_template(template: str | None) -> str | None:
    """Return a format string of an option. Raises an error of pydantic's where it cannot be filled with fields."""
    try:
        fields = prompt_fields(template or "")
    except ValueError as error:
        raise PydanticCustomError("prompt", "{cause}", {"cause": str(error)}) from None
    if not all(field.isidentifier() for field in fields):
        raise PydanticCustomError("prompt", "what stands in braces must be the name of a field")
    return template


class PromptOptions(TaskOptions):
    """The options of every task that is asked of a language model as it is."""

    prompt: str | None = Field(None, description="How an example reads as text, as in 'Question: {question}'.")
    introduction: str | None = Field(None, description="A text that stands before everything else.")

    _is_template = field_validator("prompt", "choice", "ending", "answer", check_fields=False)(checked_template)


class UntrainedTask(Task):
    """A task that needs no training. `measures` are all it knows; `metrics` names those of its reports."""

    takes_shots: ClassVar[bool] = True
    introduction: str = ""
    Options: ClassVar[type[TaskOptions]] = PromptOptions

    @property
    @abstractmethod
    def measures(self) -> Sequence[Measure]:
        """What it can measure; an attribute of the class where no option changes it."""

    @property
    def asked_metrics(self) -> Sequence[str]:
        """The metrics of a model as it is: those of every report, unless there are more."""
        return self.metrics

    @abstractmethod
    def ask(self, example: Example, before: str) -> list[Request]:
        """Return what to ask of the model about an example; `before` stands in front: a description, shots."""

    @abstractmethod
    def shot(self, example: Example) -> str:
        """Return an example with its right answer, as one that stands in front of others."""

    @abstractmethod
    def measure(self, example: Example, answers: Sequence[Response]) -> Mapping[str, Part]:
        """Return what an example brings to every measure, given the answers to what `ask` asked."""

    def fields(self, available: Sequence[str], mapping: Mapping[str, str], where: str) -> dict[str, str]:
        """Choose the columns of the fields that the task reads."""
        odd = [field for field in mapping if field not in self.reads()]
        if odd:
            raise DataError(
                f"--column {odd[0]}={mapping[odd[0]]}: task '{self.name}' has no field '{odd[0]}'",
                f"Its fields are {', '.join(self.reads())}.",
            )
        chosen = {field: mapping.get(field, self.columns.get(field, field)) for field in self.reads()}
        for field, column in chosen.items():
            if column not in available:
                raise DataError(
                    f"{where}: there is no column '{column}'; the columns are {', '.join(available)}",
                    f"Say which one holds it: --column {field}=NAME, or {field}: NAME under the fields of a suite.",
                )
        return chosen

    def reads(self) -> list[str]:
        """Return the names of all fields that the task reads."""
        return list(dict.fromkeys(prompt_fields(self.prompt)))


def plain_text(row: Row, column: str) -> str:
    """Return a row's text, which may be empty. Raises DataError where it is no text."""
    value = row.values.get(column)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        kind = "missing" if value is None else f"a {type(value).__name__}, not a text"
        raise DataError(f"{row.where}: column '{column}' is {kind}", "Give every row a text.")
    return value
