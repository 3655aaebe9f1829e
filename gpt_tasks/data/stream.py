"""Read a split of a source as examples of a task, row by row; rows that cannot be used are counted, or left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain

from gpt_tasks.data.examples import check_encodable
from gpt_tasks.data.invalid import InvalidRow, InvalidRows
from gpt_tasks.data.sources import Source
from gpt_tasks.errors import DataError
from gpt_tasks.tasks.base import Task
from gpt_tasks.types import Example, Row


@dataclass(frozen=True, slots=True)
class Stream:
    """The rows of a split called `name`, read lazily, each as it was read and as an example.

    `task` is the task as it reads them.
    """

    task: Task
    name: str
    rows: Iterator[tuple[Row, Example | InvalidRow]]
    skip_invalid: bool
    invalid: InvalidRows

    def examples(self) -> Iterator[Example]:
        """Yield the rows that can be used. Others are counted in `invalid`.

        Once all are read, DataError is raised as by `check`.
        """
        for _, row in self.rows:
            self.invalid.rows += 1
            if isinstance(row, InvalidRow):
                self.invalid.add(row)
            else:
                yield row
        self.check()

    def check(self) -> None:
        """Raise DataError if some of the rows read so far are invalid and not to be left out, or if all are."""
        if self.invalid.count and not (self.skip_invalid and self.invalid.count < self.invalid.rows):
            raise self.invalid.error(self.name)

    def notes(self) -> tuple[str, ...]:
        """Return what a user should know of how the rows were read, once they are."""
        note = self.task.reading_note
        return tuple(filter(None, (note and f"{self.name}: {note}.", self.invalid.note(self.name))))


def stream_examples(
    task: Task,
    source: Source,
    split: str,
    *,
    columns: Mapping[str, str],
    by: str | None = None,
    cluster: str | None = None,
    need_labels: bool,
    to_learn: bool = False,
    skip_invalid: bool = False,
) -> Stream:
    """Open one split of a source as examples of a task; without `need_labels` right answers, labels among them, are not
    looked at.

    `columns` maps the task's fields to columns; `by` and `cluster` name ones that are read in addition, the latter
    perhaps a field. With `to_learn` rows must be fit to learn from. Raises DataError where there are no rows, or a
    column is not there.
    """
    read = source.splits[split]
    first = next(source.whole_rows(split), None) or next(read(), None)
    if first is None:
        raise DataError(f"{source.name}: there are no rows ({split})", "Give data that holds some.")
    where = first.where.rpartition(":")[0] or source.name
    choose = task.fields if need_labels else task.input_fields
    fields = choose(list(first.values), columns, where)
    if by is not None and by not in first.values:
        raise DataError(
            f"{where}: there is no column '{by}'; the columns are {', '.join(first.values)}", "Give --by one of them."
        )
    if need_labels:
        splits = [split, *(name for name in source.splits if name != split)]
        task = task.settled(lambda: chain.from_iterable(map(source.whole_rows, splits)), fields, where)
    if cluster is not None and cluster not in (*first.values, *fields):
        known = ", ".join(dict.fromkeys([*first.values, *fields]))
        raise DataError(
            f"{where}: there is no column '{cluster}'; the columns are {known}", "Give --cluster one of them."
        )
    extra = [name for name in dict.fromkeys((by, cluster)) if name is not None and name in first.values]

    def rows() -> Iterator[tuple[Row, Example | InvalidRow]]:
        for row in read():
            try:
                example = check_encodable(task.example(row, fields, extra))
                yield row, task.learnable(example) if to_learn else example
            except DataError as error:
                yield row, InvalidRow(row.where, error)

    return Stream(task, where, rows(), skip_invalid, InvalidRows())
