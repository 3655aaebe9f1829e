"""What each example brings to a figure; of an evaluation without labels, a table beside its predictions."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from gpt_tasks.files import atomic_path, atomic_write
from gpt_tasks.scoring.results import Figure, figure, figure_of
from gpt_tasks.tasks.measures import Form, Measure, Part, ranked
from gpt_tasks.types import Score

PARTS = "parts.parquet"
# So many rows are laid out at a time.
_ROWS = 1024


@dataclass(frozen=True)
class Parts:
    """What each example brings to a figure: values `[n, columns]` and weights `[n]`; `form` says what follows."""

    values: np.ndarray
    weights: np.ndarray
    form: Form = "mean"

    @property
    def is_share(self) -> bool:
        """Whether the figure is a plain share of the examples."""
        plain = self.form == "mean" and bool((self.weights == 1.0).all())
        return plain and bool(np.isin(self.values, (0.0, 1.0)).all())


class Gathering:
    """Gathers what examples bring to measures, as numbers in arrays: a million examples take a few MB."""

    def __init__(self, measures: Sequence[Measure]) -> None:
        self._measures = measures
        self._found: dict[str, tuple[list[np.ndarray], list[np.ndarray]]] = {}

    def add(self, brought: Sequence[Mapping[str, Part]]) -> None:
        """Take what some examples bring, each to the same measures."""
        for measure in self._measures:
            if brought and measure.name in brought[0]:
                parts = [each[measure.name] for each in brought]
                values, weights = self._found.setdefault(measure.name, ([], []))
                values.append(np.array([part.columns for part in parts]))
                weights.append(np.array([part.weight for part in parts]))

    def parts(self) -> dict[str, Parts]:
        """Return what all examples brought to each measure that anything was brought to."""
        found = {}
        for measure in self._measures:
            if measure.name in self._found:
                values, weights = (np.concatenate(arrays) for arrays in self._found[measure.name])
                found[measure.name] = Parts(ranked(measure, values), weights, measure.form)
        return found

    def scores(self) -> dict[str, Score]:
        """Return the figures of these measures, with their intervals."""
        gathered = self.parts()
        return {
            measure.name: _score(figure_of(measure, gathered[measure.name].values, gathered[measure.name].weights))
            for measure in self._measures
            if measure.name in gathered
        }


def score(measure: Measure, parts: Sequence[Part]) -> Score:
    """Return the figure that follows from what examples bring, `[n]`, with its interval."""
    return _score(figure(measure, parts))


def _score(found: Figure) -> Score:
    return Score(found.value, found.low, found.high, found.n)


def write_lines(folder: Path | None, lines: Iterable[Mapping[str, Any]]) -> None:
    """Write predictions.jsonl, a line for each example as it comes; without a folder only let them come."""
    if folder is None:
        deque(lines, maxlen=0)
        return
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / "predictions.jsonl") as file:
        file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def write_parts(folder: Path, where: Sequence[str], parts: Mapping[str, Parts]) -> None:
    """Write parts.parquet, which is there as a whole or not at all: a row for each line of predictions.jsonl.

    `where` `[n]` names the examples, `parts` holds what they bring to each measure.
    """
    with atomic_path(folder / PARTS) as draft, parquet.ParquetWriter(draft, _SCHEMA) as writer:
        for start in range(0, len(where), _ROWS):
            some = slice(start, start + _ROWS)
            columns = [
                (name, kept.form, kept.values[some].tolist(), kept.weights[some].tolist())
                for name, kept in parts.items()
            ]
            rows = [
                {
                    "where": place,
                    "parts": [
                        {"metric": name, "form": form, "values": values[row], "weight": weights[row]}
                        for name, form, values, weights in columns
                    ],
                }
                for row, place in enumerate(where[some])
            ]
            writer.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA))


_PART = [("metric", pa.string()), ("form", pa.string()), ("values", pa.list_(pa.float64())), ("weight", pa.float64())]
_SCHEMA = pa.schema([("where", pa.string()), ("parts", pa.list_(pa.struct(_PART)))])
