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

from gpt_tasks.files import drafted, writing
from gpt_tasks.scoring.results import figure
from gpt_tasks.tasks.measures import Form, Measure, Part
from gpt_tasks.types import Score

PARTS = "parts.parquet"


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


def score(measure: Measure, parts: Sequence[Part]) -> Score:
    """Return the figure that follows from what examples bring, `[n]`, with its interval."""
    found = figure(measure, parts)
    return Score(found.value, found.low, found.high, found.n)


def write_lines(folder: Path | None, lines: Iterable[Mapping[str, Any]]) -> None:
    """Write predictions.jsonl, a line for each example as it comes; without a folder only let them come."""
    if folder is None:
        deque(lines, maxlen=0)
        return
    folder.mkdir(parents=True, exist_ok=True)
    with writing(folder / "predictions.jsonl") as file:
        file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def write_parts(
    folder: Path, where: Sequence[str], measures: Sequence[Measure], parts: Mapping[str, Sequence[Part]]
) -> None:
    """Write parts.parquet, which is there as a whole or not at all: a row for each line of predictions.jsonl.

    `where` `[n]` names the examples, `parts` holds for each measure by its name what they bring, `[n]`.
    """
    rows = [
        {
            "where": place,
            "parts": [
                {"metric": measure.name, "form": measure.form, "values": part.columns, "weight": part.weight}
                for measure, part in zip(measures, brought, strict=True)
            ],
        }
        for place, *brought in zip(where, *(parts[measure.name] for measure in measures), strict=True)
    ]
    with drafted(folder / PARTS) as draft:
        parquet.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), draft)


_PART = [("metric", pa.string()), ("form", pa.string()), ("values", pa.list_(pa.float64())), ("weight", pa.float64())]
_SCHEMA = pa.schema([("where", pa.string()), ("parts", pa.list_(pa.struct(_PART)))])
