"""Read back what `score` and `evaluate` have left in a folder: the figures, and the examples they come from."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from gpt_tasks.errors import DataError
from gpt_tasks.evaluation.parts import PARTS, Parts
from gpt_tasks.evaluation.report import ANSWERED
from gpt_tasks.evaluation.report import SCHEMA_VERSION as REPORT_VERSION
from gpt_tasks.scoring.results import EXAMPLES, SCORES
from gpt_tasks.scoring.results import SCHEMA_VERSION as SCORES_VERSION
from gpt_tasks.tasks.measures import Form, finished

METRICS, PREDICTIONS = "metrics.json", "predictions.jsonl"
Kind = Literal["score", "evaluate"]
FILES: Mapping[Kind, tuple[str, str]] = {"score": (SCORES, EXAMPLES), "evaluate": (METRICS, PREDICTIONS)}
_AGAIN = {"score": "Score again.", "evaluate": "Evaluate again."}


class Identity(NamedTuple):
    """What makes two examples the same: a digest of their inputs and choices, the right answer, the group."""

    asked: bytes
    target: str | None
    group: str | None


@dataclass(frozen=True)
class KeptTask:
    """One task of a folder: its figures, and by example in the file's order what they come from.

    `parts` are there for what follows from sums, `references` and `predictions` (labels) for a classification.
    """

    name: str
    values: Mapping[str, float]
    where: Sequence[str]
    identities: Sequence[Identity]
    parts: Mapping[str, Parts]
    references: Sequence[str] = ()
    predictions: Sequence[str] = ()
    shots: int | None = None


@dataclass(frozen=True)
class Kept:
    """One folder: its tasks by name, and the model and suite that they were made with, where that is known."""

    path: Path
    kind: Kind
    tasks: Mapping[str, KeptTask]
    model: str | None = None
    suite: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


def kinds(folder: Path) -> list[Kind]:
    """Say by which commands a folder was written: those of which it holds a file."""
    return [kind for kind, files in FILES.items() if any((folder / file).is_file() for file in files)]


def read_kept(folder: Path, kind: Kind) -> Kept:
    """Read a folder that a command of this kind wrote. Raises DataError where it is damaged or of another schema."""
    for file in FILES[kind]:
        if not (folder / file).is_file():
            raise DataError(f"{folder} is cut short: it holds no {file}", _AGAIN[kind])
    return _read_scores(folder) if kind == "score" else _read_report(folder)


def _read_scores(folder: Path) -> Kept:
    file = folder / SCORES
    saved = _json(file, SCORES_VERSION, "score")
    rows: dict[str, list[Mapping[str, Any]]] = {}
    columns = ["task", "where", "inputs", "choices", "target", "group", "parts"]
    for row in _rows(folder / EXAMPLES, columns, "score"):
        rows.setdefault(row["task"], []).append(row)
    try:
        return Kept(
            path=folder,
            kind="score",
            tasks={task["name"]: _scored(folder, task, rows.get(task["name"], [])) for task in saved["tasks"]},
            model=saved["model"]["spec"],
            suite=dict(saved["suite"]),
            settings=saved["settings"],
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(file, error, "score") from error


def _scored(folder: Path, task: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> KeptTask:
    name, file = task["name"], folder / EXAMPLES
    _check_number(file, f" of task '{name}'", len(rows), task["n"], "score")
    values = {metric: _number(figure["value"]) for metric, figure in task["metrics"].items()}
    forms = {metric: figure["form"] for metric, figure in task["metrics"].items()}
    return KeptTask(
        name=name,
        values=values,
        where=[row["where"] for row in rows],
        identities=[Identity(_digest(row["inputs"], row["choices"]), row["target"], row["group"]) for row in rows],
        parts=_parts(file, rows, values, forms, "score"),
        shots=task["shots"],
    )


def _parts(
    file: Path,
    rows: Sequence[Mapping[str, Any]],
    values: Mapping[str, float],
    forms: Mapping[str, Form],
    kind: Kind,
) -> dict[str, Parts]:
    """Return what the rows of a table bring to each metric."""
    groups = np.array([row.get("group") or "" for row in rows])
    by_metric = [{part["metric"]: part for part in row["parts"]} for row in rows]
    found = {}
    for metric, value in values.items():
        own = [each[metric] for each in by_metric]
        columns, weights = np.array([part["values"] for part in own]), np.array([part["weight"] for part in own])
        found[metric] = Parts(columns, weights, forms[metric])
        _check_value(file, metric, found[metric], groups, value, kind)
    return found


def _check_value(file: Path, metric: str, parts: Parts, groups: np.ndarray, value: float, kind: Kind) -> None:
    """Raise DataError where the examples do not come to the figure that was kept."""
    reached = []
    for group in np.unique(groups):
        weights = parts.weights[groups == group]
        sums = (parts.values[groups == group] * weights[:, None]).sum(axis=0)
        reached.append(float(finished(parts.form, sums, weights.sum())))
    mean = float(np.mean(reached))
    neither = math.isnan(value) and not math.isfinite(mean)
    if not neither and not math.isclose(mean, value, rel_tol=1e-9, abs_tol=1e-12):
        raise DataError(f"{file}: the examples do not come to the {metric} that {FILES[kind][0]} tells", _AGAIN[kind])


def _read_report(folder: Path) -> Kept:
    file = folder / METRICS
    saved = _json(file, REPORT_VERSION, "evaluate")
    try:
        values = {metric: _number(figure["value"]) for metric, figure in saved["metrics"].items()}
        read = _labelled if saved["confusion_matrix"] else _measured
        task = read(folder, saved, values)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(file, error, "evaluate") from error
    return Kept(path=folder, kind="evaluate", tasks={task.name: task})


def _labelled(folder: Path, saved: Mapping[str, Any], values: Mapping[str, float]) -> KeptTask:
    """Read the report of a classification."""
    lines, labels = folder / PREDICTIONS, set(saved["labels"])
    where, identities, references, predictions = [], [], [], []
    for line in _predictions(lines, ("where", "label", "predicted")):
        where.append(line["where"])
        identities.append(Identity(_asked(line), line["label"], None))
        references.append(line["label"])
        predictions.append(line["predicted"])
    _check_number(lines, "", len(where), saved["n"], "evaluate")
    for place, label, predicted in zip(where, references, predictions, strict=True):
        if label not in labels or predicted not in labels:
            odd = predicted if label in labels else label
            raise DataError(f"{lines}: {place}: {odd!r} is no label of {METRICS}", _AGAIN["evaluate"])
    right = np.array([[label == predicted] for label, predicted in zip(references, predictions, strict=True)], float)
    shares = {metric: Parts(right, np.ones(len(right))) for metric in ("accuracy", "micro_f1") if metric in values}
    for metric, parts in shares.items():
        _check_value(lines, metric, parts, np.zeros(len(right)), values[metric], "evaluate")
    return KeptTask(saved["task"], values, where, identities, shares, references, predictions)


def _measured(folder: Path, saved: Mapping[str, Any], values: Mapping[str, float]) -> KeptTask:
    """Read the report of what has no labels: what each example brings to its figures stands in a table."""
    lines, table = folder / PREDICTIONS, folder / PARTS
    if not table.is_file():
        raise DataError(f"{folder} holds no {PARTS}: an older gpt-tasks evaluated it", _AGAIN["evaluate"])
    where, identities = [], []
    for line in _predictions(lines, ("where",)):
        references = line.get("references", [])
        target = references[0] if len(references) == 1 else json.dumps(references, ensure_ascii=False)
        where.append(line["where"])
        identities.append(Identity(_asked(line), target if references else None, None))
    rows = list(_rows(table, ["where", "parts"], "evaluate"))
    for file, number in ((lines, len(where)), (table, len(rows))):
        _check_number(file, "", number, saved["n"], "evaluate")
    if where != [row["where"] for row in rows]:
        raise DataError(f"{table} is of other examples than {PREDICTIONS}", _AGAIN["evaluate"])
    forms = {part["metric"]: part["form"] for row in rows[:1] for part in row["parts"]}
    return KeptTask(saved["task"], values, where, identities, _parts(table, rows, values, forms, "evaluate"))


def _rows(file: Path, columns: Sequence[str], kind: Kind) -> Iterator[Mapping[str, Any]]:
    try:
        with parquet.ParquetFile(file) as opened:
            missing = [column for column in columns if column not in opened.schema_arrow.names]
            if missing:
                raise DataError(f"{file} has no column '{missing[0]}': it is of another schema", _AGAIN[kind])
            for batch in opened.iter_batches(columns=columns):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise _damaged(file, error, kind) from error


def _predictions(file: Path, needed: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    with file.open(encoding="utf-8", newline="\n") as lines:
        number = 0
        try:
            for number, line in enumerate(lines, start=1):  # noqa: B007 - named in the error
                found = json.loads(line)
                _ = [found[name] for name in needed]
                yield found
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{file}:{number}: this is no prediction; the file is cut short or damaged", _AGAIN["evaluate"]
            ) from error


def _json(file: Path, version: int, kind: Kind) -> Mapping[str, Any]:
    try:
        saved = json.loads(file.read_text(encoding="utf-8"))
        found = saved["schema_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(file, error, kind) from error
    if found != version:
        newer = isinstance(found, int) and found > version
        raise DataError(
            f"{file} has schema version {found}; this gpt-tasks reads {version}",
            "Upgrade gpt-tasks." if newer else _AGAIN[kind],
        )
    whole: Mapping[str, Any] = saved
    return whole


def _check_number(file: Path, of_what: str, found: int, told: Any, kind: Kind) -> None:
    if found != told:
        raise DataError(
            f"{file} holds {found} examples{of_what}, where {FILES[kind][0]} tells of {told}: it is cut short",
            _AGAIN[kind],
        )


def _damaged(file: Path, error: Exception, kind: Kind) -> DataError:
    cause = " ".join(f"{type(error).__name__}: {error}".split())
    return DataError(f"{file} is cut short or damaged: {cause[:200]}", _AGAIN[kind])


def _asked(line: Mapping[str, Any]) -> bytes:
    return _digest([(name, told) for name, told in line.items() if name not in ANSWERED], ())


def _digest(inputs: Sequence[tuple[str, Any]], choices: Sequence[str]) -> bytes:
    whole = json.dumps([sorted(inputs), list(choices)])
    return hashlib.blake2b(whole.encode(), digest_size=16).digest()


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
