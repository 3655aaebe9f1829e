"""Cloze: how likely is the one right ending of a text, and would the model write it by itself?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from pydantic import Field

from gpt_tasks.tasks.base import TaskOptions, prompt_fields
from gpt_tasks.tasks.measures import Measure, Part, perplexity
from gpt_tasks.tasks.untrained import PromptOptions, UntrainedTask, plain_text
from gpt_tasks.types import Continuation, Example, LogLikelihood, Request, Response, Row


class ClozeOptions(PromptOptions):
    """The options of every cloze task."""

    ending: str | None = Field(None, description="How the right ending reads, as in ' {target}'.")


class ClozeTask(UntrainedTask):
    """A text and its ending: accuracy is the share of endings that greedy decoding would write."""

    prompt: str = "{context}"
    ending: str = " {target}"
    metrics: ClassVar[Sequence[str]] = ("accuracy", "perplexity")
    measures: Sequence[Measure] = (Measure("accuracy"), perplexity("perplexity"))
    columns: ClassVar[Mapping[str, str]] = {}
    Options: ClassVar[type[TaskOptions]] = ClozeOptions

    def reads(self) -> list[str]:
        """Return the fields of the prompt and of the ending."""
        return list(dict.fromkeys([*prompt_fields(self.prompt), *prompt_fields(self.ending)]))

    def example(self, row: Row, columns: Mapping[str, str], extra: Sequence[str] = ()) -> Example:
        """Read one row; its target is the ending."""
        texts = {name: plain_text(row, column) for name, column in columns.items()}
        kept = {column: str(row.values.get(column, "")) for column in extra}
        return Example(texts, self.ending.format_map(texts), row.where, kept)

    def ask(self, example: Example, before: str) -> list[Request]:
        """Ask for the likelihood of the ending."""
        return [Continuation(before + self.prompt.format_map(example.inputs), str(example.target))]

    def shot(self, example: Example) -> str:
        """Return the whole text."""
        return self.prompt.format_map(example.inputs) + str(example.target)

    def measure(self, example: Example, answers: Sequence[Response]) -> Mapping[str, Part]:
        """Perplexity is per ending, whatever its number of tokens."""
        (answer,) = answers
        assert isinstance(answer, LogLikelihood)
        return {"accuracy": Part(float(answer.is_greedy)), "perplexity": Part(-answer.value)}
