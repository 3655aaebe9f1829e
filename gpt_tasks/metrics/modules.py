"""The adapter that offers a metric as a module of the `evaluate` library, without the hub and without files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
import numpy

from gpt_tasks.extensions import Metric


class MetricModule(evaluate.Metric):  # type: ignore[misc]
    """A metric with the methods of `evaluate.Metric`; made by `as_evaluate_module`."""

    def __init__(self, metric: Metric, labels: Sequence[str]) -> None:
        self.metric = metric
        self.labels = tuple(labels)
        super().__init__(config_name=metric.name, keep_in_memory=True)

    @property
    def name(self) -> str:
        """The metric's name, under which `compute` returns its value."""
        return self.metric.name

    def _info(self) -> evaluate.MetricInfo:
        reference = {"references": datasets.Value("int64")}
        return evaluate.MetricInfo(
            description=self.metric.description,
            citation="",
            inputs_description=(
                "\nReferences are label indices. Predictions are label indices too, or, for metrics that need them, "
                "the probabilities of all labels, a row for each example.\n"
            ),
            features=[
                datasets.Features({"predictions": datasets.Value("int64"), **reference}),
                datasets.Features({"predictions": datasets.Sequence(datasets.Value("float64")), **reference}),
            ],
        )

    def _build_data_dir(self) -> str:
        # The library would make this folder at once, though nothing is ever put there when all is kept in memory.
        return str(self._data_dir_root)

    def _compute(self, *, predictions: Any = None, references: Any = None, **_: Any) -> dict[str, float]:
        given, right = numpy.asarray(predictions), numpy.asarray(references, dtype=numpy.int64)
        if given.ndim == 2:
            probabilities, chosen = given, given.argmax(axis=1)
        else:
            # NaN, so that a metric which reads probabilities cannot quietly take label indices for certainties.
            probabilities, chosen = numpy.full((len(given), len(self.labels)), numpy.nan), given
        value = float(self.metric.function(right, chosen, probabilities, self.labels))
        if given.ndim == 1 and math.isnan(value):
            width = len(self.labels)
            raise ValueError(f"'{self.metric.name}' reads probabilities: give rows of {width} of them as predictions")
        return {self.metric.name: value}


def as_evaluate_module(metric: Metric, labels: Sequence[str]) -> evaluate.Metric:
    """Return a metric, a plugin's too, as a module with `add_batch` and `compute`.

    `labels` are the names in the model's order. Everything is kept in memory; nothing is fetched and nothing written.
    """
    return MetricModule(metric, labels)
