"""Write the rows of a source with their answers to a file, in the format that its name says."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from gpt_tasks.data.invalid import InvalidRow, readable
from gpt_tasks.errors import DataError, UsageError
from gpt_tasks.evaluation.answer_tables import check_workbooks, write_delimited, write_parquet, write_workbook
from gpt_tasks.files import json_safe, json_text
from gpt_tasks.paths import check_output_file, is_stream, open_output, output_draft, real
from gpt_tasks.tasks.base import Task
from gpt_tasks.types import Example, Row

PREDICTION, CONFIDENCE, REASON = "prediction", "confidence", "reason"
DELIMITERS = {".csv": ",", ".tsv": "\t"}
TABLES = {".xlsx": write_workbook, ".parquet": write_parquet}
SUFFIXES = (*DELIMITERS, ".jsonl", *TABLES)


@dataclass(frozen=True)
class AnswerColumns:
    """What of an answer becomes columns: the prediction with its confidence, if it has one, and on request more.

    `probabilities` adds all that the task says of an answer, as the probability of every label, each in a column; those
    of choices, which differ from row to row, are one. `top_k` adds the labels of the next highest probability, up to so
    many in all; `reason` why a row that cannot be used has no answer.
    """

    probabilities: bool = False
    top_k: int = 1
    reason: bool = False

    def of(self, task: Task, example: Example, prediction: Any) -> dict[str, Any]:
        """Return an answer's values by column; one of an example's choices is its text.

        Raises UsageError for a `top_k` of more labels than there are, or of a task that does not choose one of several.
        """
        said = answer_json(task, example, prediction)
        predicted, by_label = said.pop("predicted"), said.get("probabilities")
        one_of = by_label if isinstance(by_label, Mapping) and isinstance(predicted, str) else {}
        confidence = task.confidence(prediction)
        columns = {PREDICTION: predicted}
        if confidence is not None:
            columns[CONFIDENCE] = round(confidence, 6)
        if self.top_k > 1:
            if not one_of:
                raise UsageError(
                    f"--top-k {self.top_k}: task '{task.name}' does not choose one of several labels", "Leave it out."
                )
            if self.top_k > len(one_of) and not example.choices:
                raise UsageError(f"--top-k {self.top_k}: there are {len(one_of)} labels", "Give no more than these.")
            others = [(label, p) for label, p in one_of.items() if label != predicted]
            others.sort(key=lambda item: -item[1])
            # Not all rows have as many choices.
            padded = [*others, *([(None, None)] * (self.top_k - len(one_of)))]
            for place, (label, probability) in enumerate(padded[: self.top_k - 1], start=2):
                columns |= {f"{PREDICTION}_{place}": label, f"{CONFIDENCE}_{place}": probability}
        if self.probabilities:
            if not said:
                raise UsageError(
                    f"--probabilities: task '{task.name}' says nothing of an answer but the answer", "Leave it out."
                )
            if isinstance(by_label, Mapping) and not example.choices:
                del said["probabilities"]
                # As the columns of the first row, whatever is most probable.
                known = sorted(by_label, key=[*task.labels, *by_label].index)
                said |= {f"probability_{label}": by_label[label] for label in known}
            columns |= said
        return {**columns, REASON: None} if self.reason else columns


class Answered(NamedTuple):
    """A row as it is written: its columns, and whether it could be used."""

    where: str
    values: Mapping[str, Any]
    is_valid: bool


def check_answer_file(output: Path, sources: Iterable[str | None]) -> None:
    """Raise UsageError where a file of answers cannot be written, or is one that `sources` are read from."""
    check_output_file(output, sources)
    suffix = _suffix(output)
    if suffix in TABLES and is_stream(output):
        raise UsageError(f"--output {output} is no file, and a {suffix} is written to one", "Write a .csv or a .jsonl.")
    if suffix == ".xlsx":
        check_workbooks(output)
    if suffix not in SUFFIXES:
        raise UsageError(
            f"--output {output}: answers are written to {', '.join(SUFFIXES)}", "Give the file one of these endings."
        )


def write_answers(
    output: Path, answered: Iterable[tuple[Row, Example | InvalidRow, Any]], task: Task, columns: AnswerColumns
) -> None:
    """Write rows, each with its prediction, to a file, as `open_output` does: JSON Lines where its name says nothing.

    The columns of the input come first, in their order. Raises DataError where one of them is called as one of the
    answer, or where a later row of a table has columns that the first has not.
    """
    rows, suffix = with_equal_keys(_rows(answered, task, columns)), _suffix(output)
    if suffix in TABLES:
        with output_draft(output) as draft:
            TABLES[suffix](draft, *_uniform(rows))
        return
    with open_output(output) as file:
        if suffix not in DELIMITERS:
            file.writelines(f"{json.dumps(json_safe(row.values), ensure_ascii=False, default=str)}\n" for row in rows)
            return
        header, uniform = _uniform(rows)
        if header:
            write_delimited(file, header, uniform, DELIMITERS[suffix])


def answer_json(task: Task, example: Example, prediction: Any) -> dict[str, Any]:
    """Return what `Task.to_json` says of an answer; an example's choices are named by their texts.

    Files count the places of choices in several ways. Of equal choices the most probable one counts.
    """
    said = task.to_json(prediction)
    if example.choices:
        said["predicted"] = example.choices[int(said["predicted"])]
        by_text: dict[str, float] = {}
        for place, probability in said["probabilities"].items():
            by_text.setdefault(example.choices[int(place)], probability)
        said["probabilities"] = by_text
    return said


def predictions_as_json(
    answered: Iterable[tuple[Example | InvalidRow, Any]], task: Task, *, reason: bool = False
) -> Iterator[str]:
    """Yield one JSON object for each prediction: the inputs, the prediction, and with `reason` why there is none."""

    def lines() -> Iterator[Answered]:
        for row, prediction in answered:
            if isinstance(row, Example):
                said = {REASON: None} if reason else {}
                yield Answered(row.where, {**task.record(row), **answer_json(task, row, prediction), **said}, True)
            else:
                yield Answered(row.where, {**row.inputs, "predicted": None, REASON: row.error.message}, False)

    return (json_text(dict(line.values)) for line in with_equal_keys(lines()))


def with_equal_keys(rows: Iterable[Answered]) -> Iterator[Answered]:
    """Yield rows; one that could not be used has the keys of the first that could, null where it has no value."""
    empty: dict[str, None] | None = None
    waiting: list[Answered] = []
    for row in rows:
        if empty is None and not row.is_valid:
            waiting.append(row)
            continue
        if empty is None:
            empty = dict.fromkeys(row.values)
            yield from (each._replace(values={**empty, **each.values}) for each in waiting)
        yield row if row.is_valid else row._replace(values={**empty, **row.values})


def _rows(
    answered: Iterable[tuple[Row, Example | InvalidRow, Any]], task: Task, columns: AnswerColumns
) -> Iterator[Answered]:
    for row, example, prediction in answered:
        is_valid = isinstance(example, Example)
        if isinstance(example, Example):
            values = columns.of(task, example, prediction)
        else:
            values = {PREDICTION: None, REASON: example.error.message}
        read = row.values if is_valid else readable(row)
        shared = [name for name in values if name in read]
        if shared:
            raise DataError(
                f"{row.where}: there is a column '{shared[0]}' already, which the answers need", "Rename it."
            )
        yield Answered(row.where, {**read, **values}, is_valid)


def _uniform(rows: Iterable[Answered]) -> tuple[list[str], Iterator[tuple[str, Mapping[str, Any]]]]:
    """Return the columns of the first row, and all rows. Raises DataError where a later one has others."""
    coming = iter(rows)
    first = next(coming, None)
    header = [] if first is None else list(first.values)

    def checked() -> Iterator[tuple[str, Mapping[str, Any]]]:
        for row in chain([] if first is None else [first], coming):
            odd = [name for name in row.values if name not in header]
            if odd:
                raise DataError(
                    f"{row.where}: the first row has no column '{odd[0]}'",
                    "Write a .jsonl, whose rows may have their own.",
                )
            yield row.where, row.values

    return header, checked()


def _suffix(output: Path) -> str:
    """Return how the name of a file of answers ends, or that of what it is a link to; .jsonl for a pipe without one."""
    found = next((path.suffix.lower() for path in (output, real(output)) if path.suffix.lower() in SUFFIXES), None)
    return found or (".jsonl" if is_stream(output) else output.suffix.lower())
