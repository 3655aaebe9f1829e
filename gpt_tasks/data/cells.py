"""Values of cells as JSON has them, whichever library read them, and the names of their columns."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from gpt_tasks.errors import DataError

# What pandas calls a missing date, and a missing value of any other kind.
_MISSING = ("NaTType", "NAType")


def refuse_repeated(names: Iterable[object], where: str) -> None:
    """Raise DataError where two columns have the same name: only one of them would be read."""
    seen = set()
    for name in map(str, names):
        if name and name in seen:
            raise DataError(f"{where}: the column '{name[:60]}' is there twice", "Rename one of them.")
        seen.add(name)


def unnamed_columns(name: str, places: Iterable[int]) -> str:
    """Return a sentence about columns of a file at these places, from 0, which are left out."""
    columns = ", ".join(str(place + 1) for place in places)
    return f"{name}: left out, as the header has no name for it: column {columns}."


def plain(value: Any) -> Any:
    """Return a cell's value as text, number, truth value, list, mapping or None.

    Dates and times become text as ISO 8601 writes them, with a space between the two, and without a time of midnight.
    Missing values (NaN, NaT, NA) become None, numpy's scalars and arrays numbers and lists.
    """
    if value is None or isinstance(value, str | bool) or type(value) is int:
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(each) for each in value]
    if isinstance(value, datetime.date | datetime.time | Decimal | float) or type(value).__name__ in _MISSING:
        return _plain_scalar(value)
    return plain(value.tolist()) if hasattr(value, "tolist") else value


def _plain_scalar(value: Any) -> Any:
    if type(value).__name__ in _MISSING:
        return None
    if isinstance(value, datetime.datetime):
        is_date = value.tzinfo is None and value.time() == datetime.time()
        return str(value.date()) if is_date else value.isoformat(sep=" ")
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if math.isnan(value):
        return None
    whole = isinstance(value, Decimal) and value == value.to_integral_value()
    return int(value) if whole else float(value)
