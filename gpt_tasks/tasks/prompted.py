"""Tasks that read their fields by a prompt: requests to a language model, trained on the task or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from pydantic import Field, field_validator

from gpt_tasks.tasks.base import Task
from gpt_tasks.tasks.options import ASKED, TaskOptions
from gpt_tasks.tasks.prompts import check_template, distinct_fields
from gpt_tasks.tasks.reading import choose_columns, refuse_unknown_fields, require_columns


class PromptOptions(TaskOptions):
    """The options of every task with a prompt for a language model."""

    prompt: str | None = Field(None, description="How an example reads as text, as in 'Question: {question}'.")
    instruction: str | None = Field(
        None, description="A text that comes before everything else.", json_schema_extra=ASKED
    )

    _is_template = field_validator("prompt", "choice", "ending", "answer", check_fields=False)(check_template)


class PromptedTask(Task):
    """A task whose prompt names all fields that it reads."""

    Options: ClassVar[type[TaskOptions]] = PromptOptions

    def field_names(self) -> list[str]:
        """Return the names of all fields that the task reads."""
        return distinct_fields(self.prompt)

    def fields(self, available: Sequence[str], mapping: Mapping[str, str], where: str) -> dict[str, str]:
        """Choose the columns of the fields that the task reads."""
        names = self.field_names()
        refuse_unknown_fields(self.name, names, mapping)
        chosen = choose_columns(names, self.columns, mapping)
        require_columns(chosen, available, where)
        return chosen

    def input_fields(self, available: Sequence[str], mapping: Mapping[str, str], where: str) -> dict[str, str]:
        """Choose the same: the target is made of the fields."""
        return self.fields(available, mapping, where)
