"""Labels as data write them: texts, numbers and truth values, the same in every format."""

from __future__ import annotations

from numbers import Integral
from typing import Any

from gpt_tasks.errors import DataError
from gpt_tasks.tasks.reading import as_label, whole_number

TRUTH = {"false": "0", "true": "1"}
"""Truth values as labels, and the numbers that some formats write for them."""


def label_text(value: Any, where: str, column: str) -> str:
    """Return a label, or the one label of a list, as a text. Raises DataError where it is no text and no number."""
    if isinstance(value, list | tuple) and len(value) == 1:
        value = value[0]
    label = as_label(value)
    if not label:
        raise DataError(f"{where}: the label (column '{column}') is missing", "Label the row, or leave it out.")
    if not isinstance(value, str | int | float | Integral):
        raise DataError(
            f"{where}: the label (column '{column}') is a {type(value).__name__}: {str(value)[:60]}",
            "A label is a text or a number; several of them are for the task multi-label.",
        )
    return label


def by_value(label: str) -> tuple[int, int, str]:
    """Sort whole numbers by value, before other labels by their letters."""
    place = place_of(label)
    return (1, 0, label) if place is None else (0, place, label)


def place_of(label: str) -> int | None:
    """Return the whole number, not negative, that a label is, else None."""
    number = whole_number(label)
    return None if number is None or number < 0 else number
