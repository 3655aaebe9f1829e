"""The few rows that checks work on: chosen of a task's samples, or made up where it has none."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, zip_longest
from typing import Any

from gpt_tasks.data.sources import open_source
from gpt_tasks.data.split_names import ALL, SPLITS
from gpt_tasks.errors import DataError
from gpt_tasks.extensions import Reader
from gpt_tasks.tasks.base import Task
from gpt_tasks.testing.checks import SkipError
from gpt_tasks.types import Row

TRAINED = 4
"""So many rows are to be learned; validation and test get two each."""
_LEAST = TRAINED + 2
_MOST = TRAINED + 4
_READ = 200
_FILL = "Write samples into train.jsonl, validation.jsonl and test.jsonl, one object a line."


def sample_rows(task: Task, schemes: Mapping[str, Reader]) -> dict[str, list[Row]] | None:
    """Return the first rows of each split of a task's samples, None where it has none.

    Raises DataError where there are files without rows, or too few rows in all.
    """
    folder = task.samples()
    if folder is None:
        return None
    found = {}
    for split, read in open_source(folder, schemes).splits.items():
        found[split] = list(islice(read(), _READ))
        if not found[split]:
            raise DataError(f"The samples of '{task.name}' are empty: {folder} holds no row ({split})", _FILL)
    rows = sum(map(len, found.values()))
    if rows < _LEAST:
        raise DataError(f"The samples of '{task.name}' are {rows} rows, too few to be split", _FILL)
    return found


def made_up_rows(task: Task) -> list[Row]:
    """Return rows that the task's fixtures make up. Raises SkipError where they make none."""
    row = task.fixtures().row
    if row is None:
        raise SkipError("The task has no samples, and its fixtures() make no `row`.", "not run")
    return [Row(row(number), f"made-up row {number + 1}") for number in range(_MOST)]


def few_rows(task: Task, samples: Mapping[str, Sequence[Row]]) -> list[Row]:
    """Return short sample rows of different targets: those to be learned first."""
    fixtures = task.fixtures()
    rows = [row for split in ("train", ALL, *SPLITS[1:]) for row in samples.get(split, ())]
    groups: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: len(_as_json(row.values))):
        groups.setdefault(fixtures.target_key(row) if fixtures.target_key else "", []).append(row)
    turns = (row for some in zip_longest(*groups.values()) for row in some if row is not None)
    ordered = list(_distinct(turns))
    first, rest = ordered[:TRAINED], ordered[TRAINED:]
    labels = fixtures.target_labels
    if labels is not None:
        # What is judged must be known of what was learned, where labels are the data's own.
        known = set().union(*(labels(row) for row in first))
        rest.sort(key=lambda row: not labels(row) <= known)
    return [*first, *rest[: _MOST - TRAINED]]


def as_jsonl(rows: Sequence[Row]) -> str:
    """Return rows as lines of JSON."""
    return "".join(f"{_as_json(row.values)}\n" for row in rows)


def _distinct(rows: Iterator[Row]) -> Iterator[Row]:
    seen = set()
    for row in rows:
        key = _as_json(row.values)
        if key not in seen:
            seen.add(key)
            yield row


def _as_json(value: Any) -> str:
    return json.dumps(dict(value) if isinstance(value, Mapping) else value, ensure_ascii=False, default=str)
