"""Rows that cannot be used: counted, the first of them named, refused together or left out."""

from __future__ import annotations

from dataclasses import dataclass

from gpt_tasks.errors import DataError
from gpt_tasks.types import Row

NAMED = 5


class BrokenRow(Row):
    """A row that its reader could not parse: its values raise the DataError that names it."""

    __slots__ = ("_error",)
    _error: DataError

    def __init__(self, where: str, message: str, hint: str) -> None:
        object.__setattr__(self, "where", where)
        object.__setattr__(self, "_error", DataError(message, hint))

    @property
    def values(self) -> dict[str, object]:
        """Raise DataError."""
        raise DataError(self._error.message, self._error.hint)


@dataclass(frozen=True, slots=True)
class InvalidRow:
    """A row that cannot be used, and what is wrong with it."""

    where: str
    error: DataError


class InvalidRows:
    """Counts the invalid rows among the `rows` of a split, and stores the first five."""

    def __init__(self) -> None:
        self.rows = 0
        self.first: list[DataError] = []
        self.count = 0

    def add(self, row: InvalidRow) -> None:
        """Count a row."""
        self.count += 1
        if len(self.first) < NAMED:
            self.first.append(row.error)

    def error(self, name: str) -> DataError:
        """Return the error about all of them, in data called `name`: that of the row where there is one."""
        hint = f"{self.first[0].hint} --skip-invalid leaves such rows out."
        if self.count == 1:
            return DataError(self.first[0].message, hint)
        return DataError(f"{name}: {self.count:,} of {self.rows:,} rows cannot be used: {self._named()}", hint)

    def note(self, name: str) -> str:
        """Return what a user should know of those that were left out, or nothing."""
        if not self.count:
            return ""
        return f"Left out {self.count:,} of {self.rows:,} rows of {name}, which cannot be used: {self._named()}."

    def _named(self) -> str:
        more = "; and others" if self.count > len(self.first) else ""
        return "; ".join(error.message for error in self.first) + more
