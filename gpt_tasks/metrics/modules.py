"""Our metrics as modules of the `evaluate` library, without the hub and without files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
import numpy

from gpt_tasks.extensions import Metric, Rows
from gpt_tasks.metrics.figures import value_of
from gpt_tasks.types import Statistic

_INDEX, _NUMBER, _TEXT = (datasets.Value(kind) for kind in ("int64", "float64", "string"))


class MetricModule(evaluate.Metric):  # type: ignore[misc]
    """A metric with the methods of `evaluate.Metric`; made by `as_evaluate_module`."""

    def __init__(self, metric: Metric, labels: Sequence[str] = ()) -> None:
        self.metric = metric
        self.labels = tuple(labels)
        super().__init__(config_name=metric.name, keep_in_memory=True)

    @property
    def name(self) -> str:
        """The metric's name, under which `compute` returns its value."""
        return self.metric.name

    def _info(self) -> evaluate.MetricInfo:
        if self.labels:
            inputs = (
                "References are label indices. Predictions are label indices too, or, for metrics that need them, "
                "the probabilities of all labels, a row for each example."
            )
            forms = [(_INDEX, _INDEX), (datasets.Sequence(_NUMBER), _INDEX)]
        else:
            inputs = "Predictions are texts or numbers, and references too, or lists of texts of which each is right."
            forms = [(_NUMBER, _NUMBER), (_TEXT, datasets.Sequence(_TEXT)), (_TEXT, _TEXT)]
        return evaluate.MetricInfo(
            description=self.metric.description,
            citation="",
            inputs_description=f"\n{inputs}\n",
            features=[datasets.Features({"predictions": given, "references": right}) for given, right in forms],
        )

    def _build_data_dir(self) -> str:
        # The library would make this folder at once, though it stays empty when everything is in memory.
        return str(self._data_dir_root)

    def _compute(self, *, predictions: Any = None, references: Any = None, **_: Any) -> dict[str, float]:
        if self.labels:
            return {self.metric.name: self._of_labels(numpy.asarray(predictions), references)}
        right = [[each] if isinstance(each, str | float) else list(each) for each in references]
        return {self.metric.name: _value(self.metric, Rows(right, list(predictions)))}

    def _of_labels(self, given: numpy.ndarray, references: Any) -> float:
        """Compute the figure of label indices `[n]`, or of probabilities `[n, labels]`."""
        if given.ndim == 2:
            probabilities, chosen = given, given.argmax(axis=1)
        else:
            # NaN, so that a metric which reads probabilities cannot silently take label indices for certainties.
            probabilities, chosen = numpy.full((len(given), len(self.labels)), numpy.nan), given
        answers, right = ([self.labels[index] for index in column] for column in (chosen.tolist(), references))
        value = _value(self.metric, Rows(right, answers, self.labels, probabilities))
        if given.ndim == 1 and math.isnan(value):
            width = len(self.labels)
            raise ValueError(f"'{self.metric.name}' reads probabilities: give rows of {width} of them as predictions")
        return value


def as_evaluate_module(metric: Metric, labels: Sequence[str] = ()) -> evaluate.Metric:
    """Return a metric, a plugin's too, as a module of `evaluate`, with `add_batch` and `compute`.

    `labels` are the names in the model's order, for a metric of one of several labels, whose predictions and references
    are indices. Everything stays in memory; nothing is fetched and nothing written. Raises ValueError for a metric
    that only its task can compute.
    """
    if metric.whole is None and metric.statistic is None and metric.each is None:
        raise ValueError(f"'{metric.name}' is computed by its task alone: it has no statistic(), each() or whole()")
    return MetricModule(metric, labels)


def _value(metric: Metric, rows: Rows) -> float:
    if metric.whole is not None:
        return float(metric.whole(rows))
    if metric.each is not None:
        return value_of(metric, [_as_statistic(each) for each in metric.each(rows)])
    assert metric.statistic is not None
    found = (
        metric.statistic(answer, (reference,) if rows.labels else reference)
        for reference, answer in zip(rows.references, rows.predictions, strict=True)
    )
    return value_of(metric, [_as_statistic(each) for each in found])


def _as_statistic(value: float | Statistic) -> Statistic:
    return value if isinstance(value, Statistic) else Statistic(float(value))
