"""Notes for the user about labels and answers that look wrong; the data are not changed."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping

from gpt_tasks.data.examples import Examples

FEW_ROWS = 5
_SHOWN = 5


def odd_labels(found: Mapping[str, Examples]) -> list[str]:
    """Return sentences about labels that look alike, that have few rows, or that train does not hold."""
    counts: Counter[str] = Counter()
    for examples in found.values():
        counts.update(examples.observed)
    alike: dict[str, list[str]] = {}
    for label in counts:
        alike.setdefault(_as_seen(label), []).append(label)
    notes = [
        f"The labels {' and '.join(map(repr, labels))} differ only in case, spaces, or signs that are not seen: "
        "they are learned as different ones."
        for labels in alike.values()
        if len(labels) > 1
    ]
    few = [f"{label} ({count})" for label, count in sorted(counts.items()) if count < FEW_ROWS]
    if few:
        notes.append(f"Fewer than {FEW_ROWS} rows have the label {_listed(few)}: hardly enough to learn or judge it.")
    trained = found["train"].observed
    notes += [
        f"No row of train has the label '{label}', which {split} holds."
        for split, examples in found.items()
        for label in examples.observed
        if label not in trained
    ]
    return notes


def untested_labels(train: Examples, test: Examples) -> list[str]:
    """Return a sentence about the labels of train that no row of test has."""
    untested = sorted(set(train.observed) - set(test.observed))
    return [f"No row of test has the label {_listed(untested)}: nothing is said of it."] if untested else []


def empty_answers(found: Mapping[str, Examples]) -> list[str]:
    """Return a sentence for each split in which written answers are empty."""
    notes = []
    for split, examples in found.items():
        empty = examples.empty_answers()
        if empty:
            notes.append(f"{len(empty):,} of {len(examples):,} answers of {split} are empty: {_listed(empty)}.")
    return notes


def _as_seen(label: str) -> str:
    shown = unicodedata.normalize("NFKC", label).casefold()
    return " ".join("".join(sign for sign in shown if unicodedata.category(sign) not in ("Cf", "Cc")).split())


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
