"""Classification of a text, or of a pair of texts, into one of several labels."""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from numbers import Integral
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from gpt_tasks.errors import DataError, UsageError
from gpt_tasks.tasks.base import TaskOptions, prompt_fields
from gpt_tasks.tasks.headed import DELIMITER, HeadOptions, HeadTask, Loss
from gpt_tasks.tasks.measures import Measure, Part
from gpt_tasks.types import Continuation, Example, LogLikelihood, Prediction, Request, Response, Row

if TYPE_CHECKING:
    import numpy

LABEL = "label"


class ClassificationOptions(HeadOptions):
    """The options of every classification task."""

    labels: tuple[str, ...] | None = Field(
        None, min_length=2, description="The labels in the model's order, instead of the task's own or the data's."
    )

    @field_validator("labels")
    @classmethod
    def _labels_differ(cls, labels: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if labels and len(set(labels)) < len(labels):
            raise PydanticCustomError("labels", "a label stands there twice")
        return labels


class ClassificationTask(HeadTask):
    """One label for a text or a pair of texts.

    `labels` are the declared ones, in the model's order; left empty, the data's own are taken, sorted. Without
    training, the likelihoods of the labels' words (`label_words`; by default the labels themselves) are compared after
    `question`, by default the prompt and a line "Label:". A training also settles `labels_declared`.
    """

    columns: ClassVar[Mapping[str, str]] = {"text": "text", LABEL: LABEL}
    target: ClassVar[str] = LABEL
    loss: ClassVar[Loss] = "cross_entropy"
    labels: tuple[str, ...] = ()
    labels_declared: bool = True
    question: str | None = None
    label_words: Mapping[str, str] = MappingProxyType({})
    introduction: str = ""
    measures: ClassVar[Sequence[Measure]] = (Measure("accuracy"),)
    metrics: ClassVar[Sequence[str]] = ("accuracy", "macro_f1", "micro_f1", "mcc", "ece")
    best_by: ClassVar[str] = "accuracy"
    Options: ClassVar[type[TaskOptions]] = ClassificationOptions

    @property
    def outputs(self) -> int:
        """One logit for each label."""
        return len(self.labels)

    def read_target(self, row: Row, column: str) -> str:
        """Return the label as the data writes it."""
        return label_text(row.values.get(column), row.where, column)

    def goals(self, targets: Sequence[str]) -> numpy.ndarray:
        """Return the labels' places, `[n]`."""
        import numpy

        return numpy.array([self.labels.index(target) for target in targets], dtype=numpy.int64)

    def fitted(self, observed: Mapping[str, int], inputs: Sequence[str], where: str) -> tuple[Self, dict[str, str]]:
        """Settle the labels by those that the training data holds, and the fields that it is read by.

        Returns the task with its labels, and what each observed label stands for. All observed labels declared: the
        declared ones serve. None declared: the data's own, sorted (numbers by value). Whole numbers index the
        declared ones. Raises DataError where only some are declared, and where there is a single one.
        """
        meaning = self._meaning(observed, where)
        task = copy.copy(self)
        task.inputs = tuple(inputs)
        if not set(meaning.values()) <= set(self.labels):
            task.labels, task.labels_declared = tuple(sorted(observed, key=by_value)), False
        if len(set(meaning.values())) < 2:
            raise DataError(
                f"{where}: every row has the label '{next(iter(meaning))}'",
                "A classifier needs rows of at least two labels.",
            )
        return task, meaning

    def canonical(self, label: str, where: str) -> str:
        """Return the label that a label of the data stands for: itself, or of declared ones the one at its place.

        Raises DataError for one the model does not know.
        """
        if label in self.labels:
            return label
        numbered = label.isdecimal() and not any(map(str.isdecimal, self.labels))
        if numbered and self.labels_declared and int(label) < len(self.labels):
            return self.labels[int(label)]
        near = get_close_matches(label, self.labels, n=1)
        hint = f"Did you mean '{near[0]}'?" if near else "Fix the row, or train on data that holds this label."
        if numbered:
            hint = (
                f"Numbers count them from 0 to {len(self.labels) - 1}; give other labels with --labels."
                if self.labels_declared
                else "Write the labels by their names: the model was trained on those, in no order that numbers follow."
            )
        raise DataError(f"{where}: label '{label}' is not one of {', '.join(self.labels)}", hint)

    def ask(self, example: Example, before: str) -> list[Request]:
        """Ask for the likelihood of every label's word after the texts, `before` in front of them."""
        asked = before + self._question(example.inputs)
        return [Continuation(asked, f" {self.word(label)}") for label in self.labels]

    def shot(self, example: Example) -> str:
        """Return the question about an example with the right label's word behind it."""
        return f"{self._question(example.inputs)} {self.word(str(example.target))}"

    def asked(self, question: str | None, words: Mapping[str, str]) -> Self:
        """Return this task with another question (None keeps its own), and other words for some labels."""
        task = copy.copy(self)
        task.question = self.question if question is None else question
        task.label_words = {**self.label_words, **words}
        return task

    def check_question(self, fields: Sequence[str]) -> None:
        """Raise UsageError where the question or the words do not go with the labels and the data's fields."""
        odd = [label for label in self.label_words if label not in self.labels]
        if odd:
            raise UsageError(
                f"The word '{self.label_words[odd[0]]}' is for a label '{odd[0]}', which there is not",
                f"There are {', '.join(self.labels)}.",
            )
        try:
            named = prompt_fields(self.question or "")
        except ValueError as error:
            raise UsageError(
                f"The question {self.question!r} cannot be read: {error}", "Name fields in braces, as {text}."
            ) from None
        for name in named:
            if name not in fields:
                raise UsageError(
                    f"The question names '{name}', which the data is not read by",
                    f"Its fields are {', '.join(fields)}.",
                )
        words = [self.word(label) for label in self.labels]
        for word in words:
            if words.count(word) > 1:
                raise UsageError(f"Two labels have the same word '{word}'", "Give each label a word of its own.")

    def measure(self, example: Example, answers: Sequence[Response]) -> Mapping[str, Part]:
        """Compare the words' log-likelihoods. Raises DataError for a label that the task does not know."""
        values = [answer.value for answer in answers if isinstance(answer, LogLikelihood)]
        right = self.labels.index(self.canonical(str(example.target), example.where))
        return {"accuracy": Part(float(values.index(max(values)) == right))}

    def word(self, label: str) -> str:
        """Return the word that stands for a label when a model is asked without training."""
        return self.label_words.get(label, label)

    def _question(self, inputs: Mapping[str, str]) -> str:
        if self.question is not None:
            return self.question.format_map(inputs)
        asked = self._prompt_for(inputs).replace(DELIMITER, "\n").format_map(inputs)
        return f"{asked}\nLabel:"

    def decode(self, logits: numpy.ndarray) -> list[Prediction]:
        """Turn logits `[n, labels]` into labels and probabilities."""
        from scipy.special import softmax

        probabilities = softmax(logits.astype("float64"), axis=-1)
        return [
            Prediction(self.labels[row.argmax()], dict(zip(self.labels, row.tolist(), strict=True)))
            for row in probabilities
        ]

    def state(self) -> dict[str, Any]:
        """Keep the labels in the model's order too."""
        return {"labels": list(self.labels), "labels_declared": self.labels_declared, **super().state()}

    def _meaning(self, observed: Collection[str], where: str) -> dict[str, str]:
        known = [label for label in observed if label in self.labels]
        if len(known) == len(observed):
            return {label: label for label in observed}
        if known:
            odd = sorted(set(observed) - set(known))
            near = get_close_matches(odd[0], self.labels, n=1)
            raise DataError(
                f"{where}: of its labels, {', '.join(map(repr, odd))} are not among the declared ones "
                f"({', '.join(self.labels)})",
                f"Did you mean '{near[0]}'?" if near else "Fix those rows, or give all labels with --labels.",
            )
        if self.labels and all(label.isdecimal() for label in observed):
            return {label: self.canonical(label, where) for label in observed}
        return {label: label for label in observed}


def label_text(value: Any, where: str, column: str) -> str:
    """Return a label as a text. Raises DataError where it is none, nor a whole number."""
    if isinstance(value, Integral) or (isinstance(value, float) and value.is_integer()):
        value = str(int(value))
    missing = value is None or (isinstance(value, float) and math.isnan(value))
    if missing or (isinstance(value, str) and not value.strip()):
        raise DataError(f"{where}: the label (column '{column}') is missing", "Label the row, or leave it out.")
    if not isinstance(value, str):
        raise DataError(
            f"{where}: the label (column '{column}') is a {type(value).__name__}: {str(value)[:60]}",
            "A label is a text or a whole number.",
        )
    return value.strip()


def by_value(label: str) -> tuple[int, int, str]:
    """Sort whole numbers by value, before other labels by their letters."""
    return (0, int(label), label) if label.isdecimal() else (1, 0, label)
