"""The results of a scoring: figures with standard errors and intervals, saved as JSON and a table of examples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from gpt_tasks.extensions import Metric
from gpt_tasks.files import atomic_path, json_safe, write_json
from gpt_tasks.metrics.aggregate import signatures_of
from gpt_tasks.metrics.clusters import Clustering, cluster_value
from gpt_tasks.metrics.figures import figure_of, mean_figure
from gpt_tasks.types import Example, LogLikelihood, Response, Score, Statistic

SCHEMA_VERSION = 2
SCORES, EXAMPLES = "scores.json", "examples.parquet"


@dataclass(frozen=True)
class TaskScores:
    """The figures of one task; `groups` are those of each value of a column, of which `metrics` are then the means.

    `truncated` counts the examples whose context was longer than the model's window and lost tokens on its left.
    `signatures` say how metrics were computed, `aggregates` how their figures follow from the table of examples.
    `cluster` is the column or field by which examples belong together; `note` says of the intervals what is to be said.
    """

    name: str
    task: str
    n: int
    shots: int
    truncated: int
    metrics: Mapping[str, Score]
    groups: Mapping[str, Mapping[str, Score]] = field(default_factory=dict)
    signatures: Mapping[str, str] = field(default_factory=dict)
    aggregates: Mapping[str, str] = field(default_factory=dict)
    cluster: str = ""
    note: str | None = None

    def values(self) -> dict[str, float]:
        """Return the metrics' values alone."""
        return {name: score.value for name, score in self.metrics.items()}


@dataclass(frozen=True)
class Scores:
    """All figures of one scoring, and what they were made with."""

    suite: Mapping[str, Any]
    model: Mapping[str, Any]
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    tasks: tuple[TaskScores, ...]
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return what scores.json holds: JSON values only, with null for what is not a finite number."""
        whole: dict[str, Any] = json_safe(
            {
                "schema_version": SCHEMA_VERSION,
                "suite": self.suite,
                "model": self.model,
                "settings": self.settings,
                "versions": self.versions,
                "tasks": [_task_to_json(task) for task in self.tasks],
                "notes": self.notes,
            }
        )
        return whole


@dataclass(frozen=True, slots=True)
class ScoredExample:
    """One example, what was answered about it, and what it contributes to each metric."""

    task: str
    example: Example
    group: str | None
    answers: Sequence[Response]
    statistics: Mapping[str, Statistic]
    cut: int


def task_scores(
    name: str,
    task: str,
    shots: int,
    metrics: Iterable[Metric],
    scored: Sequence[ScoredExample],
    *,
    cluster: str | None = None,
) -> TaskScores:
    """Return the figures of one task from its scored examples, which belong together by their values of `cluster`."""
    metrics = list(metrics)
    groups: dict[str, list[int]] = {}
    for place, each in enumerate(scored):
        if each.group is not None:
            groups.setdefault(each.group, []).append(place)
    clustering = Clustering(cluster)
    for each in scored:
        clustering.add(each.example)
    clusters = clustering.numbers

    def figures(places: np.ndarray) -> dict[str, Score]:
        return {metric.name: _figure(metric, scored, places, clusters) for metric in metrics}

    by_group = {group: figures(np.array(places)) for group, places in groups.items()}
    units = len(scored)
    if clusters is not None:
        units = sum(len(np.unique(clusters[places])) for places in groups.values() or [slice(None)])
    if by_group:
        whole = {
            metric.name: mean_figure([of[metric.name] for of in by_group.values()], metric.range, units)
            for metric in metrics
        }
    else:
        whole = figures(np.arange(len(scored)))
    return TaskScores(
        name,
        task,
        len(scored),
        shots,
        sum(each.cut > 0 for each in scored),
        whole,
        by_group,
        signatures_of(metrics, {len(each.example.references) for each in scored}),
        {m.name: m.aggregate if isinstance(m.aggregate, str) else f"metric:{m.name}" for m in metrics},
        "" if clusters is None else str(cluster),
        clustering.note("To count them together: --cluster {field}, or cluster: {field} in the suite."),
    )


def write_scores(folder: Path, scores: Scores, examples: Sequence[ScoredExample]) -> None:
    """Write scores.json and examples.parquet, each whole or not at all."""
    cluster_of = {task.name: task.cluster for task in scores.tasks}
    rows = [
        {
            "task": each.task,
            "where": each.example.where,
            "inputs": list(each.example.inputs.items()),
            "choices": list(each.example.choices),
            "target": each.example.target,
            "group": each.group,
            "cluster": cluster_value(each.example, by) if (by := cluster_of.get(each.task)) else None,
            "log_likelihoods": [answer.value for answer in each.answers if isinstance(answer, LogLikelihood)],
            "greedy": [answer.is_greedy for answer in each.answers if isinstance(answer, LogLikelihood)],
            "texts": [answer for answer in each.answers if isinstance(answer, str)],
            "cut": each.cut,
            "parts": [
                {"metric": metric, "values": part.columns, "weight": part.weight}
                for metric, part in each.statistics.items()
            ],
        }
        for each in examples
    ]
    with atomic_path(folder / EXAMPLES) as draft:
        parquet.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), draft)
    write_json(folder / SCORES, scores.to_json())


def _figure(metric: Metric, scored: Sequence[ScoredExample], places: np.ndarray, clusters: np.ndarray | None) -> Score:
    statistics = [scored[place].statistics[metric.name] for place in places.tolist()]
    belongs = None if clusters is None else np.unique(clusters[places], return_inverse=True)[1]
    values, weights = np.array([each.columns for each in statistics]), np.array([each.weight for each in statistics])
    return figure_of(metric, values, weights, clusters=belongs)


def _task_to_json(task: TaskScores) -> dict[str, Any]:
    def figures(scores: Mapping[str, Score]) -> dict[str, Any]:
        return {
            name: {
                "value": score.value,
                "stderr": score.stderr,
                "low": score.low,
                "high": score.high,
                "n": score.n,
                "form": task.aggregates.get(name, "mean"),
            }
            for name, score in scores.items()
        }

    return {
        "name": task.name,
        "task": task.task,
        "n": task.n,
        "shots": task.shots,
        "truncated": task.truncated,
        "metrics": figures(task.metrics),
        "groups": {group: figures(scores) for group, scores in task.groups.items()},
        "signatures": dict(task.signatures),
        "cluster": task.cluster,
    }


_PART = pa.struct([("metric", pa.string()), ("values", pa.list_(pa.float64())), ("weight", pa.float64())])
_SCHEMA = pa.schema(
    [
        ("task", pa.string()),
        ("where", pa.string()),
        ("inputs", pa.map_(pa.string(), pa.string())),
        ("choices", pa.list_(pa.string())),
        ("target", pa.string()),
        ("group", pa.string()),
        ("log_likelihoods", pa.list_(pa.float64())),
        ("greedy", pa.list_(pa.bool_())),
        ("texts", pa.list_(pa.string())),
        ("cut", pa.int64()),
        ("parts", pa.list_(_PART)),
        ("cluster", pa.string()),
    ]
)
