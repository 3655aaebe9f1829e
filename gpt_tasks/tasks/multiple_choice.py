"""Multiple choice: which of several texts goes on best?"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from gpt_tasks.errors import DataError
from gpt_tasks.tasks.base import TaskOptions, prompt_fields
from gpt_tasks.tasks.measures import Measure, Part
from gpt_tasks.tasks.untrained import PromptOptions, UntrainedTask, plain_text
from gpt_tasks.types import Answer, Continuation, Example, Likelihood, Request, Row

CHOICE, CHOICES, ANSWER = "choice", "choices", "answer"


class MultipleChoiceOptions(PromptOptions):
    """The options of every multiple-choice task."""

    choice: str | None = Field(None, description="How a choice reads after the prompt, as in ' {choice}'.")
    equal_choices: Literal["refuse", "allow"] | None = Field(None, description="allow: the first of them counts.")


class MultipleChoiceTask(UntrainedTask):
    """One right choice among several: the likeliest one after the prompt is the model's answer.

    A row has `choices`, a list of texts, and `answer`: the right one's place (from 0), its letter, or its text. The
    prompt may itself name `{choice}`: then the contexts differ, and what is compared is how likely the same
    continuation is after each.
    """

    columns: ClassVar[Mapping[str, str]] = {CHOICES: CHOICES, ANSWER: ANSWER}
    prompt: str = "{question}"
    choice: str = " {choice}"
    equal_choices: Literal["refuse", "allow"] = "refuse"
    metrics: ClassVar[Sequence[str]] = ("accuracy", "acc_norm")
    measures: Sequence[Measure] = (
        Measure("accuracy"),
        Measure("acc_norm"),
        Measure("pct_stereotype", "lower"),
        Measure("likelihood_diff", "lower"),
    )
    Options: ClassVar[type[TaskOptions]] = MultipleChoiceOptions

    def reads(self) -> list[str]:
        """Return the fields of the prompt and of the choice's text, the choices and the answer."""
        named = [*prompt_fields(self.prompt), *prompt_fields(self.choice)]
        return [*(field for field in dict.fromkeys(named) if field != CHOICE), CHOICES, ANSWER]

    def example(self, row: Row, columns: Mapping[str, str], extra: Sequence[str] = ()) -> Example:
        """Read one row. Raises DataError where its choices are fewer than two, empty or equal, or it has no answer."""
        choices = _choices(row, columns[CHOICES])
        for place, choice in enumerate(choices):
            if choice in choices[:place] and self.equal_choices == "refuse":
                raise DataError(
                    f"{row.where}: choices {choices.index(choice)} and {place} are equal: {choice[:60]!r}",
                    "No model can tell them apart: mend the row, or leave it out.",
                )
        texts = {name: plain_text(row, column) for name, column in columns.items() if name not in (CHOICES, ANSWER)}
        kept = {column: str(row.values.get(column, "")) for column in extra}
        return Example(texts, str(_right(row, columns[ANSWER], choices)), row.where, kept, choices)

    def ask(self, example: Example, before: str) -> list[Request]:
        """Ask for the likelihood of every choice."""
        return [
            Continuation(before + self.prompt.format_map(fields), self.choice.format_map(fields))
            for fields in ({**example.inputs, CHOICE: choice} for choice in example.choices)
        ]

    def shot(self, example: Example) -> str:
        """Return the prompt with the right choice behind it."""
        fields = {**example.inputs, CHOICE: example.choices[int(str(example.target))]}
        return self.prompt.format_map(fields) + self.choice.format_map(fields)

    def measure(self, example: Example, answers: Sequence[Answer]) -> Mapping[str, Part]:
        """Compare the choices' log-likelihoods, and for `acc_norm` those by characters of the choice."""
        values = [answer.value for answer in answers if isinstance(answer, Likelihood)]
        by_character = [value / len(choice) for value, choice in zip(values, example.choices, strict=True)]
        right = int(str(example.target))
        return {
            "accuracy": Part(float(values.index(max(values)) == right)),
            "acc_norm": Part(float(by_character.index(max(by_character)) == right)),
            "pct_stereotype": Part(float(values[0] > max(values[1:]))),
            "likelihood_diff": Part(abs(values[0] - values[1])),
        }


def _choices(row: Row, column: str) -> tuple[str, ...]:
    choices = row.values.get(column)
    if not isinstance(choices, list | tuple) or not all(isinstance(choice, str) for choice in choices):
        raise DataError(f"{row.where}: column '{column}' holds no list of texts", "Give the choices as a list.")
    if len(choices) < 2:
        raise DataError(f"{row.where}: {len(choices)} choices are too few", "Give at least two.")
    for place, choice in enumerate(choices):
        if not choice.strip():
            raise DataError(f"{row.where}: choice {place} is empty", "Give every choice a text, or leave the row out.")
    return tuple(choices)


def _right(row: Row, column: str, choices: Sequence[str]) -> int:
    answer: Any = row.values.get(column)
    if isinstance(answer, str):
        if answer in choices:
            return choices.index(answer)
        word = answer.strip()
        if word.isdecimal():
            answer = int(word)
        elif len(word) == 1 and word in string.ascii_letters:
            answer = string.ascii_uppercase.index(word.upper())
    if isinstance(answer, float) and answer.is_integer():
        answer = int(answer)
    if not isinstance(answer, int) or isinstance(answer, bool) or not 0 <= answer < len(choices):
        raise DataError(
            f"{row.where}: the answer (column '{column}') is {answer!r}, none of the {len(choices)} choices",
            "An answer is a choice's place, counted from 0, its letter, or its text.",
        )
    return answer
