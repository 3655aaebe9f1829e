"""What each example contributes to the figures of an evaluation: collected, aggregated, and saved as a table."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from gpt_tasks.errors import GptTasksError, PluginError
from gpt_tasks.extensions import Metric, Rows
from gpt_tasks.files import atomic_path, atomic_write, json_text
from gpt_tasks.metrics.aggregate import Aggregate, as_statistic, metric_statistic, prepared
from gpt_tasks.metrics.figures import Statistics, figure_of
from gpt_tasks.metrics.intervals import bootstrap_interval
from gpt_tasks.tasks.base import Task
from gpt_tasks.types import Example, Score

STATISTICS = "parts.parquet"
# This many rows are laid out at a time.
_ROWS = 1024
# Of more labels probabilities have seven digits: of a thousand, a hundred thousand examples take 400 MB.
_EXACT_LABELS = 100


class Tally:
    """Collects what examples contribute to metrics, as numbers in arrays: a million examples take a few MB.

    Metrics that are not means store references and predictions of all examples, and the probability of every label.
    """

    def __init__(self, task: Task, metrics: Sequence[Metric]) -> None:
        self.task = task
        self.metrics = metrics
        self._values: dict[str, list[np.ndarray]] = {}
        self._weights: dict[str, list[np.ndarray]] = {}
        self._keeps_rows = any(metric.whole is not None or metric.each is not None for metric in metrics)
        self._references: list[Any] = []
        self._predictions: list[Any] = []
        self._probabilities: list[np.ndarray] = []
        self._examples = 0

    def add(self, examples: Iterable[Example], predictions: Iterable[Any]) -> None:
        """Take examples with their predictions. Raises PluginError where a metric gets nothing from only some."""
        columns: dict[str, list[tuple[float, ...]]] = {}
        weights: dict[str, list[float]] = {}
        probabilities = []
        before = self._examples
        for example, prediction in zip(examples, predictions, strict=True):
            self._examples += 1
            for name, statistic in self.task.contributions(self.metrics, example, prediction).items():
                columns.setdefault(name, []).append(statistic.columns)
                weights.setdefault(name, []).append(statistic.weight)
            if self._keeps_rows:
                answer, references = self.task.compared(example, prediction)
                self._predictions.append(answer)
                self._references.append(references[0] if self.task.labels and len(references) == 1 else references)
                known = getattr(prediction, "probabilities", None)
                if known and self.task.labels:
                    probabilities.append([known[label] for label in self.task.labels])
        if probabilities:
            kind = np.float64 if len(self.task.labels) <= _EXACT_LABELS else np.float32
            self._probabilities.append(np.array(probabilities, dtype=kind))
        for name in columns.keys() | self._values.keys():
            if len(columns.get(name, ())) < self._examples - before or (before and name not in self._values):
                raise PluginError(
                    f"Task '{self.task.name}' scores only some of its examples by '{name}'",
                    "Have score() return the same metrics for every example; one of weight 0 does not count.",
                )
        for name, rows in columns.items():
            self._values.setdefault(name, []).append(np.array(rows))
            self._weights.setdefault(name, []).append(np.array(weights[name]))

    def statistics(self) -> dict[str, Statistics]:
        """Return what all examples contributed to each additive metric."""
        self._rank()
        return {
            metric.name: Statistics(
                prepared(metric, np.concatenate(self._values[metric.name])),
                np.concatenate(self._weights[metric.name]),
                metric.aggregate,
            )
            for metric in self.metrics
            if metric.name in self._values
        }

    def scores(
        self, chosen: np.ndarray | None = None, *, clusters: np.ndarray | None = None, seed: int = 0
    ) -> dict[str, Score]:
        """Return the figures with their intervals: of all examples, or of those at the places `chosen`.

        `clusters` `[n]` are the numbers of all examples' clusters. Raises PluginError where a metric fails.
        """
        self._rank()
        whole = self._rows(chosen, clusters) if self._keeps_rows else None
        found = {}
        for metric in self.metrics:
            if metric.whole is not None:
                assert whole is not None
                found[metric.name] = whole_figure(metric, whole, seed=seed)
            elif metric.name in self._values:
                values, weights = (np.concatenate(of[metric.name]) for of in (self._values, self._weights))
                belongs = clusters
                if chosen is not None:
                    values, weights = values[chosen], weights[chosen]
                    belongs = None if clusters is None else np.unique(clusters[chosen], return_inverse=True)[1]
                found[metric.name] = figure_of(metric, values, weights, clusters=belongs)
        return found

    def values(self) -> dict[str, float]:
        """Return the figures alone."""
        self._rank()
        whole = self._rows(None) if self._keeps_rows else None
        found = {}
        for metric in self.metrics:
            if metric.whole is not None:
                assert whole is not None
                found[metric.name] = whole_value(metric, whole)
            elif metric.name in self._values:
                values, weights = (np.concatenate(of[metric.name]) for of in (self._values, self._weights))
                found[metric.name] = figure_of(metric, values, weights).value
        return found

    def _rank(self) -> None:
        """Compute the statistics that need all examples at once."""
        for metric in self.metrics:
            if metric.each is None or metric.name in self._values:
                continue
            with attributed(metric):
                found = [as_statistic(metric, each) for each in metric.each(self._rows(None))]
                if len(found) != self._examples:
                    raise ValueError(f"each() returned {len(found)} statistics of {self._examples} rows")
            self._values[metric.name] = [np.array([each.columns for each in found])]
            self._weights[metric.name] = [np.array([each.weight for each in found])]

    def _rows(self, chosen: np.ndarray | None, clusters: np.ndarray | None = None) -> Rows:
        if len(self._probabilities) > 1:
            self._probabilities = [np.concatenate(self._probabilities)]
        probabilities = self._probabilities[0] if self._probabilities else None
        rows = Rows(self._references, self._predictions, self.task.labels, probabilities, clusters)
        return rows if chosen is None else rows.take(chosen)


def metric_values(
    metrics: Sequence[Metric], task: Task, examples: Iterable[Example], predictions: Iterable[Any]
) -> dict[str, float]:
    """Return the figures of metrics without their intervals."""
    tally = Tally(task, metrics)
    tally.add(examples, predictions)
    return tally.values()


def check_metrics(metrics: Sequence[Metric], task: Task, example: Example) -> None:
    """Compute the additive metrics of one right answer, so that one that fails does so before a training.

    Raises PluginError for one that fails, or that the task does not score and that has no statistic.
    """
    gold = task.fixtures().gold
    own = {metric.name for metric in task.own_metrics}
    additive = [metric for metric in metrics if metric.whole is None and metric.each is None]
    if gold is None:
        references = task.references(example)
        found = {
            metric.name: metric_statistic(metric, references[0], references)
            for metric in additive
            if metric.statistic is not None and metric.name not in own and references
        }
    else:
        found = task.contributions(additive, example, gold(example))
    for metric in additive:
        if metric.name in found:
            statistic = found[metric.name]
            with attributed(metric):
                figure_of(metric, np.array([statistic.columns]), np.array([statistic.weight]))
        elif metric.name not in own and metric.statistic is None:
            raise PluginError(
                f"The metric '{metric.name}' has no statistic(), each() or whole(); '{task.name}' does not score it",
                "Give it one of them, or leave it out.",
            )


def whole_figure(metric: Metric, rows: Rows, *, seed: int = 0) -> Score:
    """Return the figure of a metric that is not a mean, with its own interval or that of a bootstrap over rows.

    The interval is within the metric's range. It is NaN where the value is, and where resamples say nothing of it: they
    are undefined for the most part, all the same, or on one side of the value. Raises PluginError where the metric's
    function raises or returns no number.
    """
    value = whole_value(metric, rows)
    if not math.isfinite(value):
        return Score(value, value, value, len(rows))
    if metric.interval is not None:
        low, high = metric.interval(rows)
    else:

        def computed(chosen: np.ndarray) -> float:
            with suppress(PluginError):
                return whole_value(metric, rows.take(chosen))
            return math.nan

        low, high = bootstrap_interval(computed, len(rows), seed, rows.clusters)
        # As of rare labels, of which a resample lacks many: what it is of others is not what it is of these rows.
        if not low <= value <= high:
            low = high = math.nan
    least, most = metric.range
    # NaN comes first, so that it stays.
    return Score(value, max(min(low, value), least), min(max(high, value), most), len(rows))


def whole_value(metric: Metric, rows: Rows) -> float:
    """Return the figure alone. Raises PluginError where the metric's function raises or returns no number."""
    assert metric.whole is not None
    with attributed(metric):
        return float(metric.whole(rows))


@contextmanager
def attributed(metric: Metric) -> Iterator[None]:
    """Turn what a metric's own functions raise into a PluginError that names it."""
    try:
        yield
    except GptTasksError:
        raise
    except Exception as error:
        function = metric.whole or metric.each or metric.statistic or metric.aggregate
        module = getattr(function, "__module__", "its task")
        raise PluginError(
            f"The metric '{metric.name}' of {module} failed: {type(error).__name__}: {error}",
            "Fix or uninstall the plugin that provides it, or leave the metric out.",
        ) from error


def write_lines(folder: Path | None, lines: Iterable[Mapping[str, Any]]) -> None:
    """Write predictions.jsonl, a line for each example as it comes; without a folder only consume them."""
    if folder is None:
        deque(lines, maxlen=0)
        return
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / "predictions.jsonl") as file:
        file.writelines(f"{json_text(line)}\n" for line in lines)


def write_statistics(
    folder: Path, where: Sequence[str], statistics: Mapping[str, Statistics], clusters: np.ndarray | None = None
) -> None:
    """Write parts.parquet, whole or not at all: a row for each line of predictions.jsonl.

    `where` `[n]` names the examples, `statistics` holds what they contribute to each metric, `clusters` `[n]` numbers
    what belongs together.
    """
    with atomic_path(folder / STATISTICS) as draft, parquet.ParquetWriter(draft, _SCHEMA) as writer:
        for start in range(0, len(where), _ROWS):
            some = slice(start, start + _ROWS)
            columns = [
                (name, _form(name, each.aggregate), each.values[some].tolist(), each.weights[some].tolist())
                for name, each in statistics.items()
            ]
            rows = [
                {
                    "where": place,
                    "cluster": None if clusters is None else int(clusters[start + row]),
                    "parts": [
                        {"metric": name, "form": aggregate, "values": values[row], "weight": weights[row]}
                        for name, aggregate, values, weights in columns
                    ],
                }
                for row, place in enumerate(where[some])
            ]
            writer.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA))


def _form(name: str, aggregate: str | Aggregate) -> str:
    """Return what a table says of how statistics are aggregated; a function is found again by its metric's name."""
    return aggregate if isinstance(aggregate, str) else f"metric:{name}"


_STATISTIC = [
    ("metric", pa.string()),
    ("form", pa.string()),
    ("values", pa.list_(pa.float64())),
    ("weight", pa.float64()),
]
_SCHEMA = pa.schema([("where", pa.string()), ("parts", pa.list_(pa.struct(_STATISTIC))), ("cluster", pa.int64())])
