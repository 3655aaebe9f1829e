"""Multiple choice: which of several texts goes on best, by its likelihood or by a head that scores each?"""

from __future__ import annotations

import copy
import string
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field

from gpt_tasks.errors import DataError
from gpt_tasks.tasks.base import TaskOptions, prompt_fields
from gpt_tasks.tasks.headed import DELIMITER, LONG_TEXTS, LongTexts, Loss, MeasuredTask
from gpt_tasks.tasks.measures import Measure, Part
from gpt_tasks.tasks.untrained import PromptOptions, UntrainedTask, plain_text
from gpt_tasks.types import Continuation, Encoded, Example, LogLikelihood, Prediction, Request, Response, Row

if TYPE_CHECKING:
    import numpy
    from transformers import PreTrainedTokenizerBase

CHOICE, CHOICES, ANSWER = "choice", "choices", "answer"


class MultipleChoiceOptions(PromptOptions):
    """The options of every multiple-choice task."""

    choice: str | None = Field(None, description="How a choice reads after the prompt, as in ' {choice}'.")
    equal_choices: Literal["refuse", "allow"] | None = Field(None, description="allow: the first of them counts.")
    long_texts: LongTexts | None = LONG_TEXTS


class MultipleChoiceTask(UntrainedTask, MeasuredTask):
    """One right choice among several.

    A row has `choices`, a list of texts, and `answer`: the right one's place (from 0), its letter, or its text. Without
    training the likeliest one after the prompt is the model's answer; the prompt may itself name `{choice}`, and then
    what is compared is how likely the same continuation is after each context. A head scores every choice by itself,
    read behind the prompt and a delimiter (Radford et al. 2018), and answers with the place of the highest score.
    """

    target: ClassVar[str] = ANSWER
    loss: ClassVar[Loss] = "choice"
    columns: ClassVar[Mapping[str, str]] = {CHOICES: CHOICES, ANSWER: ANSWER}
    prompt: str = "{question}"
    choice: str = " {choice}"
    equal_choices: Literal["refuse", "allow"] = "refuse"
    metrics: ClassVar[Sequence[str]] = ("accuracy",)
    best_by: ClassVar[str] = "accuracy"
    measures: ClassVar[Sequence[Measure]] = (
        Measure("accuracy"),
        Measure("acc_norm"),
        Measure("pct_stereotype", "lower"),
        Measure("likelihood_diff", "lower"),
    )
    Options: ClassVar[type[TaskOptions]] = MultipleChoiceOptions

    @property
    def asked_metrics(self) -> Sequence[str]:
        """Of a model as it is, the accuracy by characters of the choice too."""
        return ("accuracy", "acc_norm")

    @property
    def outputs(self) -> int:
        """One score for a choice."""
        return 1

    def reads(self) -> list[str]:
        """Return the fields of the prompt and of the choice's text, the choices and the answer."""
        named = [*prompt_fields(self.prompt), *prompt_fields(self.choice)]
        return [*(field for field in dict.fromkeys(named) if field != CHOICE), CHOICES, ANSWER]

    def asked_fields(self, available: Sequence[str], mapping: Mapping[str, str], where: str) -> dict[str, str]:
        """Choose the columns of all but the answer."""
        chosen = self.fields([*available, self.target_column(mapping)], mapping, where)
        del chosen[ANSWER]
        return chosen

    def example(self, row: Row, columns: Mapping[str, str], extra: Sequence[str] = ()) -> Example:
        """Read one row. Raises DataError where its choices are fewer than two, empty or equal, or it has no answer."""
        choices = _choices(row, columns[CHOICES])
        for place, choice in enumerate(choices):
            if choice in choices[:place] and self.equal_choices == "refuse":
                raise DataError(
                    f"{row.where}: choices {choices.index(choice)} and {place} are equal: {choice[:60]!r}",
                    "No model can tell them apart: fix the row, or leave it out.",
                )
        texts = {name: plain_text(row, column) for name, column in columns.items() if name not in (CHOICES, ANSWER)}
        kept = {column: str(row.values.get(column, "")) for column in extra}
        right = str(_right(row, columns[ANSWER], choices)) if ANSWER in columns else None
        return Example(texts, right, row.where, kept, choices)

    def read_target(self, row: Row, column: str) -> str:
        """Return the right choice's place."""
        return str(_right(row, column, _choices(row, self.columns[CHOICES])))

    def fitted(self, observed: Mapping[str, int], inputs: Sequence[str], where: str) -> tuple[Self, dict[str, str]]:
        """Settle the fields: choices are each example's own."""
        task = copy.copy(self)
        task.inputs = tuple(inputs)
        return task, {}

    def canonical(self, target: str, where: str) -> str:
        """Return the place itself: it was found among the example's choices."""
        return target

    def goals(self, targets: Sequence[str]) -> numpy.ndarray:
        """Return the places of the right choices, `[n]`."""
        import numpy

        return numpy.array([int(target) for target in targets], dtype=numpy.int64)

    def encode(self, examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[Encoded]:
        """Encode each choice behind the prompt, in a sequence of its own, or in several where that is too long."""
        prompt = f"{self.prompt}{DELIMITER}{self.choice.strip()}"
        filled = [{**example.inputs, CHOICE: choice} for example in examples for choice in example.choices]
        encoded = iter(self.encoding(prompt, filled, tokenizer, max_length))
        found = []
        for example in examples:
            some = [next(encoded) for _ in example.choices]
            first, *others = (ids for each in some for ids in each.sequences)
            found.append(
                Encoded(
                    first,
                    max(each.truncated for each in some),
                    others=tuple(others),
                    windows=max(each.windows for each in some),
                    choices=tuple(place for place, each in enumerate(some) for _ in each.sequences),
                )
            )
        return found

    def own_tokens(self) -> tuple[str, ...]:
        """The delimiter."""
        return (DELIMITER,)

    def decode(self, logits: numpy.ndarray) -> list[Prediction]:
        """Turn scores `[n, choices]`, minus infinity where an example has fewer, into places and probabilities."""
        from scipy.special import softmax

        return [
            Prediction(str(row.argmax()), {str(place): float(p) for place, p in enumerate(row) if p > 0})
            for row in softmax(logits.astype("float64"), axis=-1)
        ]

    def naive(self, examples: Sequence[Example]) -> Mapping[str, Sequence[Prediction]]:
        """The longest choice: writers of questions put more care into the right one."""
        longest = [max(range(len(each.choices)), key=lambda place: len(each.choices[place])) for each in examples]
        return {"longest": [Prediction(str(place), {str(place): 1.0}) for place in longest]}

    def shown(self, example: Example, answer: Prediction) -> tuple[str, str]:
        """Return the right choice and the one that was taken."""
        return example.choices[int(str(example.target))], example.choices[int(answer.label)]

    def record(self, example: Example) -> Mapping[str, Any]:
        """Return the texts and the choices."""
        return {**example.inputs, CHOICES: list(example.choices)}

    def state(self) -> dict[str, Any]:
        """Keep how a choice reads too."""
        return {"choice": self.choice, "equal_choices": self.equal_choices, **super().state()}

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

    def measure(self, example: Example, answers: Sequence[Response] | Prediction) -> Mapping[str, Part]:
        """Compare the choices' log-likelihoods, and for `acc_norm` those by characters of the choice.

        Of a head's answer only the accuracy follows.
        """
        if isinstance(answers, Prediction):
            return {"accuracy": Part(float(answers.label == example.target))}
        values = [answer.value for answer in answers if isinstance(answer, LogLikelihood)]
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
