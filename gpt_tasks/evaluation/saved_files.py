"""The files that `score` and `evaluate` leave in a folder, read as they are, or refused where they are damaged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
from pyarrow import parquet

from gpt_tasks.errors import DataError
from gpt_tasks.files import parse_json
from gpt_tasks.saved_json import read_json
from gpt_tasks.scoring.results import EXAMPLES, SCORES

METRICS, PREDICTIONS = "metrics.json", "predictions.jsonl"
Kind = Literal["score", "evaluate"]
FILES: Mapping[Kind, tuple[str, str]] = {"score": (SCORES, EXAMPLES), "evaluate": (METRICS, PREDICTIONS)}
AGAIN = {"score": "Score again.", "evaluate": "Evaluate again."}


def kinds(folder: Path) -> list[Kind]:
    """Say by which commands a folder was written: those whose files it holds."""
    return [kind for kind, files in FILES.items() if any((folder / file).is_file() for file in files)]


def table_rows(
    file: Path, columns: Sequence[str], kind: Kind, optional: Sequence[str] = ()
) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of a table; `optional` are columns that older ones lack."""
    try:
        with parquet.ParquetFile(file) as opened:
            missing = [column for column in columns if column not in opened.schema_arrow.names]
            if missing:
                raise DataError(f"{file} has no column '{missing[0]}': it is of another schema", AGAIN[kind])
            there = [*columns, *(column for column in optional if column in opened.schema_arrow.names)]
            for batch in opened.iter_batches(columns=there):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise damaged(file, error, kind) from error


def prediction_lines(file: Path, needed: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    """Yield the lines of a file of predictions, which have all that is `needed`."""
    with file.open(encoding="utf-8", newline="\n") as lines:
        number = 0
        try:
            for number, line in enumerate(lines, start=1):  # noqa: B007 - named in the error
                found = parse_json(line)
                _ = [found[name] for name in needed]
                yield found
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DataError(
                f"{file}:{number}: this is no prediction; the file is cut short or damaged", AGAIN["evaluate"]
            ) from error


def saved_json(file: Path, version: int, kind: Kind) -> Mapping[str, Any]:
    """Return what a JSON file of this schema version holds."""
    saved = read_json(file, AGAIN[kind], DataError)
    found = saved.get("schema_version")
    if found != version:
        newer = isinstance(found, int) and found > version
        raise DataError(
            f"{file} has schema version {found!r:.20}; this gpt-tasks reads {version}",
            "Upgrade gpt-tasks." if newer else AGAIN[kind],
        )
    return saved


def check_number(file: Path, of_what: str, found: int, recorded: Any, kind: Kind) -> None:
    """Raise DataError where a file holds another number of examples than the figures are of."""
    if found != recorded:
        raise DataError(
            f"{file} holds {found} examples{of_what}, where {FILES[kind][0]} records {recorded}: it is cut short",
            AGAIN[kind],
        )


def damaged(file: Path, error: Exception, kind: Kind) -> DataError:
    """Return the error of a file that cannot be read as a whole."""
    cause = " ".join(f"{type(error).__name__}: {error}".split())
    return DataError(f"{file} is cut short or damaged: {cause[:200]}", AGAIN[kind])
