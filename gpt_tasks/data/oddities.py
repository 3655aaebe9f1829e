"""Notes for the user about labels and answers that look wrong; the data are not changed."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from gpt_tasks.data.examples import Examples, text_length
from gpt_tasks.tasks.base import Task
from gpt_tasks.tasks.labels import known_label, seen_form
from gpt_tasks.types import Example

FEW_ROWS = 5
VERY_LONG = 200_000
_SHOWN = 5


def odd_labels(task: Task, found: Mapping[str, Examples]) -> list[str]:
    """Return sentences about labels that look alike, that have few rows, or that train does not hold."""
    by_split = {split: label_counts(task, examples) for split, examples in found.items()}
    counts = Counter[str]()
    for observed in by_split.values():
        counts.update(observed)
    notes = alike_labels(task, counts)
    few = [f"{label} ({count})" for label, count in sorted(counts.items()) if count < FEW_ROWS]
    if few:
        notes.append(f"Fewer than {FEW_ROWS} rows have the label {_listed(few)}: hardly enough to learn or judge it.")
    trained = by_split["train"]
    notes += [
        f"No row of train has the label '{label}', which {split} holds."
        for split, observed in by_split.items()
        for label in observed
        if label not in trained
    ]
    return notes


def alike_labels(task: Task, labels: Iterable[str]) -> list[str]:
    """Return a sentence about each group of labels that have the same `seen_form`."""
    alike: dict[str, list[str]] = {}
    for label in labels:
        alike.setdefault(seen_form(label), []).append(label)
    way_out = " (--normalize-labels makes them one)" if "normalize_labels" in task.Options.model_fields else ""
    return [
        f"The labels {' and '.join(map(_shown, labels))} differ only in case, spaces, or signs that "
        f"are not seen: they are learned as different ones{way_out}."
        for labels in alike.values()
        if len(labels) > 1
    ]


def merged_labels(task: Task, found: Mapping[str, Examples]) -> list[str]:
    """Return a sentence about the spellings of data as it was read that the fitted task takes for another one."""
    labels = dict.fromkeys(label for examples in found.values() for label in label_counts(task, examples))
    read = {label: known_label(label, task.labels, normalized=True) for label in labels}
    merged = [f"{_shown(label)} as {_shown(known)}" for label, known in read.items() if known not in (None, label)]
    return [f"Labels read as another (--normalize-labels): {_listed(merged)}."] if merged else []


def untested_labels(labels: Iterable[str], tested: Collection[str], split: str) -> list[str]:
    """Return a sentence about the labels that no row of a split has, of those that were `tested`."""
    untested = sorted(set(labels) - set(tested))
    return [f"No row of {split} has the label {_listed(untested)}: nothing is said of it."] if untested else []


def label_counts(task: Task, examples: Examples) -> dict[str, int]:
    """Return how many rows have each label; none for tasks without labels."""
    counts = Counter[str]()
    for target, count in examples.observed.items():
        counts.update(dict.fromkeys(task.labels_of(target), count))
    return dict(counts)


def empty_answers(found: Mapping[str, Examples]) -> list[str]:
    """Return a sentence for each split in which written answers are empty."""
    notes = []
    for split, examples in found.items():
        empty = examples.empty_answers()
        if empty:
            notes.append(f"{len(empty):,} of {len(examples):,} answers of {split} are empty: {_listed(empty)}.")
    return notes


def very_long(examples: Iterable[Example]) -> list[str]:
    """Return a sentence about each example of more than 200,000 characters: a model may read it for minutes."""
    lengths = ((example.where, text_length(example)) for example in examples)
    return [
        f"{where} has {length:,} characters, which take long to read."
        for where, length in lengths
        if length > VERY_LONG
    ]


def _shown(label: str) -> str:
    """Return a label in quotes, with escapes for what is not seen of it."""
    return repr(label) if unicodedata.is_normalized("NFC", label) else ascii(label)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
