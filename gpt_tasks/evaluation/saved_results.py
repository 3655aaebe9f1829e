"""Read back what `score` and `evaluate` wrote into a folder: the figures, and the examples they come from."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import BaseModel

from gpt_tasks.errors import DataError
from gpt_tasks.evaluation.report import ANSWERED, Report
from gpt_tasks.evaluation.report import SCHEMA_VERSION as REPORT_VERSION
from gpt_tasks.evaluation.saved_files import (
    AGAIN,
    FILES,
    METRICS,
    PREDICTIONS,
    Kind,
    check_number,
    damaged,
    prediction_lines,
    saved_json,
    table_rows,
)
from gpt_tasks.evaluation.statistics import STATISTICS
from gpt_tasks.metrics.aggregate import AGGREGATES, Aggregate, apply_aggregate
from gpt_tasks.metrics.clusters import Clusters, Texts
from gpt_tasks.metrics.figures import Statistics
from gpt_tasks.plugins import installed_plugins
from gpt_tasks.saved_json import checked
from gpt_tasks.scoring.results import EXAMPLES, SCORES
from gpt_tasks.scoring.results import SCHEMA_VERSION as SCORES_VERSION


class Identity(NamedTuple):
    """What makes two examples the same: a digest of their inputs and choices, the right answer, the group."""

    asked: bytes
    target: str | None
    group: str | None


@dataclass(frozen=True)
class SavedTask:
    """One task of a folder: its figures, and by example in the file's order what they come from.

    `statistics` are there for what is additive. An evaluation has the `references` and the `predictions` as `Rows` has
    them, and the `labels` that both are of, where they are labels. Where examples belong together by the values of
    `cluster`, `clusters` `[n]` are numbers, from 0 on. `texts` are the inputs.
    """

    name: str
    task: str
    values: Mapping[str, float]
    where: Sequence[str]
    identities: Sequence[Identity]
    statistics: Mapping[str, Statistics]
    references: Sequence[Any] = ()
    predictions: Sequence[Any] = ()
    labels: Sequence[str] = ()
    shots: int | None = None
    cluster: str = ""
    clusters: np.ndarray | None = None
    texts: Texts = field(default_factory=Texts)


@dataclass(frozen=True)
class SavedResults:
    """One folder: its tasks by name, and the model and suite that they were made with, where that is known."""

    path: Path
    kind: Kind
    tasks: Mapping[str, SavedTask]
    model: str | None = None
    suite: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


def read_results(folder: Path, kind: Kind) -> SavedResults:
    """Read a folder that a command of this kind wrote. Raises DataError where it is damaged or of another schema."""
    for file in FILES[kind]:
        if not (folder / file).is_file():
            raise DataError(f"{folder} is cut short: it holds no {file}", AGAIN[kind])
    return _read_scores(folder) if kind == "score" else _read_report(folder)


def _read_scores(folder: Path) -> SavedResults:
    file = folder / SCORES
    saved = saved_json(file, SCORES_VERSION, "score")
    checked(file, saved, _Scores, AGAIN["score"], DataError)
    rows: dict[str, list[Mapping[str, Any]]] = {}
    columns = ["task", "where", "inputs", "choices", "target", "group", "parts"]
    for row in table_rows(folder / EXAMPLES, columns, "score", ["cluster"]):
        rows.setdefault(row["task"], []).append(row)
    try:
        return SavedResults(
            path=folder,
            kind="score",
            tasks={task["name"]: _scored(folder, task, rows.get(task["name"], [])) for task in saved["tasks"]},
            model=saved["model"]["spec"],
            suite=dict(saved["suite"]),
            settings=saved["settings"],
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise damaged(file, error, "score") from error


class _Figure(BaseModel):
    value: float | None
    form: str


class _Scored(BaseModel):
    name: str
    task: str
    n: int
    metrics: dict[str, _Figure]
    shots: int | None = None
    cluster: str = ""


class _Model(BaseModel):
    spec: str


class _Scores(BaseModel):
    """What is read of scores.json."""

    tasks: list[_Scored]
    model: _Model
    suite: dict[str, Any]
    settings: dict[str, Any]


def _scored(folder: Path, task: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> SavedTask:
    name, file = task["name"], folder / EXAMPLES
    check_number(file, f" of task '{name}'", len(rows), task["n"], "score")
    values = {metric: _number(figure["value"]) for metric, figure in task["metrics"].items()}
    forms = {metric: figure["form"] for metric, figure in task["metrics"].items()}
    clusters, texts = Clusters(), Texts()
    for row in rows:
        clusters.add(row.get("cluster") or "")
        texts.add(dict(row["inputs"]))
    return SavedTask(
        name=name,
        task=task["task"],
        values=values,
        where=[row["where"] for row in rows],
        identities=[Identity(_digest(row["inputs"], row["choices"]), row["target"], row["group"]) for row in rows],
        statistics=_parts(file, rows, values, _aggregates(forms, task["task"]), "score"),
        shots=task["shots"],
        cluster=task.get("cluster", ""),
        clusters=clusters.numbers if task.get("cluster") else None,
        texts=texts,
    )


def _parts(
    file: Path,
    rows: Sequence[Mapping[str, Any]],
    values: Mapping[str, float],
    aggregates: Mapping[str, str | Aggregate],
    kind: Kind,
) -> dict[str, Statistics]:
    """Return what the rows of a table contribute to each metric of which it is known how to aggregate them."""
    groups = np.array([row.get("group") or "" for row in rows])
    by_metric = [{part["metric"]: part for part in row["parts"]} for row in rows]
    found = {}
    for metric, value in values.items():
        if metric not in aggregates:
            continue
        own = [each[metric] for each in by_metric]
        columns, weights = np.array([part["values"] for part in own]), np.array([part["weight"] for part in own])
        found[metric] = Statistics(columns, weights, aggregates[metric])
        _check_value(file, metric, found[metric], groups, value, kind)
    return found


def _check_value(file: Path, metric: str, parts: Statistics, groups: np.ndarray, value: float, kind: Kind) -> None:
    """Raise DataError where the examples do not yield the figure that was saved."""
    reached = []
    for group in np.unique(groups):
        weights = parts.weights[groups == group]
        sums = (parts.values[groups == group] * weights[:, None]).sum(axis=0)
        reached.append(float(apply_aggregate(parts.aggregate, sums, weights.sum())))
    mean = float(np.mean(reached))
    neither = math.isnan(value) and not math.isfinite(mean)
    if not neither and not math.isclose(mean, value, rel_tol=1e-9, abs_tol=1e-12):
        raise DataError(f"{file}: the examples do not yield the {metric} in {FILES[kind][0]}", AGAIN[kind])


def _aggregates(forms: Mapping[str, str], task: str) -> dict[str, str | Aggregate]:
    """Return how statistics are aggregated, by what the table says of each metric: a name, or the metric's function.

    The metric is the task's own or registered; one of a plugin that is no longer there is left out.
    """
    registry = installed_plugins().registry
    known = dict(registry.metrics)
    if registry.tasks.current_name(task) in registry.tasks:
        known |= {metric.name: metric for metric in registry.tasks[task].own_metrics}
    found: dict[str, str | Aggregate] = {metric: form for metric, form in forms.items() if form in AGGREGATES}
    for metric, form in forms.items():
        named = form.removeprefix("metric:")
        if metric not in found and named in known:
            found[metric] = known[named].aggregate
    return found


def _read_report(folder: Path) -> SavedResults:
    file = folder / METRICS
    saved = saved_json(file, REPORT_VERSION, "evaluate")
    try:
        report = Report.from_json(saved)
        task = _evaluated(folder, saved)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise damaged(file, error, "evaluate") from error
    return SavedResults(path=folder, kind="evaluate", tasks={task.name: task}, model=report.how_asked or None)


def _evaluated(folder: Path, saved: Mapping[str, Any]) -> SavedTask:
    """Read the report of one task, its predictions and what each example contributes to the figures."""
    lines, table = folder / PREDICTIONS, folder / STATISTICS
    values = {metric: _number(figure["value"]) for metric, figure in saved["metrics"].items()}
    labels = saved["labels"] if saved["confusion_matrix"] else ()
    where, identities, references, predictions = [], [], [], []
    right: list[float] = []
    texts, clusters = Texts(), None
    for line in prediction_lines(lines, ("where",)):
        if not _fields(line, saved.get("fields")):
            raise DataError(
                f"{folder} is of a private run: it does not hold the inputs, by which examples are found again",
                "Evaluate each model on the same data, with gpt-tasks evaluate RUN --data SRC --output DIR.",
            )
        given = [line["label"]] if "label" in line else line.get("references", [])
        only = len(given) == 1 and isinstance(given[0], str)
        target = given[0] if only else json.dumps(list(dict.fromkeys(map(str, given))), ensure_ascii=False)
        where.append(line["where"])
        texts.add({name: str(line[name]) for name in _fields(line, saved.get("fields"))})
        identities.append(Identity(_asked(line, saved.get("fields")), target if given else None, None))
        references.append(given[0] if labels and len(given) == 1 else given)
        predictions.append(line.get("predicted"))
        if not labels or "label" not in line:
            continue
        right.append(float(line["label"] == line.get("predicted")))
        for label in (line["label"], line.get("predicted")):
            if label not in labels:
                raise DataError(f"{lines}: {line['where']}: {label!r} is no label of {METRICS}", AGAIN["evaluate"])
    check_number(lines, "", len(where), saved["n"], "evaluate")
    shares = _shares_of_right(lines, right, values) if len(right) == len(where) else {}
    if table.is_file():
        rows = list(table_rows(table, ["where", "parts"], "evaluate", ["cluster"]))
        check_number(table, "", len(rows), saved["n"], "evaluate")
        if where != [row["where"] for row in rows]:
            raise DataError(f"{table} is of other examples than {PREDICTIONS}", AGAIN["evaluate"])
        if saved.get("cluster") and rows[0]["cluster"] is not None:
            clusters = np.array([row["cluster"] for row in rows])
        forms = {part["metric"]: part["form"] for row in rows[:1] for part in row["parts"]}
        statistics = _parts(table, rows, values, _aggregates(forms, saved["task"]), "evaluate")
    elif shares:
        # gpt-tasks 0.1.0 wrote no table for labels.
        statistics = shares
    else:
        raise DataError(f"{folder} holds no {STATISTICS}: an older gpt-tasks evaluated it", AGAIN["evaluate"])
    return SavedTask(
        saved["task"],
        saved["task"],
        values,
        where,
        identities,
        statistics,
        references,
        predictions,
        labels,
        cluster=saved.get("cluster", ""),
        clusters=clusters,
        texts=texts,
    )


def _shares_of_right(file: Path, right: Sequence[float], values: Mapping[str, float]) -> dict[str, Statistics]:
    """Return the shares of examples that got the right label, by the names that they have as metrics."""
    each = Statistics(np.array(right)[:, None], np.ones(len(right)))
    for metric in (names := [name for name in ("accuracy", "micro_f1") if name in values]):
        _check_value(file, metric, each, np.zeros(len(right)), values[metric], "evaluate")
    return dict.fromkeys(names, each)


def _asked(line: Mapping[str, Any], fields: Sequence[str] | None) -> bytes:
    """Return a digest of the inputs: the fields, where the report names them."""
    return _digest([(name, line[name]) for name in _fields(line, fields)], ())


def _fields(line: Mapping[str, Any], fields: Sequence[str] | None) -> list[str]:
    return [name for name in fields or line if name in line and (fields or name not in ANSWERED)]


def _digest(inputs: Sequence[tuple[str, Any]], choices: Sequence[str]) -> bytes:
    whole = json.dumps([sorted(inputs), list(choices)])
    return hashlib.blake2b(whole.encode(), digest_size=16).digest()


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
