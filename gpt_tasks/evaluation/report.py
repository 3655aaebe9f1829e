"""The report of one evaluation: every figure with its interval, next to those of the baselines."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from gpt_tasks.files import json_safe
from gpt_tasks.saved_json import first_fault
from gpt_tasks.types import Score

ANSWERED = frozenset(
    ["where", "label", "references", "predicted", "probabilities", "probability", "start", "end", "n_best", "finish"]
)
"""What a line of predictions.jsonl holds besides the inputs, in reports that do not name their `fields`."""

SCHEMA_VERSION = 1
MOST_MISTAKES = 20
MOST_SLICES = 50
MOST_SAMPLES = 10
_UNDEFINED = frozenset(["value", "low", "high", "stderr", "probability"])


@dataclass(frozen=True, slots=True)
class LabelScores:
    """Figures of one label; the n of its precision counts its predictions, that of recall and F1 its support."""

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
    """An example that is shown: its inputs, the references, and what the model answered."""

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
    `confusion_matrix`, which may have one more for what has no label. `answers` names the kind of answer in a word.
    `baselines` maps each baseline to its own metrics. There are `mistakes`, the most confident ones first, or
    `samples`. `training` says what training took, in seconds and MiB, `directions` whether a metric is better higher or
    lower, `fields` the inputs in a line of predictions.jsonl, `cluster` by which column or field examples belong
    together in standard errors and intervals. `asked` is, of a model that was prompted without training, which one it
    was and how it was prompted. `verdict` says what to try where the model is no better than a baseline.
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
    answers: str = "label"
    directions: Mapping[str, str] = field(default_factory=dict)
    fields: tuple[str, ...] = ()
    cluster: str = ""
    asked: Mapping[str, Any] = field(default_factory=dict)
    verdict: str = ""

    @property
    def how_asked(self) -> str:
        """Which model was prompted and how, in a line; empty of a fine-tuned one."""
        told = {name: value for name, value in self.asked.items() if name != "fingerprint"}
        return ", ".join(f"{name} {value}" for name, value in told.items() if value or name == "shots")

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
            "directions": dict(self.directions),
            "fields": list(self.fields),
            "cluster": self.cluster,
            "asked": dict(self.asked),
            "verdict": self.verdict,
        }

    def values(self) -> dict[str, float]:
        """Return the metrics' values alone."""
        return {name: score.value for name, score in self.metrics.items()}

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Report:
        """Rebuild a report. Raises ValueError for another schema version, and naming the field that is damaged."""
        version = saved.get("schema_version")
        if version != SCHEMA_VERSION:
            raise ValueError(f"schema version {version!r:.20} is not {SCHEMA_VERSION}")
        values = {"answers": "label" if saved.get("labels") else "text", **saved}
        slices = saved.get("slices")
        if isinstance(slices, dict) and "values" in slices:
            values["slices"] = {"by": slices.get("by"), "metrics": slices["values"]}
        try:
            return _schema().validate_python(_without_null(values))
        except ValidationError as error:
            raise ValueError(first_fault(error)) from error


@cache
def _schema() -> TypeAdapter[Report]:
    return TypeAdapter(Report)


def _without_null(saved: Any) -> Any:
    """Return NaN for each null where a figure was undefined."""
    if isinstance(saved, list):
        return [_without_null(part) for part in saved]
    if not isinstance(saved, dict):
        return saved
    return {
        name: math.nan if part is None and name in _UNDEFINED else _without_null(part) for name, part in saved.items()
    }


def _score_to_json(figure: Score) -> dict[str, float | int | None]:
    return {
        "value": json_safe(figure.value),
        "low": json_safe(figure.low),
        "high": json_safe(figure.high),
        "n": figure.n,
        "stderr": json_safe(figure.stderr),
    }


def _scores_to_json(scores: Mapping[str, Score]) -> dict[str, dict[str, float | int | None]]:
    return {name: _score_to_json(figure) for name, figure in scores.items()}
