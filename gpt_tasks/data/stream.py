"""Read a split of a source as examples of a task, row by row; rows that cannot be used are counted, or left out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from gpt_tasks.data.examples import Examples, check_encodable
from gpt_tasks.data.invalid import NAMED, BrokenRow, InvalidRow, InvalidRows, readable, refuse_invalid
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

    def read(self) -> Iterator[tuple[Row, Example | InvalidRow]]:
        """Yield each row with what became of it; those that cannot be used are counted in `invalid`.

        Raises DataError at the end where none can be used.
        """
        for row, example in self.rows:
            self.invalid.rows += 1
            if isinstance(example, InvalidRow):
                self.invalid.add(example.error)
            yield row, example
        if self.invalid.count == self.invalid.rows:
            self.check()

    def examples(self) -> Iterator[Example]:
        """Yield the rows that can be used, as `read` does; `check` raises for others, where they are not allowed."""
        return (example for _, example in self.read() if isinstance(example, Example))

    def normalized(self, task: Task, examples: Examples) -> Examples:
        """Give the targets of these examples the names that they have for the fitted task, and number them as it does.

        Examples whose target the task does not know are left out, and counted in `invalid`.
        """
        known: dict[str, str] = {}
        unknown: list[int] = []
        for target in examples.observed:
            try:
                known[target] = task.normalize_label(target, "")
            except DataError:
                unknown.append(examples.label_names.index(target))
        if unknown:
            is_unknown = np.isin(examples.labels, unknown)
            rows = np.flatnonzero(is_unknown)
            self.invalid.add(*(_unknown_label(task, examples[int(row)]) for row in rows[:NAMED]), count=len(rows))
            examples = examples.subset(np.flatnonzero(~is_unknown))
        return examples.labelled(task.target_names(known.values()), known)

    @property
    def error(self) -> DataError | None:
        """What is to be raised: some of the rows read so far are invalid and not to be left out, or all are."""
        return self.invalid.error(self.name, skip_invalid=self.skip_invalid)

    def check(self) -> None:
        """Raise `error`, if there is one."""
        refuse_invalid([self.error])

    def notes(self, *, private: bool = False) -> tuple[str, ...]:
        """Return what a user should know of how the rows were read, once they are; `private` quotes none of them."""
        note = self.task.reading_note
        return tuple(filter(None, (note and f"{self.name}: {note}.", self.invalid.note(self.name, private=private))))


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
    perhaps a field. With `to_learn` rows must be fit to learn from. Raises DataError where there are no rows, or where
    none of them has a column that is needed.
    """
    read = source.splits[split]
    first = next(source.whole_rows(split), None)
    if first is None:
        raise _without_rows(source, split, skip_invalid)
    where = first.where.rpartition(":")[0] or source.name
    choose = task.fields if need_labels else task.input_fields

    def chosen(available: Sequence[str]) -> tuple[dict[str, str], list[str]]:
        fields = choose(available, columns, where)
        for flag, name, known in (("--by", by, available), ("--cluster", cluster, [*available, *fields])):
            if name is not None and name not in known:
                raise DataError(
                    f"{where}: there is no column '{name}'; the columns are {', '.join(dict.fromkeys(known))}",
                    f"Give {flag} one of them.",
                )
        return fields, [name for name in dict.fromkeys((by, cluster)) if name is not None and name in available]

    try:
        fields, extra = chosen(source.columns(split))
    except DataError:
        # The first rows may lack what others have.
        fields, extra = chosen(source.columns(split, limit=None))
    if need_labels:
        splits = [split, *(name for name in source.splits if name != split)]
        task = task.settled(lambda: chain.from_iterable(map(source.whole_rows, splits)), fields, where)

    def rows() -> Iterator[tuple[Row, Example | InvalidRow]]:
        for row in read():
            try:
                example = check_encodable(task.example(row, fields, extra))
                yield row, task.learnable(example) if to_learn else example
            except DataError as error:
                values = readable(row)
                inputs = {field: values.get(column) for field, column in fields.items() if field != task.target}
                yield row, InvalidRow(row.where, error, inputs)

    return Stream(task, where, rows(), skip_invalid, InvalidRows())


def fitted(task: Task, splits: Sequence[Examples], where: str, streams: Iterable[Stream]) -> Task:
    """Return a task fitted to splits, as if they were one, that were read from `streams`.

    Raises DataError where nothing can be learned: for the rows that cannot be used, if there are some.
    """
    try:
        return task.fit(splits[0] if len(splits) == 1 else _Together(splits), where)
    except DataError:
        refuse_invalid(stream.error for stream in streams)
        raise


def _without_rows(source: Source, split: str, skip_invalid: bool) -> DataError:
    invalid = InvalidRows()
    for row in source.splits[split]():
        invalid.rows += 1
        if isinstance(row, BrokenRow):
            invalid.add(row.error)
    return invalid.error(source.name, skip_invalid=skip_invalid) or DataError(
        f"{source.name}: there are no rows ({split})", "Give data that holds some."
    )


def _unknown_label(task: Task, example: Example) -> DataError:
    try:
        task.normalize_label(str(example.target), example.where)
    except DataError as error:
        return error
    return DataError(f"{example.where}: {example.target!r} is not known", "Fix the row, or leave it out.")


class _Together:
    """Splits as one, from which a task learns its labels."""

    def __init__(self, splits: Sequence[Examples]) -> None:
        self._splits = splits

    @property
    def fields(self) -> tuple[str, ...]:
        return self._splits[0].fields

    @property
    def observed(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for split in self._splits:
            for target, count in split.observed.items():
                found[target] = found.get(target, 0) + count
        return found

    def __iter__(self) -> Iterator[Example]:
        return chain.from_iterable(self._splits)
