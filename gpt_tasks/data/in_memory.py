"""Data that a program holds: data frames of pandas and polars, data sets of `datasets`, lists of mappings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from gpt_tasks.data.arrow_rows import ArrowValues, column_values
from gpt_tasks.data.cells import plain, refuse_repeated
from gpt_tasks.data.class_names import with_classes
from gpt_tasks.data.invalid import BrokenRow
from gpt_tasks.types import Row

if TYPE_CHECKING:
    import datasets

_BATCH = 1024
_FROM_PYTHON = ", given from Python"


class InMemory:
    """Data that is no file: a table, or tables by the names of their splits. As text it is described, not shown."""

    def __init__(self, content: Any) -> None:
        self.content = content

    @classmethod
    def of(cls, data: object) -> InMemory | None:
        """Return data that a program holds, None for anything else, such as a path."""
        if isinstance(data, InMemory):
            return data
        tables = list(data.values()) if isinstance(data, Mapping) else [data]
        return cls(data) if tables and all(_reader(table) for table in tables) else None

    @property
    def name(self) -> str:
        """What errors call it."""
        return type(self.content).__name__

    @property
    def tables(self) -> Mapping[str, Callable[[], Iterator[Row]]] | None:
        """What starts reading the rows of each table by its name, None where there is one without a name."""
        if not isinstance(self.content, Mapping):
            return None
        return {str(name): partial(_rows, table, f"{self.name}[{name!r}]") for name, table in self.content.items()}

    def rows(self) -> Iterator[Row]:
        """Yield the rows of the one table."""
        return _rows(self.content, self.name)

    def __str__(self) -> str:
        tables = self.content.values() if isinstance(self.content, Mapping) else [self.content]
        return f"{self.name} of {sum(map(len, tables)):,} rows{_FROM_PYTHON}"


def described(data: object) -> str:
    """Return data as a text that shows none of its content: a path, or what `InMemory` says of itself."""
    return str(InMemory.of(data) or data)


def is_described(text: str) -> bool:
    """Return whether a text is the description of data that a program held."""
    return text.endswith(_FROM_PYTHON)


def dataset_rows(data: datasets.Dataset, place: Callable[[int], str]) -> Iterator[Row]:
    """Yield the rows of a data set, with the names of classes in place of their numbers; `place` names them, from 0."""
    features, columns, number = with_classes(data.features), list(data.features), 0
    for batch in data.with_format("arrow").iter(batch_size=_BATCH):
        column = cache(partial(_dataset_column, batch, features))
        for row in range(len(batch)):
            where = place(number)
            yield Row(ArrowValues(columns, partial(_at, column, row), where), where)
            number += 1


def _dataset_column(batch: Any, features: Mapping[str, Any], name: str) -> list[Any]:
    return column_values(batch.column(name), features.get(name))


def _at(column: Callable[[str], Sequence[Any]], row: int, name: str) -> Any:
    return column(name)[row]


def _rows(table: Any, name: str) -> Iterator[Row]:
    if _is_dataset(table):
        yield from dataset_rows(table, lambda number: f"{name}[{number}]")
        return
    read = _reader(table)
    assert read is not None
    refuse_repeated(getattr(table, "columns", ()), name)
    for number, values in enumerate(read(table)):
        where = f"{name}[{number}]"
        if isinstance(values, Mapping):
            row = {str(column): plain(value) for column, value in values.items()}
            if len(row) == len(values):
                yield Row(row, where)
                continue
            repeated = next(column for column in row if sum(str(each) == column for each in values) > 1)
            yield BrokenRow(where, f"{where}: the column '{repeated[:60]}' is there twice", "Rename one of them.")
        else:
            message = f"{where}: this is a {type(values).__name__}, not a mapping: {str(values)[:60]}"
            yield BrokenRow(where, message, 'Give a mapping for each row, as {"text": "...", "label": "..."}.')


def _reader(table: object) -> Callable[[Any], Iterator[Any]] | None:
    """Return what reads a table, known by what it can do: none of the libraries is imported for this."""
    if isinstance(table, str | bytes):
        return None
    if hasattr(table, "iloc") and hasattr(table, "columns"):
        return _frame_values
    if hasattr(table, "iter_rows") and hasattr(table, "columns"):
        return lambda frame: frame.iter_rows(named=True)
    return iter if _is_dataset(table) or (isinstance(table, Sequence) and not isinstance(table, range)) else None


def _is_dataset(table: object) -> bool:
    return hasattr(table, "with_format") and hasattr(table, "features") and hasattr(table, "__len__")


def _frame_values(frame: Any) -> Iterator[Mapping[Any, Any]]:
    for start in range(0, len(frame), _BATCH):
        yield from frame.iloc[start : start + _BATCH].to_dict("records")
