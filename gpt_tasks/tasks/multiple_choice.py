"""Multiple choice: which of several texts continues best, by its likelihood or by a head that scores each?"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field

from gpt_tasks.errors import DataError
from gpt_tasks.extensions import Metric
from gpt_tasks.tasks.card import Display, TaskCard
from gpt_tasks.tasks.choice_answers import AnswerForm, choose_form, read_answer, read_choices, write_answer
from gpt_tasks.tasks.fixtures import SENTENCES, Fixtures, with_column
from gpt_tasks.tasks.headed import DELIMITER, LONG_TEXTS, HeadTask
from gpt_tasks.tasks.options import READING, TaskOptions
from gpt_tasks.tasks.pieces import LongTexts, encode_pieces
from gpt_tasks.tasks.probabilities import labels_to_json, softmax
from gpt_tasks.tasks.prompted import PromptedTask, PromptOptions
from gpt_tasks.tasks.prompts import prompt_fields
from gpt_tasks.tasks.reading import extra_columns, plain_text
from gpt_tasks.types import (
    Continuation,
    Encoded,
    Example,
    LogLikelihood,
    Prediction,
    Request,
    Response,
    Row,
    Statistic,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHOICE, CHOICES, ANSWER = "choice", "choices", "answer"


class MultipleChoiceOptions(PromptOptions):
    """The options of every multiple-choice task."""

    choice: str | None = Field(None, description="How a choice reads after the prompt, as in ' {choice}'.")
    equal_choices: Literal["refuse", "allow"] | None = Field(
        None,
        description="By default allowed where rows are only answered: the first of them counts.",
        json_schema_extra=READING,
    )
    answers: AnswerForm | None = Field(
        None, description="How answers name a choice. Default: what fits all rows.", json_schema_extra=READING
    )
    long_texts: LongTexts | None = LONG_TEXTS


class MultipleChoiceTask(PromptedTask, HeadTask):
    """One right choice among several.

    A row has `choices`, a list of texts, and `answer`: the right one's text, its letter, or its number, from 0 or from
    1. Which of these is decided once for a file, by all of its rows, unless `answers` says it; `answer_form` is what
    was found. Without training the likeliest one after the prompt is the model's answer; the prompt may itself name
    `{choice}`, and then what is compared is how likely the same continuation is after each context. A head scores every
    choice separately, read after the prompt and a delimiter (Radford et al. 2018), and answers with the place of the
    highest score.
    """

    target: ClassVar[str] = ANSWER
    columns: ClassVar[Mapping[str, str]] = {CHOICES: CHOICES, ANSWER: ANSWER}
    prompt: str = "{question}"
    choice: str = " {choice}"
    equal_choices: Literal["refuse", "allow"] | None = None
    answers: AnswerForm | None = None
    answer_form: AnswerForm | None = None
    metrics: Sequence[str] = ("accuracy",)
    best_metric: str = "accuracy"
    own_metrics: Sequence[Metric] = (
        Metric("accuracy", "Share of examples whose right choice is taken.", range=(0.0, 1.0)),
        Metric("acc_norm", "Accuracy by log-likelihoods per character of the choice.", range=(0.0, 1.0)),
        Metric(
            "pct_stereotype", "Share of examples whose first choice is likelier than all others.", "lower", (0.0, 1.0)
        ),
        Metric("likelihood_diff", "Mean absolute difference of the first two log-likelihoods.", "lower"),
    )
    learner: ClassVar[str | None] = "multiple-choice"
    Options: ClassVar[type[TaskOptions]] = MultipleChoiceOptions

    @property
    def zero_shot_metrics(self) -> Sequence[str]:
        """The accuracy by characters of the choice too."""
        return ("accuracy", "acc_norm")

    def field_names(self) -> list[str]:
        """Return the fields of the prompt and of the choice's text, the choices and the answer."""
        named = [*prompt_fields(self.prompt), *prompt_fields(self.choice)]
        return [*(field for field in dict.fromkeys(named) if field != CHOICE), CHOICES, ANSWER]

    def input_fields(self, available: Sequence[str], mapping: Mapping[str, str], where: str) -> dict[str, str]:
        """Choose the columns of all but the answer."""
        chosen = self.fields([*available, self.target_column(mapping)], mapping, where)
        del chosen[ANSWER]
        return chosen

    def example(self, row: Row, columns: Mapping[str, str], extra: Sequence[str] = ()) -> Example:
        """Read one row. Raises DataError where its choices are fewer than two, empty or equal, or it has no answer."""
        choices = read_choices(row, columns[CHOICES])
        if self.equal_choices == "refuse":
            _refuse_equal(choices, row.where)
        texts = {name: plain_text(row, column) for name, column in columns.items() if name not in (CHOICES, ANSWER)}
        right = None
        if ANSWER in columns:
            right = str(read_answer(row, columns[ANSWER], choices, columns[CHOICES], self.answers or self.answer_form))
        return Example(texts, right, row.where, extra_columns(row, extra), choices)

    def learnable(self, example: Example) -> Example:
        """Return the example. Raises DataError where its choices are equal, unless that is allowed."""
        if self.equal_choices is None:
            _refuse_equal(example.choices, example.where)
        return example

    def read_target(self, row: Row, column: str) -> str:
        """Return the right choice's place."""
        choices = read_choices(row, self.columns[CHOICES])
        return str(read_answer(row, column, choices, self.columns[CHOICES], self.answers or self.answer_form))

    def settled(self, rows: Callable[[], Iterator[Row]], columns: Mapping[str, str], where: str) -> Self:
        """Return this task with the form of all answers of a file."""
        if self.answers is not None:
            return self
        task = copy.copy(self)
        found = choose_form(rows(), columns[ANSWER], columns[CHOICES], self.answer_form, where)
        task.answer_form = found or self.answer_form
        return task

    @property
    def reading_note(self) -> str:
        """Say where numbers are not read as they are in most files."""
        return "answers count choices from 1" if self.answer_form == "from-1" else ""

    def state(self) -> dict[str, Any]:
        """Save the form of the training data's answers, too: other files that allow several are read by it."""
        return {**super().state(), "answer_form": self.answer_form}

    def restored(self, state: Mapping[str, Any]) -> Self:
        """Return this task as it was; runs from before there were forms read numbers from 0."""
        return super().restored({"answer_form": "from-0", **state})

    def encode(self, examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[Encoded]:
        """Encode each choice after the prompt, in a separate sequence, or in several where it is too long."""
        prompt = f"{self.prompt}{DELIMITER}{self.choice.strip()}"
        filled = [{**example.inputs, CHOICE: choice} for example in examples for choice in example.choices]
        encoded = iter(encode_pieces(prompt, filled, tokenizer, max_length, self.long_texts))
        found = []
        for example in examples:
            some = [next(encoded) for _ in example.choices]
            first, *others = (ids for each in some for ids in each.sequences)
            found.append(
                Encoded(
                    first,
                    max(each.truncated for each in some),
                    more_sequences=tuple(others),
                    windows=max(each.windows for each in some),
                    choices=tuple(place for place, each in enumerate(some) for _ in each.sequences),
                )
            )
        return found

    def special_tokens(self) -> tuple[str, ...]:
        """The delimiter."""
        return (DELIMITER,)

    def plain(self, prediction: Prediction) -> str:
        """Return the place of the choice."""
        return prediction.label

    def score(self, example: Example, prediction: Prediction) -> Mapping[str, Statistic]:
        """Compare the choice with the right one; where log-likelihoods are known, those too."""
        found = {"accuracy": Statistic(float(prediction.label == example.target))}
        values = prediction.log_likelihoods
        if values:
            by_character = [value / len(choice) for value, choice in zip(values, example.choices, strict=True)]
            right = by_character.index(max(by_character)) == int(str(example.target))
            found |= {
                "acc_norm": Statistic(float(right)),
                "pct_stereotype": Statistic(float(values[0] > max(values[1:]))),
                "likelihood_diff": Statistic(abs(values[0] - values[1])),
            }
        return found

    def confidence(self, prediction: Prediction) -> float | None:
        """Return the probability of the choice."""
        return prediction.probabilities[prediction.label]

    def record(self, example: Example) -> Mapping[str, Any]:
        """Return the texts and the choices."""
        return {**example.inputs, CHOICES: list(example.choices)}

    def to_json(self, prediction: Prediction) -> dict[str, Any]:
        """Return the place of the choice and the probability of every one."""
        return labels_to_json(prediction.label, prediction.probabilities)

    def display(self, example: Example, prediction: Prediction) -> Display:
        """Return the texts, the right choice and the one that was taken."""
        right, taken = (example.choices[int(str(place))] for place in (example.target, prediction.label))
        return dict(example.inputs), (right,), taken

    def table_row(self, text: str, prediction: Prediction) -> Mapping[str, str]:
        """Return the place of the choice, its probability and the text."""
        probability = prediction.probabilities[prediction.label]
        return {"label": prediction.label, "probability": f"{probability:.1%}", "text": text}

    def card(self) -> TaskCard:
        """Return what a model card says of choices."""
        return TaskCard(
            answers="choice",
            does="answers {task} with one of the choices that it is given",
            limits=("It takes one of the choices that it is given, also where none is right.",),
            baselines="The baseline answers are those that the choices' length would give. ",
            headline="accuracy",
            input_example={CHOICES: '["...", "..."]'},
        )

    def fixtures(self) -> Fixtures:
        """A sure answer, the next choice as another target, and rows of made-up choices."""

        def sure(example: Example, shift: int) -> Prediction:
            chosen = str((int(str(example.target)) + shift) % len(example.choices))
            places = [str(place) for place in range(len(example.choices))]
            values = tuple(-1.0 if place == chosen else -1000.0 for place in places)
            return Prediction(chosen, {place: float(place == chosen) for place in places}, values)

        def retarget(row: Row, other: Row, columns: Mapping[str, str]) -> Row:
            example = self.example(row, columns)
            place = (int(str(example.target)) + 1) % len(example.choices)
            answer = write_answer(place, example.choices, self.answers or self.answer_form)
            return with_column(row, **{columns[ANSWER]: answer})

        def row(number: int) -> Mapping[str, Any]:
            text, word = SENTENCES[number % len(SENTENCES)]
            others = [SENTENCES[(number + step) % len(SENTENCES)][1] for step in (1, 2)]
            choices = [*others, word] if number % 2 else [word, *others]
            values: dict[str, Any] = dict.fromkeys(self.field_names(), text)
            values |= {CHOICES: choices, ANSWER: choices.index(word)}
            return {self.columns.get(field, field): value for field, value in values.items()}

        return replace(
            super().fixtures(),
            gold=lambda example: sure(example, 0),
            wrong=lambda example: sure(example, 1),
            retarget=retarget,
            row=row,
            prompt_ending=None,
        )

    @property
    def delimiter(self) -> str:  # type: ignore[override]
        """The space that a choice begins with, where it is the prompt's and not the choice's own."""
        return " " if self.choice.startswith(" ") else ""

    def requests(self, example: Example, context: str) -> list[Request]:
        """Request the likelihood of every choice."""
        return [
            Continuation(context + self.prompt.format_map(fields), self.choice.format_map(fields))
            for fields in ({**example.inputs, CHOICE: choice} for choice in example.choices)
        ]

    def prediction(self, example: Example, responses: Sequence[Response]) -> Prediction:
        """Return the likeliest choice, with the log-likelihoods of all."""
        values = [response.value for response in responses if isinstance(response, LogLikelihood)]
        places = map(str, range(len(values)))
        label = str(values.index(max(values)))
        return Prediction(label, dict(zip(places, softmax(values), strict=True)), tuple(values))

    def fewshot_example(self, example: Example) -> str:
        """Return the prompt with the right choice after it."""
        fields = {**example.inputs, CHOICE: example.choices[int(str(example.target))]}
        return self.prompt.format_map(fields) + self.choice.format_map(fields)


def _refuse_equal(choices: Sequence[str], where: str) -> None:
    for place, choice in enumerate(choices):
        if choice in choices[:place]:
            raise DataError(
                f"{where}: choices {choices.index(choice)} and {place} are equal: {choice[:60]!r}",
                "No model can distinguish them: fix the row, or leave it out.",
            )
