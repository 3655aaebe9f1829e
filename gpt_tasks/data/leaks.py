"""Rows that figures should not rest on in silence: trained on, in two splits, or with two right answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from gpt_tasks.data.examples import UNKNOWN, Examples, key_of
from gpt_tasks.errors import ModelError
from gpt_tasks.files import atomic_path
from gpt_tasks.types import Example

TRAINED_ROWS = "trained_rows.npy"
"""The file in a run's folder with the hashes of the rows that it was trained on, sorted: 8 bytes a row, no text."""


def among(keys: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Tell which keys `[n]` are among others: as np.isin, whose tables take several times the memory of the keys."""
    if not len(others):
        return np.zeros(len(keys), dtype=bool)
    ordered = np.sort(others)
    places = np.minimum(np.searchsorted(ordered, keys), len(ordered) - 1)
    found: np.ndarray = ordered[places] == keys
    return found


def contradictions(keys: np.ndarray, targets: np.ndarray) -> int:
    """Return how many rows have the key of another row whose target is another. Unknown targets (-1) do not count."""
    keys, targets = keys[targets != UNKNOWN], targets[targets != UNKNOWN]
    if not len(keys):
        return 0
    order = np.argsort(keys, kind="stable")
    keys, targets = keys[order], targets[order]
    starts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
    differ = np.minimum.reduceat(targets, starts) != np.maximum.reduceat(targets, starts)
    return int(np.diff(np.append(starts, len(keys)))[differ].sum())


def notes_on(examples: Examples | Sequence[Example]) -> list[str]:
    """Return notes on rows with the same text and different right answers, and on rows with equal choices."""
    notes = []
    count = contradictions(keys_of(examples), _targets(examples))
    if count:
        notes.append(f"Rows whose text another row has with another right answer: {count:,}.")
    count = equal_choices(examples)
    if count:
        notes.append(f"Rows with equal choices, of which the first counts: {count:,}.")
    return notes


def equal_choices(examples: Examples | Sequence[Example]) -> int:
    """Return how many examples have two equal choices."""
    if isinstance(examples, Examples) and not examples.table.choices:
        return 0
    return sum(len(set(example.choices)) < len(example.choices) for example in examples)


def note_on_training(examples: Examples | Sequence[Example], trained: np.ndarray | None) -> list[str]:
    """Return a note on the rows that a model was trained on, given their hashes; None where they are not known."""
    count = 0 if trained is None else int(among(keys_of(examples), trained).sum())
    if not count:
        return []
    return [f"Rows that the model was trained on: {count:,} of {len(examples):,}. New texts would give other figures."]


def note_on_shots(examples: Examples | Sequence[Example], pool: Examples | Sequence[Example]) -> list[str]:
    """Return a note on the rows whose text is among those that shots are drawn from, if these are others."""
    count = int(among(keys_of(examples), keys_of(pool)).sum())
    if not count:
        return []
    found = f"{count:,} of {len(examples):,}"
    return [f"Texts that are among the rows of shots and baselines too: {found}. None is among its own shots."]


def keys_of(examples: Examples | Iterable[Example]) -> np.ndarray:
    """Return the hashes `[n]` of the inputs of examples; see `key_of`."""
    if isinstance(examples, Examples):
        return examples.keys
    return np.fromiter(map(key_of, examples), dtype=np.uint64)


def save_trained(file: Path, keys: np.ndarray, before: np.ndarray | None) -> None:
    """Write the hashes of the rows that a run was trained on, and of those that its backbone was trained on before."""
    with atomic_path(file) as draft, draft.open("wb") as stream:
        np.save(stream, np.unique(keys if before is None else np.concatenate([keys, before])))


def load_trained(model: Path) -> np.ndarray | None:
    """Return the hashes of the rows that the model in a folder was trained on; None where nobody knows.

    The folder is that of a run, or of the model in it. Raises ModelError for a file that is damaged.
    """
    file = next((each for each in (model / TRAINED_ROWS, model.parent / TRAINED_ROWS) if each.is_file()), None)
    if file is None:
        return None
    try:
        found = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ModelError(f"{file} cannot be read: {error}", "Copy the run again, or train it again.") from None
    if not isinstance(found, np.ndarray) or found.dtype != np.uint64 or found.ndim != 1:
        raise ModelError(f"{file} holds no hashes of rows", "Copy the run again, or train it again.")
    return found


def _targets(examples: Examples | Sequence[Example]) -> np.ndarray:
    """Return codes `[n]` of targets, -1 where an answer is written, of which several can be right."""
    if isinstance(examples, Examples):
        return examples.labels
    codes: dict[str, int] = {}
    return np.array(
        [
            UNKNOWN if each.target is None or each.references else codes.setdefault(each.target, len(codes))
            for each in examples
        ],
        dtype=np.int64,
    )
