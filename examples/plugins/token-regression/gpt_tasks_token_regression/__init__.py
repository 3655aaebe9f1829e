"""A number for every word of a text: here, how pleasant or unpleasant the word is in its context."""

import copy
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import Any, Self

from gpt_tasks import (
    DataError,
    Example,
    Fixtures,
    HeadSpec,
    LearnerSpec,
    Metric,
    Row,
    Statistic,
    Task,
    TaskCard,
    TrainingExamples,
    extra_columns,
    hookimpl,
)

GPT_TASKS_HOOKS = 1
TOKENS, SCORES = "tokens", "scores"
_LEARNER = "gpt_tasks_token_regression.learner"


class TokenRegression(Task):
    """Give every word of a text a number."""

    name = "token-regression"
    columns = {TOKENS: TOKENS}
    target = SCORES
    prompt = "{tokens}"
    learner = "token-regression"
    head = "word"
    mean = 0.0
    std = 1.0
    metrics = ("rmse", "pearson")
    own_metrics = (
        Metric("rmse", "Root mean squared error over words.", "lower", (0.0, math.inf), aggregate="root"),
        Metric("pearson", "Pearson's correlation over words.", range=(-1.0, 1.0), aggregate="correlation"),
    )
    best_metric = "rmse"

    def example(self, row: Row, columns: Mapping[str, str], extra: Sequence[str] = ()) -> Example:
        """Read the words, a list or a text with spaces between them; the target is their numbers as JSON."""
        words = row.values.get(columns[TOKENS])
        words = words.split() if isinstance(words, str) else words
        if not (isinstance(words, list) and words and all(isinstance(w, str) and w.split() == [w] for w in words)):
            raise DataError(f"{row.where}: '{columns[TOKENS]}' holds no list of words", "Give words, each as a text.")
        target = None if SCORES not in columns else self._target(row, columns[SCORES], len(words))
        return Example({TOKENS: " ".join(words)}, target, row.where, extra_columns(row, extra))

    def _target(self, row: Row, column: str, words: int) -> str:
        try:
            scores = [float(score) for score in row.values.get(column) or ()]
        except (TypeError, ValueError):
            scores = []
        if len(scores) != words or not all(map(math.isfinite, scores)):
            raise DataError(f"{row.where}: '{column}' holds no list of {words} numbers", "Give every word a number.")
        return json.dumps(scores)

    def fit(self, train: TrainingExamples, where: str) -> Self:
        """Take the mean and the standard deviation of the training data's numbers."""
        task = copy.copy(self)
        scores = [score for target, count in train.observed.items() for score in json.loads(target) * count]
        task.mean = math.fsum(scores) / len(scores)
        task.std = math.sqrt(math.fsum((score - task.mean) ** 2 for score in scores) / len(scores))
        if not task.std:
            raise DataError(f"{where}: every word has the number {task.mean:g}", "There must be something to learn.")
        return task

    def references(self, example: Example) -> list[list[float]]:
        return [json.loads(str(example.target))]

    def score(self, example: Example, prediction: Sequence[float]) -> Mapping[str, Statistic]:
        """Contribute means over the words, by their number: of squared errors, and a correlation's moments."""
        pairs = [(x - self.mean, y - self.mean) for x, y in zip(*self.references(example), prediction, strict=True)]
        moments = [(x, y, x * x, y * y, x * y) for x, y in pairs]
        means = tuple(math.fsum(column) / len(pairs) for column in zip(*moments, strict=True))
        error = math.fsum((x - y) ** 2 for x, y in pairs) / len(pairs)
        return {"rmse": Statistic(error, len(pairs)), "pearson": Statistic(means, len(pairs))}

    def to_json(self, prediction: Sequence[float]) -> dict[str, Any]:
        return {"predicted": [round(number, 6) for number in prediction]}

    def card(self) -> TaskCard:
        return TaskCard(
            answers="numbers",
            does="answers {task} with a number for every word",
            baselines="The baseline gives each word the mean of the training data. ",
            pipeline_tag="token-classification",
        )

    def fixtures(self) -> Fixtures:
        """Return the right numbers, wrong ones, the opposite numbers of a row, and a longer text."""

        def gold(example: Example, sign: int = 1) -> list[float]:
            return [sign * score for score in self.references(example)[0]]

        def retarget(row: Row, other: Row, columns: Mapping[str, str]) -> Row:
            scores = [-1 - score for score in row.values[columns[SCORES]]]
            return Row({**row.values, columns[SCORES]: scores}, row.where)

        def lengthen(example: Example) -> Example:
            words, target = " ".join([example.inputs[TOKENS]] * 8), json.dumps(gold(example) * 8)
            return replace(example, inputs={TOKENS: words}, target=target)

        return Fixtures(gold=gold, wrong=partial(gold, sign=-1), retarget=retarget, lengthen=lengthen)

    def state(self) -> dict[str, Any]:
        return {"mean": self.mean, "std": self.std, **super().state()}


@hookimpl
def register_tasks() -> Sequence[TokenRegression]:
    return [TokenRegression()]


@hookimpl
def register_heads() -> Sequence[HeadSpec]:
    says = "Numbers for every token, by a separate layer."
    return [HeadSpec("word", says, lambda hidden, outputs: import_module(_LEARNER).WordHead(hidden, outputs))]


@hookimpl
def register_learners() -> Sequence[LearnerSpec]:
    says = "A number for every word, learned on its last token."
    return [LearnerSpec("token-regression", says, lambda: import_module(_LEARNER).TokenRegressionLearner)]
