"""Rows that cannot be used: counted, the first of them named, refused together or left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gpt_tasks.errors import DataError
from gpt_tasks.types import Row

NAMED = 5


class BrokenRow(Row):
    """A row that its reader could not parse: `where` it is, what is wrong and what to do about it.

    It is counted among the rows that cannot be used, and left out with --skip-invalid.
    """

    __slots__ = ("_error",)
    _error: DataError

    def __init__(self, where: str, message: str, hint: str) -> None:
        object.__setattr__(self, "where", where)
        object.__setattr__(self, "_error", DataError(message, hint))

    @property
    def error(self) -> DataError:
        """What is wrong with it."""
        return DataError(self._error.message, self._error.hint)

    @property
    def values(self) -> dict[str, object]:
        """Raise `error`."""
        raise self.error


def readable(row: Row) -> dict[str, Any]:
    """Return the values of a row that can be read, and None for others; a row that could not be parsed has none."""
    found: dict[str, Any] = {}
    for column in () if isinstance(row, BrokenRow) else row.values:
        try:
            found[column] = row.values[column]
        except DataError:
            found[column] = None
    return found


@dataclass(frozen=True, slots=True)
class InvalidRow:
    """A row that cannot be used, what is wrong with it, and what it holds in place of the task's inputs."""

    where: str
    error: DataError
    inputs: Mapping[str, Any] = field(default_factory=dict)


class InvalidRows:
    """Counts the invalid rows among the `rows` of a split, and stores the first five."""

    def __init__(self) -> None:
        self.rows = 0
        self.first: list[DataError] = []
        self.count = 0

    def add(self, *errors: DataError, count: int = 1) -> None:
        """Count rows, of which the first have these errors."""
        self.count += count
        self.first += errors[: NAMED - len(self.first)]

    def error(
        self, name: str, *, skip_invalid: bool = False, way_out: str = "--skip-invalid leaves such rows out."
    ) -> DataError | None:
        """Return the error about all of them, in data called `name`: that of the row where there is one.

        None where there are none, or where they are to be left out and others remain.
        """
        if not self.count or (skip_invalid and self.count < self.rows):
            return None
        hint = self.first[0].hint if skip_invalid else f"{self.first[0].hint} {way_out}".strip()
        if self.count == 1:
            return DataError(self.first[0].message, hint)
        cannot = f"{self.count:,} of {self.rows:,} rows cannot"
        if self.count == self.rows:
            cannot = f"none of its {self.rows:,} rows can"
        return DataError(f"{name}: {cannot} be used: {self._named()}", hint)

    def note(self, name: str, *, private: bool = False) -> str:
        """Return what a user should know of those that were left out, or nothing."""
        if not self.count:
            return ""
        why = "" if private else f": {self._named()}"
        return f"Left out {self.count:,} of {self.rows:,} rows of {name}, which cannot be used{why}."

    def _named(self) -> str:
        more = "; and others" if self.count > len(self.first) else ""
        return "; ".join(error.message for error in self.first) + more


def refuse_invalid(errors: Iterable[DataError | None]) -> None:
    """Raise the errors of several splits as one, if there are any."""
    found = [error for error in errors if error is not None]
    if found:
        raise DataError("; ".join(error.message for error in found), found[0].hint)
