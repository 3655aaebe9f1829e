"""Language modeling: how likely is a text?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

from pydantic import Field, field_validator

from gpt_tasks.errors import DataError
from gpt_tasks.tasks.base import TaskOptions
from gpt_tasks.tasks.measures import Measure, Part, perplexity
from gpt_tasks.tasks.untrained import UntrainedTask, checked_template, plain_text
from gpt_tasks.types import Answer, Example, Likelihood, Request, Rolling, Row

WORDS, BYTES = "original_words", "original_bytes"


class LanguageModelingOptions(TaskOptions):
    """The options of every language-modeling task."""

    prompt: str | None = Field(None, min_length=1, description="How a row reads as text, as in '{text}'.")

    _is_template = field_validator("prompt")(checked_template)


class LanguageModelingTask(UntrainedTask):
    """The likelihood of whole texts, in windows where they are longer than the model's context.

    Words are what white space separates. Where a text was changed after it was counted (a detokenized one, say), a
    row can bring the numbers to count by: `original_words` and `original_bytes`. Nothing stands before a text: no
    shots, no introduction.
    """

    takes_shots: ClassVar[bool] = False
    Options: ClassVar[type[TaskOptions]] = LanguageModelingOptions
    prompt: str = "{text}"
    columns: ClassVar[Mapping[str, str]] = {}
    metrics: ClassVar[Sequence[str]] = ("word_perplexity", "byte_perplexity", "bits_per_byte")
    measures: Sequence[Measure] = (
        perplexity("word_perplexity"),
        perplexity("byte_perplexity"),
        Measure("bits_per_byte", "lower"),
    )

    def fields(self, available: Sequence[str], mapping: Mapping[str, str], where: str) -> dict[str, str]:
        """Choose the columns of the text, and of its words and bytes where they are there."""
        counts = {field: mapping.get(field, field) for field in (WORDS, BYTES)}
        texts = {field: column for field, column in mapping.items() if field not in counts}
        found = super().fields(available, texts, where)
        return {**found, **{field: column for field, column in counts.items() if column in available}}

    def example(self, row: Row, columns: Mapping[str, str], extra: Sequence[str] = ()) -> Example:
        """Read one row. Raises DataError where the text is empty."""
        texts = {name: plain_text(row, column) for name, column in columns.items()}
        text = self.prompt.format_map(texts)
        if not text.strip():
            raise DataError(f"{row.where}: the text is empty", "Leave the row out.")
        kept = {column: str(row.values.get(column, "")) for column in extra}
        counts = {WORDS: str(len(text.split())), BYTES: str(len(text.encode()))}
        for field in counts.keys() & texts.keys():
            if not texts[field].strip().isdecimal() or int(texts[field]) < 1:
                raise DataError(
                    f"{row.where}: column '{columns[field]}' is {texts[field]!r}, not a number of one or more",
                    "Give a whole number, or leave the column out.",
                )
        return Example({**counts, **texts}, None, row.where, kept)

    def ask(self, example: Example, before: str) -> list[Request]:
        """Ask for the likelihood of the text."""
        return [Rolling(self.prompt.format_map(example.inputs))]

    def shot(self, example: Example) -> str:
        """Return the text."""
        return self.prompt.format_map(example.inputs)

    def measure(self, example: Example, answers: Sequence[Answer]) -> Mapping[str, Part]:
        """Nats by words and by bytes, and bits by bytes."""
        (answer,) = answers
        assert isinstance(answer, Likelihood)
        words, size = float(example.inputs[WORDS]), float(example.inputs[BYTES])
        nats = -answer.value
        return {
            "word_perplexity": Part(nats / words, words),
            "byte_perplexity": Part(nats / size, size),
            "bits_per_byte": Part(nats / size / math.log(2), size),
        }
