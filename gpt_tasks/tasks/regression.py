"""Regression: a number for a text, or for a pair of texts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

from gpt_tasks.errors import DataError
from gpt_tasks.extensions import Metric
from gpt_tasks.metrics.aggregate import pearson, spearman
from gpt_tasks.tasks.base import TrainingExamples
from gpt_tasks.tasks.card import Display, TaskCard
from gpt_tasks.tasks.fixtures import SENTENCES, Fixtures
from gpt_tasks.tasks.headed import HeadTask
from gpt_tasks.tasks.prompts import prompt_fields
from gpt_tasks.tasks.reading import number_of
from gpt_tasks.types import Example, Row, Statistic

SCORE = "score"


class RegressionTask(HeadTask):
    """A number for a text or a pair of texts.

    The head learns it as a deviation from the training data's `mean`, in their standard deviations (`std`), by its
    squared error.
    """

    columns: ClassVar[Mapping[str, str]] = {"text": "text", SCORE: SCORE}
    target: ClassVar[str] = SCORE
    mean: float = 0.0
    std: float = 1.0
    metrics: Sequence[str] = ("pearson", "spearman", "rmse")
    own_metrics: Sequence[Metric] = (
        pearson(),
        spearman(),
        Metric("rmse", "Root mean squared error.", "lower", (0.0, math.inf), aggregate="root"),
    )
    best_metric: str = "pearson"
    learner: ClassVar[str | None] = "regression"

    def read_target(self, row: Row, column: str) -> str:
        """Return the number as a text."""
        value: Any = row.values.get(column)
        number = number_of(value)
        if number is None:
            raise DataError(
                f"{row.where}: the {self.target} (column '{column}') is {str(value)[:60]!r}, which is no number",
                "Give every row a number, or leave the row out.",
            )
        return repr(number)

    def fit(self, train: TrainingExamples, where: str) -> Self:
        """Take the mean and the standard deviation of the training data."""
        task = super().fit(train, where)
        total = sum(train.observed.values())
        task.mean = math.fsum(float(number) * count for number, count in train.observed.items()) / total
        squares = math.fsum((float(number) - task.mean) ** 2 * count for number, count in train.observed.items())
        task.std = math.sqrt(squares / total)
        if not task.std:
            raise DataError(
                f"{where}: every row has the {self.target} {task.mean:g}", "There must be something to learn."
            )
        return task

    def references(self, example: Example) -> Sequence[float]:
        """Return the right number."""
        return (float(str(example.target)),)

    def line(self, example: Example, prediction: float) -> Mapping[str, Any]:
        """Return the texts, the right number as the data write it, and the one given."""
        return {**self.record(example), "references": [example.target], **self.to_json(prediction)}

    def display(self, example: Example, prediction: float) -> Display:
        """Return the texts, the right number as the data write it, and the one given."""
        return dict(example.inputs), (str(example.target),), self.to_text(prediction)

    def score(self, example: Example, prediction: float) -> Mapping[str, Statistic]:
        """Compare the number with the right one."""
        (right,) = self.references(example)
        return {
            "pearson": Statistic((right, prediction)),
            "spearman": Statistic((right, prediction)),
            "rmse": Statistic((prediction - right) ** 2),
        }

    def card(self) -> TaskCard:
        """Return what a model card says of numbers."""
        return TaskCard(
            answers="number",
            does="answers {task} with a number",
            limits=("It gives a number to any text, also to one unlike its training data.",),
            baselines="The baselines were trained on the same rows: one always gives their mean, the other is a ridge "
            "regression on TF-IDF. ",
        )

    def fixtures(self) -> Fixtures:
        """The right number, and rows of made-up texts."""

        def row(number: int) -> Mapping[str, Any]:
            texts = dict.fromkeys(prompt_fields(self.prompt), SENTENCES[number % len(SENTENCES)][0])
            values = {**texts, self.target: float(number % 4)}
            return {self.columns.get(field, field): value for field, value in values.items()}

        return replace(super().fixtures(), gold=lambda example: float(str(example.target)), row=row)

    def state(self) -> dict[str, Any]:
        """Save the mean and the standard deviation."""
        return {"mean": self.mean, "std": self.std, **super().state()}
