"""A model that is no better than a baseline says so, and what to try; paired examples tell whether it is better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from gpt_tasks.evaluation.evaluate import evaluate
from gpt_tasks.evaluation.report import Report
from gpt_tasks.extensions import Metric
from gpt_tasks.metrics import METRICS
from gpt_tasks.tasks.base import Task
from gpt_tasks.tasks.classification import ClassificationTask
from gpt_tasks.tasks.regression import RegressionTask
from gpt_tasks.types import Example, Prediction


class Taste(ClassificationTask):
    """Tell how something tastes."""

    name = "taste"
    labels = ("bad", "good")


class Stars(RegressionTask):
    """Tell how many stars a review gives."""

    name = "stars"


class Both:
    """A model and its baselines, whose answers are given in the order of the examples."""

    chunk = 1000

    def __init__(self, task: Task, answers: Sequence[Any], **baselines: Sequence[Any]) -> None:
        self.task = task
        self.answers = answers
        self.compared = baselines

    def predict(self, examples: Sequence[Example], *, scored: bool = False) -> Sequence[Any]:
        return self.answers

    def baselines(self, examples: Sequence[Example]) -> Mapping[str, Sequence[Any]]:
        return self.compared

    def notes(self) -> Sequence[str]:
        return ()


def made(right: Sequence[bool], training: Mapping[str, int] | None = None, **baselines: Sequence[bool]) -> Report:
    examples = [Example({"text": f"No. {place}"}, "good", f"a:{place}") for place in range(len(right))]

    def answers(some: Sequence[bool]) -> list[Prediction]:
        return [Prediction("good" if each else "bad", {"bad": 0.5, "good": 0.5}) for each in some]

    predictor = Both(Taste(), answers(right), **{name: answers(some) for name, some in baselines.items()})
    return evaluate(predictor, examples, split="test", metrics=METRICS, training=training)


def first(share: float, n: int = 100) -> list[bool]:
    """The first so many of the answers are right."""
    return [place < share * n for place in range(n)]


def test_a_model_at_chance_says_so_and_what_to_try() -> None:
    found = made(first(0.5), {"updates": 29}, majority=first(0.5), tfidf_logistic_regression=first(0.9))
    assert found.verdict.startswith(
        "The model is no better than its baseline (TF-IDF + log. regr.): accuracy 0.500 [0.404, 0.596] against 0.900. "
    )
    assert "It had 29 updates: try more --epochs" in found.verdict
    assert "--backbone" in made(first(0.5), {"updates": 2000}, majority=first(0.5)).verdict
    assert "--shots" in made(first(0.5), majority=first(0.5)).verdict
    assert Report.from_json(found.to_json()).verdict == found.verdict


def test_a_better_model_says_nothing() -> None:
    assert made(first(0.8), majority=first(0.5), tfidf_logistic_regression=first(0.6)).verdict == ""
    assert made(first(0.8)).verdict == ""


def test_where_nothing_could_be_better_other_rows_are_advised() -> None:
    assert made(first(1.0), {"updates": 2000}, majority=first(1.0)).verdict.endswith(
        "Nothing could be: more test rows, or harder ones, would tell them apart."
    )


def test_examples_are_paired_so_that_a_small_gain_counts_and_one_by_chance_does_not() -> None:
    # Within the model's own interval in both cases; the same eight more are right, or 28 more and 20 fewer.
    paired = made(first(0.58), majority=first(0.5))
    assert paired.metrics["accuracy"].low < 0.5
    assert paired.verdict == ""
    apart = [place < 30 or 50 <= place < 78 for place in range(100)]
    assert "against 0.500" in made(apart, majority=first(0.5)).verdict


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_of_a_figure_that_is_better_lower_less_is_better(factor: float) -> None:
    random = np.random.default_rng(0)
    right, errors = random.normal(3, 1, 80), random.normal(size=80)
    examples = [Example({"text": str(place)}, repr(value), f"a:{place}") for place, value in enumerate(right.tolist())]
    rmse = [metric for metric in Stars().own_metrics if metric.name == "rmse"]
    predictor = Both(Stars(), (right + factor * errors).tolist(), mean=(right + errors).tolist())
    found = evaluate(predictor, examples, split="test", metrics=rmse)
    assert bool(found.verdict) == (factor > 1)


def test_a_metric_that_is_no_mean_goes_by_its_own_interval() -> None:
    def share(rows: Any) -> float:
        return float(np.mean([given == "good" for given in rows.predictions]))

    examples = [Example({"text": f"No. {place}"}, "good", f"a:{place}") for place in range(100)]
    answers = {
        share: [Prediction("good" if each else "bad", {"bad": 0.5, "good": 0.5}) for each in first(share)]
        for share in (0.5, 0.58, 0.8)
    }
    for ours, is_better in ((0.58, False), (0.8, True)):
        predictor = Both(Taste(), answers[ours], majority=answers[0.5])
        found = evaluate(predictor, examples, split="test", metrics=[Metric("mine", whole=share)])
        assert bool(found.verdict) == (not is_better)
