"""What a scoring comes to: every figure with its standard error and interval; kept as JSON and a table of examples."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from gpt_tasks.files import finite, write_json
from gpt_tasks.metrics.intervals import Z, wilson
from gpt_tasks.tasks.untrained import Measure, Part
from gpt_tasks.types import Answer, Example, Likelihood

SCHEMA_VERSION = 1
SCORES, EXAMPLES = "scores.json", "examples.parquet"


@dataclass(frozen=True, slots=True)
class Figure:
    """A measure over `n` examples: its value, standard error and 95 % interval [low, high]."""

    value: float
    stderr: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class TaskScores:
    """The figures of one task; `groups` are those of each value of a column, of which `metrics` are then the means.

    `truncated` counts the examples whose context was longer than the model's window and lost tokens on its left.
    """

    name: str
    task: str
    n: int
    shots: int
    truncated: int
    metrics: Mapping[str, Figure]
    groups: Mapping[str, Mapping[str, Figure]] = field(default_factory=dict)


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
        whole: dict[str, Any] = finite({"schema_version": SCHEMA_VERSION, **asdict(self)})
        return whole


@dataclass(frozen=True, slots=True)
class ScoredExample:
    """One example, what was answered about it, and what it brings to each measure."""

    task: str
    example: Example
    group: str | None
    answers: Sequence[Answer]
    parts: Mapping[str, Part]
    cut: int


def figure(measure: Measure, parts: Sequence[Part]) -> Figure:
    """Combine parts: `finish` of their weighted mean, its standard error by linearization (the delta method).

    The interval of a share (every part 0 or 1) is Wilson's, otherwise the normal one, before `finish`.
    """
    n, total = len(parts), math.fsum(part.weight for part in parts)
    mean = math.fsum(part.value * part.weight for part in parts) / total
    spread = math.fsum((part.weight * (part.value - mean)) ** 2 for part in parts)
    stderr = math.sqrt(spread * n / (n - 1)) / total if n > 1 else math.nan
    if _are_shares(parts):
        low, high = wilson(round(mean * n), n)
    else:
        low, high = mean - Z * stderr, mean + Z * stderr
    value = _finished(measure, mean)
    slope = value if measure.finish is math.exp else 1.0
    return Figure(value, slope * stderr, _finished(measure, low), _finished(measure, high), n)


def mean_figure(figures: Sequence[Figure], *, shares: bool) -> Figure:
    """Return the mean of groups' figures, each counting the same, whatever its size.

    Groups of one example tell nothing of their spread and are left out of the standard error. The interval of
    `shares` stays within 0 and 1, and is Wilson's over all examples where no group shows any spread.
    """
    value = math.fsum(each.value for each in figures) / len(figures)
    n = sum(each.n for each in figures)
    stderr = math.sqrt(math.fsum(each.stderr**2 for each in figures if each.n > 1)) / len(figures)
    low, high = value - Z * stderr, value + Z * stderr
    if shares:
        low, high = (max(0.0, low), min(1.0, high)) if stderr else wilson(round(value * n), n)
    return Figure(value, stderr, low, high, n)


def task_scores(
    name: str, task: str, shots: int, measures: Iterable[Measure], scored: Sequence[ScoredExample]
) -> TaskScores:
    """Return the figures of one task from its scored examples."""
    measures = list(measures)
    groups: dict[str, list[ScoredExample]] = {}
    for each in scored:
        if each.group is not None:
            groups.setdefault(each.group, []).append(each)
    by_group = {
        group: {measure.name: figure(measure, [each.parts[measure.name] for each in members]) for measure in measures}
        for group, members in groups.items()
    }
    if by_group:
        whole = {
            measure.name: mean_figure(
                [figures[measure.name] for figures in by_group.values()],
                shares=_are_shares([each.parts[measure.name] for each in scored]),
            )
            for measure in measures
        }
    else:
        whole = {measure.name: figure(measure, [each.parts[measure.name] for each in scored]) for measure in measures}
    return TaskScores(name, task, len(scored), shots, sum(each.cut > 0 for each in scored), whole, by_group)


def write_scores(folder: Path, scores: Scores, examples: Sequence[ScoredExample]) -> None:
    """Write scores.json and examples.parquet, each as a whole or not at all."""
    rows = [
        {
            "task": each.task,
            "where": each.example.where,
            "inputs": list(each.example.inputs.items()),
            "choices": list(each.example.choices),
            "target": each.example.target,
            "group": each.group,
            "log_likelihoods": [answer.value for answer in each.answers if isinstance(answer, Likelihood)],
            "greedy": [answer.greedy for answer in each.answers if isinstance(answer, Likelihood)],
            "texts": [answer for answer in each.answers if isinstance(answer, str)],
            "cut": each.cut,
            "parts": [
                {"metric": metric, "value": part.value, "weight": part.weight} for metric, part in each.parts.items()
            ],
        }
        for each in examples
    ]
    draft = folder / f".{EXAMPLES}.{os.getpid()}"
    parquet.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), draft)
    draft.replace(folder / EXAMPLES)
    write_json(folder / SCORES, scores.to_json())


def _are_shares(parts: Sequence[Part]) -> bool:
    return all(part.value in (0.0, 1.0) and part.weight == 1.0 for part in parts)


def _finished(measure: Measure, mean: float) -> float:
    try:
        return measure.finish(mean)
    except OverflowError:
        return math.inf


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
        ("parts", pa.list_(pa.struct([("metric", pa.string()), ("value", pa.float64()), ("weight", pa.float64())]))),
    ]
)
