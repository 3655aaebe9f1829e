"""Numbers: read strictly, learned in standard deviations, measured as scipy measures them."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from gpt_tasks.errors import DataError
from gpt_tasks.metrics.figures import figure
from gpt_tasks.tasks.regression import RegressionTask
from gpt_tasks.types import Example, Row


class Stars(RegressionTask):
    name = "stars"


@pytest.mark.parametrize(("value", "read"), [(3, "3.0"), (2.5, "2.5"), ("-1e3", "-1000.0"), (" 4 ", "4.0")])
def test_a_score_is_a_number_however_it_is_written(value: object, read: str) -> None:
    assert Stars().read_target(Row({"score": value}, "file:1"), "score") == read


@pytest.mark.parametrize("value", [None, "", "three", "nan", float("inf"), True, [3]])
def test_what_is_no_number_names_the_row(value: object) -> None:
    with pytest.raises(DataError, match=r"file:1: the score \(column 'score'\) is .*, which is no number"):
        Stars().read_target(Row({"score": value}, "file:1"), "score")


def seen(observed: Mapping[str, int]) -> Any:
    """Training data, as `fit` sees them."""
    return SimpleNamespace(fields=("text",), observed=observed)


def test_the_mean_and_the_standard_deviation_are_those_of_the_training_data() -> None:
    task = Stars().fit(seen({"1.0": 1, "3.0": 2, "5.0": 1}), "file")
    assert (task.mean, task.std) == (3.0, pytest.approx(2**0.5))
    assert (Stars.mean, Stars.std) == (0.0, 1.0)
    again = Stars().restored(task.state())
    assert (again.mean, again.std, again.inputs) == (task.mean, task.std, ("text",))
    older = Stars().restored({"centre": 3.0, "spread": 2.0})
    assert (older.mean, older.std) == (3.0, 2.0)
    with pytest.raises(DataError, match="file: every row has the score 2"):
        Stars().fit(seen({"2.0": 5}), "file")


@pytest.mark.parametrize("far", [0.0, 1e6])
def test_the_figures_are_those_of_scipy(far: float) -> None:
    random = np.random.default_rng(1)
    right = random.integers(0, 6, 80) + far
    given = right + random.normal(size=80)
    scores = [
        Stars().score(Example({"text": "a"}, repr(float(x)), ""), float(y)) for x, y in zip(right, given, strict=True)
    ]
    found = {metric.name: figure(metric, [each[metric.name] for each in scores]) for metric in Stars.own_metrics}
    assert found["pearson"].value == pytest.approx(stats.pearsonr(right, given).statistic, abs=1e-9)
    assert found["spearman"].value == pytest.approx(stats.spearmanr(right, given).statistic, abs=1e-9)
    assert found["rmse"].value == pytest.approx(float(np.sqrt(np.mean((right - given) ** 2))))
    expected = stats.pearsonr(right, given).confidence_interval()
    assert (found["pearson"].low, found["pearson"].high) == pytest.approx((expected.low, expected.high), abs=0.05)


def test_one_number_for_all_has_no_correlation() -> None:
    scores = [Stars().score(Example({"text": "a"}, repr(x), ""), 2.0) for x in (1.0, 2.0, 4.0)]
    pearson = Stars.own_metrics[0]
    assert np.isnan(figure(pearson, [each["pearson"] for each in scores]).value)
