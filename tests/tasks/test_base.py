"""What every task can do: what a prediction contributes to metrics, and how an answer is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pytest

from gpt_tasks.errors import PluginError, UsageError
from gpt_tasks.evaluation.statistics import Tally
from gpt_tasks.extensions import Metric, Rows
from gpt_tasks.metrics.aggregate import as_statistic
from gpt_tasks.metrics.classification import is_right
from gpt_tasks.tasks.base import Task
from gpt_tasks.types import Example, LogLikelihood, Row, Statistic, TextPrediction


class Echo(Task):
    """Say it again.

    Twice, if need be.
    """

    name = "echo"
    columns: ClassVar = {"text": "text"}
    prompt = "{text}"
    metrics = ("length", "accuracy")
    own_metrics: Sequence[Metric] = (
        Metric("length", statistic=lambda answer, references: len(answer)),
        Metric("counts", aggregate="micro_f1", statistic=lambda answer, references: Statistic((1.0, 0.0, 2.0))),
        Metric("of_all", whole=lambda rows: 0.5),
    )

    def fields(self, available: Sequence[str], mapping: Mapping[str, str], where: str) -> dict[str, str]:
        return {"text": "text"}

    def example(self, row: Row, columns: Mapping[str, str], extra: Sequence[str] = ()) -> Example:
        text = str(row.values["text"])
        return Example({"text": text}, text, row.where)


EXAMPLE = Echo().example(Row({"text": "one"}, "r:1"), {"text": "text"})
ACCURACY = Metric("accuracy", statistic=is_right)


def test_a_task_scores_by_its_own_metrics_and_by_others_that_have_a_statistic() -> None:
    task = Echo()
    assert task.score(EXAMPLE, "four") == {"length": Statistic(4.0), "counts": Statistic((1.0, 0.0, 2.0))}
    nothing = Metric("nothing")
    found = task.contributions([task.own_metrics[0], ACCURACY, nothing, task.own_metrics[2]], EXAMPLE, "one")
    assert found == {"length": Statistic(3.0), "accuracy": Statistic(1.0)}
    assert task.contributions([ACCURACY], EXAMPLE, "two") == {"accuracy": Statistic(0.0)}


def test_what_the_task_says_of_a_metric_comes_before_what_the_metric_says() -> None:
    class Strict(Echo):
        """Say it again, exactly."""

        def score(self, example: Example, prediction: Any) -> Mapping[str, Statistic]:
            return {"accuracy": Statistic(0.25, weight=2.0)}

    assert Strict().contributions([ACCURACY], EXAMPLE, "one") == {"accuracy": Statistic(0.25, weight=2.0)}


def test_metrics_get_what_the_task_compares() -> None:
    class Loud(Echo):
        """Say it louder."""

        def compared(self, example: Example, prediction: Any) -> tuple[str, list[str]]:
            return prediction.upper(), ["ONE", "TWO"]

    seen: list[Any] = []
    metric = Metric("seen", statistic=lambda answer, references: seen.append((answer, references)) or 1.0)
    Loud().contributions([metric], EXAMPLE, "one")
    assert seen == [("ONE", ["ONE", "TWO"])]


def test_a_metric_that_fails_is_named_with_the_answer() -> None:
    def fail(answer: str, references: Sequence[str]) -> float:
        raise KeyError("nothing")

    with pytest.raises(PluginError, match="The metric 'mine' failed on 'one': KeyError: 'nothing'") as raised:
        Echo().contributions([Metric("mine", statistic=fail)], EXAMPLE, "one")
    assert raised.value.hint

    def refuse(answer: str, references: Sequence[str]) -> float:
        raise UsageError("Not so.", "Otherwise.")

    with pytest.raises(UsageError, match="Not so"):
        Echo().contributions([Metric("mine", statistic=refuse)], EXAMPLE, "one")


@pytest.mark.parametrize("value", ["1", None, (1.0, 2.0)])
def test_what_is_no_statistic_is_reported(value: Any) -> None:
    with pytest.raises(PluginError, match=r"metric 'mine' got .* and wants a Statistic"):
        Echo().contributions([Metric("mine", statistic=lambda answer, references: value)], EXAMPLE, "one")


def test_a_number_is_a_statistic_but_where_counts_are_aggregated() -> None:
    assert as_statistic(Metric("mine"), True) == Statistic(1.0)
    assert as_statistic(Metric("mine", aggregate="root"), np.float64(0.5)) == Statistic(0.5)
    assert as_statistic(Metric("mine", aggregate=lambda sums, weights: sums[..., 0]), 2) == Statistic(2.0)
    with pytest.raises(TypeError, match=r"'mine' got 0\.5 from its statistic"):
        as_statistic(Metric("mine", aggregate="bleu"), 0.5)


@pytest.mark.parametrize("chunks", [["ab"], ["aa", "b"], ["b", "aa"]])
def test_a_task_must_score_all_examples_by_the_same_metrics(chunks: list[str]) -> None:
    class Picky(Echo):
        """Score an a, and nothing else."""

        def score(self, example: Example, prediction: Any) -> Mapping[str, Statistic]:
            return {"length": Statistic(1.0)} if prediction == "a" else {}

    def collect() -> None:
        tally = Tally(Picky(), [Metric("length")])
        for chunk in chunks:
            tally.add([EXAMPLE] * len(chunk), chunk)

    with pytest.raises(PluginError, match="'echo' scores only some of its examples by 'length'"):
        collect()


def test_an_answer_is_shown_as_text_and_a_number_shortened() -> None:
    task = Echo()
    assert (task.to_text("one"), task.to_text(""), task.to_text(0.123456)) == ("one", "-", "0.123")
    assert task.to_json(2 / 3) == {"predicted": 0.666667}
    assert task.line(EXAMPLE, "two") == {"text": "one", "references": ["one"], "predicted": "two"}
    assert task.display(EXAMPLE, "two") == ({"text": "one"}, ("one",), "two")
    assert task.table_row("one", "two") == {"answer": "two", "text": "one"}


def test_a_task_without_requests_cannot_be_asked() -> None:
    task = Echo()
    assert not task.can_be_asked
    for ask in (
        lambda: task.requests(EXAMPLE, ""),
        lambda: task.prediction(EXAMPLE, []),
        lambda: task.fewshot_example(EXAMPLE),
        lambda: task.prompted("Well?", {}),
        lambda: task.prompted(None, {"a": "b"}),
    ):
        with pytest.raises(UsageError, match="'echo'"):
            ask()
    assert task.prompted(None, {}) is task


def test_a_written_answer_is_a_text_that_knows_why_it_ended_and_how_likely_the_right_one_is() -> None:
    written = TextPrediction("one", "stop", LogLikelihood(-2.0, False, 3))
    assert written == "one"
    assert written.strip() == "one"
    assert (written.finish_reason, written.log_likelihood) == ("stop", LogLikelihood(-2.0, False, 3))
    plain = TextPrediction("one")
    assert (plain.finish_reason, plain.log_likelihood) == ("", None)


def test_rows_of_texts_are_as_many_as_their_references() -> None:
    assert len(Rows(["a", "b"], ["a", "a"])) == 2
