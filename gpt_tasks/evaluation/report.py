"""The report of one evaluation: every figure with its interval, and beside it what the baselines reach."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from gpt_tasks.errors import DataError
from gpt_tasks.extensions import Metric
from gpt_tasks.files import atomic_write, json_safe
from gpt_tasks.metrics.classification import confidence, confusion_matrix
from gpt_tasks.metrics.intervals import label_f1, proportion, score
from gpt_tasks.types import Example, Score

AnswerKind = Literal["label", "labels", "number", "choice", "span", "text"]
"""What a model answers: one of several labels, all that are right, a number, one of an example's choices, a stretch of
its context, or a text."""

ANSWERED = frozenset(
    ["where", "label", "references", "predicted", "probabilities", "probability", "start", "end", "n_best", "finish"]
)
"""What a line of predictions.jsonl holds beside what was asked."""

SCHEMA_VERSION = 1
MOST_MISTAKES = 20
MOST_SLICES = 50


@dataclass(frozen=True, slots=True)
class LabelScores:
    """How well one label is told; the n of its precision counts its predictions, that of recall and F1 its support."""

    precision: Score
    recall: Score
    f1: Score


@dataclass(frozen=True, slots=True)
class Mistake:
    """An example that got a wrong label, and the probability that the model gave to it."""

    where: str
    inputs: Mapping[str, str]
    label: str
    predicted: str
    probability: float


@dataclass(frozen=True, slots=True)
class Sample:
    """An example of a task whose answers are no single labels: the right ones, and what the model answered."""

    where: str
    inputs: Mapping[str, str]
    references: tuple[str, ...]
    predicted: str


@dataclass(frozen=True, slots=True)
class Slices:
    """The metrics of the examples of each value of a column, the most frequent first."""

    by: str
    metrics: Mapping[str, Mapping[str, Score]]


@dataclass(frozen=True)
class Report:
    """The figures of one evaluation over `n` examples of a split.

    `labels` are in the model's order, as are the rows (right labels) and columns (predicted labels) of
    `confusion_matrix`, which only one of several labels has; other `answers` have some `samples`. `baselines` maps each
    baseline to its own metrics. `mistakes` holds the most confident ones first. `training` says what training took, in
    seconds and MiB.
    """

    task: str
    split: str
    n: int
    labels: tuple[str, ...]
    metrics: Mapping[str, Score]
    per_label: Mapping[str, LabelScores]
    confusion_matrix: tuple[tuple[int, ...], ...]
    baselines: Mapping[str, Mapping[str, Score]] = field(default_factory=dict)
    slices: Slices | None = None
    mistakes: tuple[Mistake, ...] = ()
    samples: tuple[Sample, ...] = ()
    training: Mapping[str, float | int | str | None] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    answers: AnswerKind = "label"

    def to_json(self) -> dict[str, Any]:
        """Return what metrics.json holds: JSON values only, with null for what is not a finite number."""
        return {
            "schema_version": SCHEMA_VERSION,
            "task": self.task,
            "split": self.split,
            "n": self.n,
            "answers": self.answers,
            "labels": list(self.labels),
            "metrics": _scores_to_json(self.metrics),
            "baselines": {name: _scores_to_json(scores) for name, scores in self.baselines.items()},
            "per_label": {
                label: {name: _score_to_json(getattr(scores, name)) for name in LabelScores.__slots__}
                for label, scores in self.per_label.items()
            },
            "confusion_matrix": [list(row) for row in self.confusion_matrix],
            "slices": None
            if self.slices is None
            else {
                "by": self.slices.by,
                "values": {value: _scores_to_json(scores) for value, scores in self.slices.metrics.items()},
            },
            "mistakes": [
                {
                    "where": mistake.where,
                    "inputs": dict(mistake.inputs),
                    "label": mistake.label,
                    "predicted": mistake.predicted,
                    "probability": json_safe(mistake.probability),
                }
                for mistake in self.mistakes
            ],
            "samples": [asdict(sample) for sample in self.samples],
            "training": {name: json_safe(value) for name, value in self.training.items()},
            "notes": list(self.notes),
        }

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Report:
        """Rebuild a report. Raises ValueError for another schema version, KeyError or TypeError for what is damaged."""
        if saved["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"schema version {saved['schema_version']} is not {SCHEMA_VERSION}")
        slices = saved["slices"]
        return cls(
            task=saved["task"],
            split=saved["split"],
            n=saved["n"],
            labels=tuple(saved["labels"]),
            metrics=_scores_from_json(saved["metrics"]),
            per_label={label: LabelScores(**_scores_from_json(scores)) for label, scores in saved["per_label"].items()},
            confusion_matrix=tuple(tuple(row) for row in saved["confusion_matrix"]),
            baselines={name: _scores_from_json(scores) for name, scores in saved["baselines"].items()},
            slices=None
            if slices is None
            else Slices(slices["by"], {value: _scores_from_json(scores) for value, scores in slices["values"].items()}),
            mistakes=tuple(
                Mistake(**{**mistake, "probability": _number(mistake["probability"])}) for mistake in saved["mistakes"]
            ),
            samples=tuple(
                Sample(**{**sample, "references": tuple(sample["references"])}) for sample in saved.get("samples", [])
            ),
            training=dict(saved["training"]),
            notes=tuple(saved["notes"]),
            answers=saved.get("answers", "label" if saved["labels"] else "text"),
        )


class ExampleReader(Protocol):
    """Examples by their place. Only those that the report shows are read."""

    def __getitem__(self, index: int, /) -> Example: ...


def build_report(
    *,
    task: str,
    split: str,
    labels: Sequence[str],
    metrics: Sequence[Metric],
    references: np.ndarray,
    probabilities: np.ndarray,
    examples: ExampleReader,
    baselines: Mapping[str, np.ndarray] | None = None,
    by: str | None = None,
    values: Sequence[str] | None = None,
    training: Mapping[str, float | int | str | None] | None = None,
    notes: Sequence[str] = (),
    seed: int = 0,
) -> Report:
    """Compute the report of a model from its `probabilities` `[n, labels]` and the right label indices `[n]`.

    `baselines` gives each baseline's probabilities for the same examples; `values` `[n]` those of column `by`, of
    which the 50 most frequent are evaluated by themselves. Raises DataError where there is no example, PluginError
    where a metric fails.
    """
    if not len(references):
        raise DataError(f"The {split} split is empty", "Give labelled rows to evaluate on.")
    predictions = probabilities.argmax(axis=1)

    def scores(rows: np.ndarray | slice, given: np.ndarray = probabilities) -> dict[str, Score]:
        chosen = given[rows].argmax(axis=1)
        return {
            metric.name: score(metric, references[rows], chosen, given[rows], labels, seed=seed) for metric in metrics
        }

    slices, notes = None, list(notes)
    if by is not None and values is not None:
        places = _places(values)
        if len(places) > MOST_SLICES:
            notes.append(f"Column '{by}' has {len(places)} values; the {MOST_SLICES} most frequent are shown.")
        slices = Slices(by, {value: scores(rows) for value, rows in list(places.items())[:MOST_SLICES]})
    counts = confusion_matrix(references, predictions, labels)
    return Report(
        task=task,
        split=split,
        n=len(references),
        labels=tuple(labels),
        metrics=scores(slice(None)),
        per_label={label: _label_scores(counts, index) for index, label in enumerate(labels)},
        confusion_matrix=tuple(tuple(row) for row in counts.tolist()),
        baselines={name: scores(slice(None), given) for name, given in (baselines or {}).items()},
        slices=slices,
        mistakes=_mistakes(labels, references, predictions, probabilities, examples),
        training=dict(training or {}),
        notes=tuple(notes),
    )


def write_predictions(
    path: Path,
    examples: Iterable[Example],
    labels: Sequence[str],
    probabilities: np.ndarray,
) -> None:
    """Write one line of JSON for each example, as they come: where, its texts, label, predicted, probabilities.

    `probabilities` is `[n, labels]`; the label is null where it is not known. The file is there as a whole or not at
    all.
    """
    with atomic_write(path) as file:
        for example, row in zip(examples, probabilities, strict=True):
            line = {
                "where": example.where,
                **example.inputs,
                "label": example.target,
                "predicted": labels[int(row.argmax())],
                "probabilities": {label: round(float(p), 6) for label, p in zip(labels, row, strict=True)},
            }
            file.write(json.dumps(json_safe(line), ensure_ascii=False, allow_nan=False) + "\n")


def _label_scores(counts: np.ndarray, index: int) -> LabelScores:
    right = int(counts[index, index])
    return LabelScores(
        precision=proportion(right, int(counts[:, index].sum())),
        recall=proportion(right, int(counts[index].sum())),
        f1=label_f1(counts, index),
    )


def _places(values: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the rows of each value, the most frequent value first, those that tie in the order of their letters."""
    column = np.asarray(values, dtype=object)
    frequent = sorted(Counter(values).items(), key=lambda item: (-item[1], item[0]))
    order = {value: place for place, (value, _) in enumerate(frequent)}
    place_of = np.fromiter((order[value] for value in column), dtype=np.int64, count=len(column))
    by_place = np.argsort(place_of, kind="stable")
    ends = np.cumsum([count for _, count in frequent])
    return {value: rows for (value, _), rows in zip(frequent, np.split(by_place, ends[:-1]), strict=True)}


def _mistakes(
    labels: Sequence[str],
    references: np.ndarray,
    predictions: np.ndarray,
    probabilities: np.ndarray,
    examples: ExampleReader,
) -> tuple[Mistake, ...]:
    wrong = np.flatnonzero(references != predictions)
    confidences = confidence(predictions[wrong], probabilities[wrong])
    worst = wrong[np.argsort(-confidences, kind="stable")[:MOST_MISTAKES]]
    found = []
    for index in worst.tolist():
        example, predicted = examples[index], int(predictions[index])
        found.append(
            Mistake(
                where=example.where,
                inputs=dict(example.inputs),
                label=labels[int(references[index])],
                predicted=labels[predicted],
                probability=float(probabilities[index, predicted]),
            )
        )
    return tuple(found)


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _score_to_json(figure: Score) -> dict[str, float | int | None]:
    return {
        "value": json_safe(figure.value),
        "low": json_safe(figure.low),
        "high": json_safe(figure.high),
        "n": figure.n,
    }


def _scores_to_json(scores: Mapping[str, Score]) -> dict[str, dict[str, float | int | None]]:
    return {name: _score_to_json(figure) for name, figure in scores.items()}


def _scores_from_json(saved: Mapping[str, Mapping[str, Any]]) -> dict[str, Score]:
    return {
        name: Score(_number(figure["value"]), _number(figure["low"]), _number(figure["high"]), figure["n"])
        for name, figure in saved.items()
    }
