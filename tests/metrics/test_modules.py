"""Metrics as modules of the evaluate library: right figures, no hub, no files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score, log_loss

from gpt_tasks.extensions import Metric, Rows
from gpt_tasks.metrics import METRICS
from gpt_tasks.metrics.modules import as_evaluate_module
from gpt_tasks.types import Statistic

REFERENCES = [0, 1, 1, 0]
PROBABILITIES = [[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.6, 0.4]]

PROGRAM = """
import numpy
from gpt_tasks.extensions import Metric, Rows
from gpt_tasks.metrics import METRICS
from gpt_tasks.metrics.modules import as_evaluate_module
from gpt_tasks.types import Statistic
mine = Metric("mine", "A plugin's.", whole=lambda rows: 0.25)
for metric in (*METRICS, mine):
    module = as_evaluate_module(metric, ("a", "b"))
    module.add_batch(predictions=[[0.9, 0.1]], references=[0])
    module.add(prediction=[0.4, 0.6], reference=1)
    print(metric.name, module.compute()[metric.name])
"""


def named(references: np.ndarray, predictions: np.ndarray, probabilities: np.ndarray) -> Rows:
    return Rows(["ab"[index] for index in references], ["ab"[index] for index in predictions], "ab", probabilities)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_module_computes_what_the_function_does(metric: Metric) -> None:
    probabilities = np.array(PROBABILITIES)
    rows = named(np.array(REFERENCES), probabilities.argmax(1), probabilities)
    if metric.whole is not None:
        expected = metric.whole(rows)
    else:
        expected = np.mean(np.array(REFERENCES) == probabilities.argmax(1))
    module = as_evaluate_module(metric, ("a", "b"))
    assert module.name == metric.name
    assert module.compute(predictions=PROBABILITIES, references=REFERENCES) == {metric.name: pytest.approx(expected)}
    for row, reference in zip(PROBABILITIES, REFERENCES, strict=True):
        module.add(prediction=row, reference=reference)
    assert module.compute() == {metric.name: pytest.approx(expected)}


def test_label_indices_will_do_where_no_probabilities_are_read() -> None:
    kappa = Metric("kappa", "Cohen's kappa.", whole=lambda rows: float(cohen_kappa_score(*rows.codes)))
    module = as_evaluate_module(kappa, ("a", "b"))
    assert module.compute(predictions=[0, 1, 0, 0], references=REFERENCES) == {"kappa": pytest.approx(0.5)}


def test_a_metric_that_is_no_mean_of_its_statistics_is_aggregated_as_it_says() -> None:
    rate = Metric(
        "error_odds",
        statistic=lambda answer, references: Statistic((float(answer not in references), 1.0), weight=2.0),
        aggregate=lambda sums, weights: sums[..., 0] / (sums[..., 1] - sums[..., 0]),
    )
    module = as_evaluate_module(rate, ("a", "b"))
    assert module.compute(predictions=[0, 1, 0, 0], references=REFERENCES) == {"error_odds": pytest.approx(1 / 3)}


def test_a_metric_that_only_its_task_can_compute_is_refused() -> None:
    with pytest.raises(ValueError, match="'lrap' is computed by its task alone"):
        as_evaluate_module(Metric("lrap"), ("a", "b"))


def test_label_indices_are_never_taken_for_probabilities() -> None:
    ece = next(metric for metric in METRICS if metric.name == "ece")
    with pytest.raises(ValueError, match="'ece' reads probabilities: give rows of 2"):
        as_evaluate_module(ece, ("a", "b")).compute(predictions=[0, 1], references=[0, 0])
    loss = Metric(
        "log_loss", whole=lambda rows: float(log_loss(rows.codes[0], rows.probabilities, labels=[0, 1])), better="lower"
    )
    with pytest.raises(ValueError, match="NaN"):
        as_evaluate_module(loss, ("a", "b")).compute(predictions=[0, 1], references=[0, 0])


def test_nothing_is_fetched_and_nothing_written(tmp_path: Path) -> None:
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(home), "HOME": str(home), "PYTHONPATH": root}
    for variable in ("HF_METRICS_CACHE", "HF_EVALUATE_CACHE", "HF_MODULES_CACHE", "XDG_CACHE_HOME"):
        environment.pop(variable, None)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, cwd=work, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[0] == "accuracy 1.0"
    assert done.stdout.splitlines()[-1] == "mine 0.25"
    assert [*home.rglob("*"), *work.rglob("*")] == []
