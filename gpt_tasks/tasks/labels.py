"""Labels as data write them: texts, numbers and truth values, the same in every format."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from numbers import Integral
from typing import Any

from pydantic import Field

from gpt_tasks.errors import DataError
from gpt_tasks.tasks.options import TaskOptions
from gpt_tasks.tasks.reading import as_label, whole_number

TRUTH = {"false": "0", "true": "1"}
"""Truth values as labels, and the numbers that some formats write for them."""


class LabelOptions(TaskOptions):
    """The options of every task whose right answers are labels of a fixed set."""

    normalize_labels: bool | None = Field(
        None,
        description="Labels that differ only in case, outer spaces, Unicode form or invisible characters are one: the "
        "most frequent.",
    )


def seen_form(label: str) -> str:
    """Return what is read of a label: without case, invisible characters and outer spaces, in Unicode's form NFC."""
    return unicodedata.normalize("NFC", _cleaned(label).casefold())


def most_frequent_spellings(counts: Mapping[str, int], declared: Sequence[str]) -> dict[str, str]:
    """Return for each label the spelling of those that have its `seen_form`: the declared, or the most frequent one."""
    cleaned: Counter[str] = Counter()
    for label, count in counts.items():
        cleaned[_cleaned(label)] += count
    chosen = {seen_form(label): label for label in declared}
    for label in sorted(cleaned, key=lambda each: (-cleaned[each], each)):
        chosen.setdefault(seen_form(label), label)
    return {label: chosen[seen_form(label)] for label in counts}


def known_label(label: str, labels: tuple[str, ...], *, normalized: bool) -> str | None:
    """Return which of `labels` a label of data is; None for one that is not among them.

    A truth value is `true` in JSON, `True` in what pandas writes, and 1 in a database. `normalized` labels of the same
    `seen_form` are one.
    """
    if label in labels:
        return label
    if normalized and seen_form(label) in _by_form(labels):
        return _by_form(labels)[seen_form(label)]
    meant = TRUTH.get(label.lower(), label)
    return next((each for each in labels if TRUTH.get(each.lower(), each) == meant), None)


def refuse_two_readings(labels: Collection[str], where: str) -> None:
    """Raise DataError where truth values are beside the numbers that some formats write for them."""
    for label in sorted(labels):
        number = TRUTH.get(label.lower())
        if number in labels:
            raise DataError(
                f"{where}: it has the labels '{label}' and '{number}', which may be one label, as some formats write "
                f"{number} for {label.lower()}, or two",
                "Write all of them in one way. --labels false --labels true reads 1 as true; --labels with every one "
                "of them keeps them apart.",
            )


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


def _cleaned(label: str) -> str:
    """Return a label without invisible characters and outer spaces, in Unicode's form NFC."""
    visible = (" " if sign.isspace() else sign for sign in label if sign.isspace() or not _is_invisible(sign))
    return unicodedata.normalize("NFC", " ".join("".join(visible).split()))


def _is_invisible(sign: str) -> bool:
    return unicodedata.category(sign) in ("Cf", "Cc")


@lru_cache(maxsize=16)
def _by_form(labels: tuple[str, ...]) -> dict[str, str]:
    return {seen_form(label): label for label in labels}
