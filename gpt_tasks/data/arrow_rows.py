"""Rows of Arrow's tables, whose values are converted when they are asked for: what nobody reads cannot fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gpt_tasks.data.class_names import named
from gpt_tasks.errors import DataError

if TYPE_CHECKING:
    import pyarrow


class ArrowValues(Mapping[str, Any]):
    """The values of one row by column. `read` is called once with each column that is asked for.

    A value that cannot be converted, as a date beyond the year 9999, raises DataError, naming the row by `where`.
    """

    def __init__(self, columns: Mapping[str, Any] | Sequence[str], read: Callable[[str], Any], where: str) -> None:
        self._columns = columns
        self._read = read
        self._where = where
        self._known: dict[str, Any] = {}

    def __getitem__(self, column: str) -> Any:
        if column not in self._columns:
            raise KeyError(column)
        if column not in self._known:
            self._known[column] = self._read(column)
        found = self._known[column]
        if isinstance(found, Unreadable):
            raise DataError(
                f"{self._where}: the value of column '{column}' cannot be read: {found.why}",
                "Fix the value, or write the column as text.",
            )
        return found

    def __contains__(self, column: object) -> bool:
        return column in self._columns

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)


class Unreadable:
    """A value that cannot be converted, and why."""

    def __init__(self, error: Exception) -> None:
        self.why = (" ".join(str(error).split()) or type(error).__name__)[:200]


def column_values(column: pyarrow.Array, feature: Any = None) -> list[Any]:
    """Return a column's plain values, with names in place of numbers of classes where its `feature` has them."""
    try:
        return [named(value, feature) for value in column.to_pylist()]
    # A zone that is not known is a KeyError; pyarrow's own errors are ValueErrors and others.
    except (ValueError, OverflowError, LookupError, NotImplementedError, TypeError):
        return [_value(scalar, feature) for scalar in column]


def _value(scalar: pyarrow.Scalar, feature: Any) -> Any:
    try:
        return named(scalar.as_py(), feature)
    except (ValueError, OverflowError, LookupError, NotImplementedError, TypeError) as error:
        return Unreadable(error)
