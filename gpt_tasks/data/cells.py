"""Values of cells as JSON has them, whichever library read them."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

# What pandas calls a missing date, and a missing value of any other kind.
_MISSING = ("NaTType", "NAType")


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
