"""What a scoring comes to: every figure with its standard error and interval; kept as JSON and a table of examples."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from gpt_tasks.files import atomic_path, json_safe, write_json
from gpt_tasks.metrics.intervals import Z, wilson
from gpt_tasks.tasks.measures import Form, Measure, Part, finished, ranked
from gpt_tasks.tasks.text_measures import TextMeasure
from gpt_tasks.types import Example, LogLikelihood, Response

SCHEMA_VERSION = 2
# Whose standard error follows from that of a mean.
_OF_MEANS = ("mean", "exponential")
SCORES, EXAMPLES = "scores.json", "examples.parquet"


@dataclass(frozen=True, slots=True)
class Figure:
    """A measure over `n` examples: its value, standard error, 95 % interval [low, high], and its form."""

    value: float
    stderr: float
    low: float
    high: float
    n: int
    form: Form = "mean"


@dataclass(frozen=True)
class TaskScores:
    """The figures of one task; `groups` are those of each value of a column, of which `metrics` are then the means.

    `truncated` counts the examples whose context was longer than the model's window and lost tokens on its left.
    `signatures` say of the metrics of written answers how they were computed.
    """

    name: str
    task: str
    n: int
    shots: int
    truncated: int
    metrics: Mapping[str, Figure]
    groups: Mapping[str, Mapping[str, Figure]] = field(default_factory=dict)
    signatures: Mapping[str, str] = field(default_factory=dict)


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
        whole: dict[str, Any] = json_safe({"schema_version": SCHEMA_VERSION, **asdict(self)})
        return whole


@dataclass(frozen=True, slots=True)
class ScoredExample:
    """One example, what was answered about it, and what it brings to each measure."""

    task: str
    example: Example
    group: str | None
    answers: Sequence[Response]
    parts: Mapping[str, Part]
    cut: int


def figure(measure: Measure, parts: Sequence[Part]) -> Figure:
    """Combine parts into a figure with its standard error and interval."""
    values, weights = np.array([part.columns for part in parts]), np.array([part.weight for part in parts])
    return figure_of(measure, ranked(measure, values), weights)


def figure_of(measure: Measure, values: np.ndarray, weights: np.ndarray) -> Figure:
    """Combine what examples bring, `[n, columns]` as `ranked` returns it, and their weights `[n]`, into a figure.

    Of a weighted mean the error is by linearization, and the exponential's follows by the delta method; of corpus
    scores it is the jackknife's (Efron and Stein 1981). The interval of a share (every part 0 or 1) is Wilson's,
    otherwise the normal one, of a perplexity on the scale of logarithms. Where every weight is 0, no example is about
    what is measured, and there is no figure.
    """
    n = len(weights)
    if not weights.any():
        return Figure(math.nan, math.nan, math.nan, math.nan, 0, measure.form)
    weighted = values * weights[:, None]
    sums, total = weighted.sum(axis=0), float(weights.sum())
    if measure.form in _OF_MEANS:
        mean = math.fsum(weighted[:, 0]) / math.fsum(weights)
        spread = math.fsum((weighted[:, 0] - weights * mean) ** 2)
        stderr = math.sqrt(spread * n / (n - 1)) / total if n > 1 else math.nan
        shares = bool((weights == 1.0).all()) and bool(np.isin(values, (0.0, 1.0)).all())
        low, high = wilson(round(mean * n), n) if shares else (mean - Z * stderr, mean + Z * stderr)
        value, low, high = finished(measure.form, np.array([[mean], [low], [high]]), np.ones(3)).tolist()
        stderr *= value if measure.form == "exponential" else 1.0
    else:
        value = float(finished(measure.form, sums, np.array(total)))
        without = finished(measure.form, sums - weighted, total - weights) if n > 1 else np.full(1, math.nan)
        # A figure that is infinite without some example has no error that could be told.
        with np.errstate(invalid="ignore"):
            stderr = math.sqrt((n - 1) / n * float(((without - without.mean()) ** 2).sum()))
        low, high = value - Z * stderr, value + Z * stderr
    if measure.highest is not None:
        low, high = max(0.0, low), min(measure.highest, high)
    return Figure(value, stderr, low, high, n, measure.form)


def mean_figure(figures: Sequence[Figure], *, shares: bool) -> Figure:
    """Return the mean of groups' figures, of one form, each counting the same, whatever its size.

    Groups of one example tell nothing of their spread and are left out of the standard error. The interval of
    `shares` stays within 0 and 1, and is Wilson's over all examples where no group shows any spread.
    """
    value = math.fsum(each.value for each in figures) / len(figures)
    n = sum(each.n for each in figures)
    stderr = math.sqrt(math.fsum(each.stderr**2 for each in figures if each.n > 1)) / len(figures)
    low, high = value - Z * stderr, value + Z * stderr
    if shares:
        low, high = (max(0.0, low), min(1.0, high)) if stderr else wilson(round(value * n), n)
    return Figure(value, stderr, low, high, n, figures[0].form)


def signatures_of(measures: Iterable[Measure], references: Collection[int]) -> dict[str, str]:
    """Say how metrics of written answers are computed, given the numbers of right answers that examples have."""
    numbers = {max(1, number) for number in references}
    known = numbers.pop() if len(numbers) == 1 else -1
    return {
        measure.name: measure.signature(known)
        for measure in measures
        if isinstance(measure, TextMeasure) and measure.signature
    }


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
    signatures = signatures_of(measures, {len(each.example.references) for each in scored})
    cut = sum(each.cut > 0 for each in scored)
    return TaskScores(name, task, len(scored), shots, cut, whole, by_group, signatures)


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
            "log_likelihoods": [answer.value for answer in each.answers if isinstance(answer, LogLikelihood)],
            "greedy": [answer.is_greedy for answer in each.answers if isinstance(answer, LogLikelihood)],
            "texts": [answer for answer in each.answers if isinstance(answer, str)],
            "cut": each.cut,
            "parts": [
                {"metric": metric, "values": part.columns, "weight": part.weight} for metric, part in each.parts.items()
            ],
        }
        for each in examples
    ]
    with atomic_path(folder / EXAMPLES) as draft:
        parquet.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), draft)
    write_json(folder / SCORES, scores.to_json())


def _are_shares(parts: Sequence[Part]) -> bool:
    return all(part.columns in ((0.0,), (1.0,)) and part.weight == 1.0 for part in parts)


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
    ]
)
