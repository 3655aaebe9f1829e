"""Classification of a text, or of a pair of texts, into one of several labels."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from difflib import get_close_matches
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from gpt_tasks.errors import DataError, UsageError
from gpt_tasks.tasks.base import TrainingExamples
from gpt_tasks.tasks.card import TaskCard
from gpt_tasks.tasks.fixtures import SENTENCES, Fixtures
from gpt_tasks.tasks.headed import DELIMITER, HeadOptions, HeadTask
from gpt_tasks.tasks.labels import (
    TRUTH,
    LabelOptions,
    by_value,
    known_label,
    label_text,
    most_frequent_spellings,
    place_of,
    refuse_two_readings,
)
from gpt_tasks.tasks.options import TaskOptions
from gpt_tasks.tasks.probabilities import labels_to_json, most_probable, softmax
from gpt_tasks.tasks.prompts import distinct_fields, ends_with_words, fields_of_question, prompt_fields
from gpt_tasks.tasks.reading import from_cell
from gpt_tasks.types import Continuation, Example, LogLikelihood, Prediction, Request, Response, Row, Statistic

if TYPE_CHECKING:
    import numpy

LABEL = "label"

_LABELS = "--labels A --labels B, with --task --option labels=A --option labels=B"


class ClassificationOptions(HeadOptions, LabelOptions):
    """The options of every classification task."""

    labels: tuple[str, ...] | None = Field(
        None, min_length=2, description="The labels in the model's order, instead of the task's own or the data's."
    )

    @field_validator("labels")
    @classmethod
    def _labels_differ(cls, labels: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if labels and len(set(labels)) < len(labels):
            raise PydanticCustomError("labels", "a label appears twice")
        return labels


class ClassificationTask(HeadTask):
    """One label for a text or a pair of texts.

    `labels` are the declared ones, in the model's order; left empty, the data's own are taken, sorted. Without
    training, the likelihoods of the labels' words (`label_words`, the verbalizer; by default the labels themselves) are
    compared after `question`: by default the prompt, and a line "Label:" where it does not end with words of its own. A
    model is trained on the same question, unless the user gives a prompt (`reads_question`). A training also sets
    `labels_declared`.
    """

    columns: ClassVar[Mapping[str, str]] = {"text": "text", LABEL: LABEL}
    target: ClassVar[str] = LABEL
    labels: tuple[str, ...] = ()
    labels_declared: bool = True
    question: str | None = None
    reads_question: bool = True
    label_words: Mapping[str, str] = MappingProxyType({})
    metrics: Sequence[str] = ("accuracy", "macro_f1", "micro_f1", "mcc", "ece")
    best_metric: str = "accuracy"
    learner: ClassVar[str | None] = "classification"
    has_confusion_matrix: ClassVar[bool] = True
    is_stratified: ClassVar[bool] = True
    compares_labels: ClassVar[bool] = True
    Options: ClassVar[type[TaskOptions]] = ClassificationOptions

    def configured(self, options: TaskOptions) -> Self:
        """Return this task with its options applied; a prompt that is given takes the question's place."""
        task = super().configured(options)
        task.reads_question = self.reads_question and getattr(options, "prompt", None) is None
        return task

    def trained_prompt(self, inputs: Mapping[str, str]) -> str:
        """Return the question, where it asks about these texts, or else the prompt."""
        asked = self._asked(inputs)
        return asked if self.reads_question and {*prompt_fields(asked)} == {*inputs} else self.prompt_for(inputs)

    @property
    def label_follows(self) -> bool:
        """Whether a label's word can follow what a trained model reads, which then ends with words of the prompt."""
        return ends_with_words(self.trained_prompt(dict.fromkeys(self.inputs, "")))

    def read_target(self, row: Row, column: str) -> str:
        """Return the label as the data writes it."""
        return label_text(row.values.get(column), row.where, column)

    def fit(self, train: TrainingExamples, where: str) -> Self:
        """Take the labels that the training data hold, and the fields that they are read by.

        All observed labels declared: the declared ones are used. None declared: the data's own, sorted (numbers by
        value). Whole numbers index the declared ones. Where only some are declared, rows of the others cannot be used.
        Raises DataError where there is a single one.
        """
        observed = list(train.observed)
        if self.normalize_labels:
            observed = list(dict.fromkeys(most_frequent_spellings(train.observed, self.labels).values()))
        meaning = self._meaning(observed, where)
        task = super().fit(train, where)
        if not set(meaning.values()) <= set(self.labels):
            task.labels, task.labels_declared = tuple(sorted(set(meaning.values()), key=by_value)), False
        if len(set(meaning.values())) < 2:
            for label in observed:
                if label not in meaning:
                    self.normalize_label(label, where)  # raises
            raise DataError(
                f"{where}: every row has the label '{next(iter(meaning))}'",
                "A classifier needs rows of at least two labels.",
            )
        return task

    def normalize_label(self, target: str, where: str) -> str:
        """Return the label that a label of the data means: itself, or of declared ones the one at its place.

        Raises DataError for one the model does not know.
        """
        same = known_label(target, self.labels, normalized=self.normalize_labels)
        if same is not None:
            return same
        number = place_of(TRUTH.get(target.lower(), target))
        numbered = number is not None and all(place_of(label) is None for label in self.labels)
        if numbered and self.labels_declared and number is not None and number < len(self.labels):
            return self.labels[number]
        near = get_close_matches(target, self.labels, n=1)
        hint = "Fix the row, or train on data that holds this label."
        if self.labels_declared:
            hint = "Fix the row, or name this label too (--labels; without training --option labels=LABEL)."
        if near:
            hint = f"Did you mean '{near[0]}'?"
        if numbered:
            hint = (
                f"Numbers count them from 0 to {len(self.labels) - 1}; other labels must be trained, with --labels."
                if self.labels_declared
                else "Write the labels by their names: the model was trained on those, in no order that numbers follow."
            )
        raise DataError(f"{where}: label '{target}' is not one of {', '.join(self.labels)}", hint)

    def target_names(self, known: Iterable[str]) -> tuple[str, ...]:
        """Return the labels in the model's order."""
        return self.labels

    def plain(self, prediction: Prediction) -> str:
        """Return the label."""
        return prediction.label

    def score(self, example: Example, prediction: Prediction) -> Mapping[str, Statistic]:
        """Return whether the label is right; micro F1 equals accuracy where each example has one label."""
        right = Statistic(float(prediction.label == example.target))
        return {"accuracy": right, "micro_f1": right}

    def decisions(self, example: Example, prediction: Prediction) -> Iterable[tuple[str | None, str | None]]:
        """Return the right label and the one given."""
        return ((example.target, prediction.label),)

    def probability(self, prediction: Prediction) -> float | None:
        """Return the probability of the label."""
        return prediction.probabilities[prediction.label]

    def predictions(self, probabilities: numpy.ndarray) -> list[Prediction]:
        """Return predictions for probabilities `[n, labels]`."""
        return [
            Prediction(self.labels[row.argmax()], dict(zip(self.labels, row.tolist(), strict=True)))
            for row in probabilities
        ]

    def to_json(self, prediction: Prediction) -> dict[str, Any]:
        """Return the label and the probability of every one."""
        return labels_to_json(prediction.label, prediction.probabilities)

    def line(self, example: Example, prediction: Prediction) -> Mapping[str, Any]:
        """Return the texts, the right label, the one given and the probabilities of the 100 most probable ones."""
        return {**self.record(example), "label": example.target, **most_probable(self.to_json(prediction))}

    def table_row(self, text: str, prediction: Prediction) -> Mapping[str, str]:
        """Return label, probability and text."""
        probability = prediction.probabilities[prediction.label]
        return {"label": prediction.label, "probability": f"{probability:.1%}", "text": text}

    def card(self) -> TaskCard:
        """Return what a model card says of labels."""
        return TaskCard(
            answers="label",
            does=f"answers {{task}} with one of {len(self.labels)} labels",
            limits=(
                f"It knows {len(self.labels)} labels and gives one of them to any text, also to one that fits none.",
                "Its probabilities are those of the softmax, uncorrected; `ece` above says how far to trust them.",
            ),
            baselines="The baselines were trained on the same rows: one always gives the most frequent label, the "
            "other is a logistic regression on TF-IDF. ",
            headline="accuracy",
            saved="the head (`head.safetensors`) and the task with its labels",
        )

    def fixtures(self) -> Fixtures:
        """A sure answer of the right label, and rows of made-up texts."""
        return replace(
            super().fixtures(),
            gold=lambda example: Prediction(
                str(example.target), {label: float(label == example.target) for label in self.labels}
            ),
            row=self._made_up_row,
            target_labels=lambda row: {str(row.values.get(self.target_column({})))},
        )

    def state(self) -> dict[str, Any]:
        """Save whether the labels are the task's own, and what the model was asked, too."""
        asked = {"question": self.question, "reads_question": self.reads_question}
        return {"labels_declared": self.labels_declared, **asked, **super().state()}

    def restored(self, state: Mapping[str, Any]) -> Self:
        """Return this task as it was; runs from before models were trained on the question read the prompt."""
        return super().restored({"reads_question": False, **state})

    # Zero- and few-shot evaluation.

    @property
    def suite_metrics(self) -> Sequence[str]:
        """The accuracy."""
        return ("accuracy",)

    def prompted(self, prompt: str | None, verbalizer: Mapping[str, str]) -> Self:
        """Return this task with another `question` (None leaves it unchanged), and other words for some labels.

        Raises UsageError for a question that names no field, or one that the task does not have.
        """
        if prompt is not None:
            known = [name for name in self.columns if name != self.target]
            known += distinct_fields(self.prompt, *filter(None, [self.pair_prompt]))
            if not fields_of_question(prompt, list(dict.fromkeys(known))):
                raise UsageError(
                    f"--question {prompt!r} names no field, so that every text would be asked about in the same words",
                    f"Name one in braces: {', '.join(f'{{{name}}}' for name in dict.fromkeys(known))}.",
                )
        task = copy.copy(self)
        task.question = self.question if prompt is None else prompt
        task.label_words = {**self.label_words, **verbalizer}
        return task

    def check_question(self, fields: Sequence[str]) -> None:
        """Raise UsageError where the question or the words do not fit the labels and the data's fields."""
        odd = [label for label in self.label_words if label not in self.labels]
        if odd:
            raise UsageError(
                f"--label-word {odd[0]}={self.label_words[odd[0]]} is for a label '{odd[0]}', which does not exist",
                f"There are {', '.join(self.labels)}.",
            )
        fields_of_question(self.question or "", fields)
        words = [self.word(label) for label in self.labels]
        for label, word in self.label_words.items():
            if words.count(word) > 1:
                raise UsageError(
                    f"--label-word {label}={word}: Two labels have the same word '{word}'",
                    "Give each label a different word.",
                )

    def requests(self, example: Example, context: str) -> list[Request]:
        """Request the likelihood of every label's word after the texts."""
        asked = context + self._question(example.inputs)
        return [Continuation(asked, f" {self.word(label)}") for label in self.labels]

    def prediction(self, example: Example, responses: Sequence[Response]) -> Prediction:
        """Return the label whose word is likeliest; the probabilities are those of the words, normalized."""
        values = [response.value for response in responses if isinstance(response, LogLikelihood)]
        return Prediction(self.labels[values.index(max(values))], dict(zip(self.labels, softmax(values), strict=True)))

    def fewshot_example(self, example: Example) -> str:
        """Return the question about an example with the right label's word after it."""
        return f"{self._question(example.inputs)} {self.word(str(example.target))}"

    def word(self, label: str) -> str:
        """Return the word for a label in zero-shot evaluation."""
        return self.label_words.get(label, label)

    def _question(self, inputs: Mapping[str, str]) -> str:
        return self._asked(inputs).format_map(inputs)

    def _asked(self, inputs: Mapping[str, str]) -> str:
        """Return the question about these texts, as a format string."""
        if self.question is not None:
            return self.question
        prompt = self.prompt_for(inputs).replace(DELIMITER, "\n")
        return prompt if ends_with_words(prompt) else f"{prompt}\nLabel:"

    def _made_up_row(self, number: int) -> Mapping[str, Any]:
        texts = dict.fromkeys(prompt_fields(self.prompt), SENTENCES[number % len(SENTENCES)][0])
        labels = self.labels or ("first", "second")
        values = {**texts, self.target: labels[number % 4 % len(labels)]}
        return {self.columns.get(field, field): value for field, value in values.items()}

    def _meaning(self, observed: Collection[str], where: str) -> dict[str, str]:
        if not self.labels:
            refuse_two_readings(observed, where)
        if any(known_label(label, self.labels, normalized=self.normalize_labels) is not None for label in observed):
            return self._readable(observed)
        if all(label.lower() in TRUTH for label in observed) and not self.labels:
            return {label: label.lower() for label in observed}
        if self.labels and all(place_of(TRUTH.get(label.lower(), label)) is not None for label in observed):
            if not any(label == "0" or label.lower() in TRUTH for label in observed) and len(self.labels) > 2:
                raise DataError(
                    f"{where}: its labels are {', '.join(sorted(observed, key=by_value))}, with no 0 among them: they "
                    f"may count {', '.join(self.labels)} from 0 or from 1",
                    f"Write the labels by their names, or give those of the data: {_LABELS}.",
                )
            return self._readable(observed)
        odd = [label for label in observed if isinstance(from_cell(label), list)]
        if odd:
            raise DataError(
                f"{where}: the label {odd[0][:60]!r} is a list", "Several labels a row are for the task multi-label."
            )
        return {label: label for label in observed}

    def _readable(self, observed: Collection[str]) -> dict[str, str]:
        """Return what those labels mean that are, or count, declared ones."""
        found = {}
        for label in observed:
            with suppress(DataError):
                found[label] = self.normalize_label(label, "")
        return found
