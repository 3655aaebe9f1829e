"""Encoded examples: token ids in a file on disk, their lengths and labels in memory."""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from gpt_tasks.files import machine_errors
from gpt_tasks.types import Features

IGNORE_INDEX = -100
"""The label that counts in no loss."""

_TOKEN = np.dtype(np.int32)


class FeaturesError(ValueError):
    """Features that a learner's `encode` must not return."""


@dataclass(frozen=True, eq=False)
class EncodedExamples:
    """The features of examples as a torch data set. The index `~i` gives those of example `i` with labels of -100.

    `lengths` is `[n]`, in tokens of all sequences together. `labels` `[n, ...]` are there where each example has one of
    the same shape; labels of tokens are in the file, behind the tokens. `truncated` counts the examples that were
    cut to fit and `windowed` those that are read in parts; `used_tokens` holds every token id that occurs, sorted.
    `ends` says of each example of several sequences where they end, `choices` of one that has choices what they are
    about. `values` `[n, k]` are further numbers of each example. `token_label_type` is that of labels of tokens: whole
    numbers, or float32.
    """

    path: Path
    lengths: np.ndarray
    starts: np.ndarray
    used_tokens: np.ndarray
    truncated: int
    windowed: int
    label_codes: np.ndarray | None = None
    distinct_labels: np.ndarray | None = None
    ends: Mapping[int, Sequence[int]] = field(default_factory=dict)
    choices: Mapping[int, Sequence[int]] = field(default_factory=dict)
    values: np.ndarray | None = None
    token_label_type: np.dtype[Any] = _TOKEN

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def labels(self) -> np.ndarray:
        """The labels of all examples, `[n, ...]`. Raises ValueError where labels are those of tokens."""
        if self.label_codes is None or self.distinct_labels is None:
            raise ValueError("these examples have labels of tokens")
        labels: np.ndarray = self.distinct_labels[self.label_codes]
        return labels

    def __getitem__(self, index: int) -> Features:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Features]:
        """Return several examples, as torch's loader asks for a batch.

        The file is opened for each call, so that no handle is shared by processes that fork; and read rather than
        mapped, because a map takes 64 KB into this process's memory for every example that is touched.
        """
        of_tokens = self.label_codes is None
        found = []
        with self.path.open("rb", buffering=0) as file:
            for index in indices:
                row = index if index >= 0 else ~index
                if row >= len(self):
                    raise IndexError(f"there is no example {index} among {len(self)}")
                length = int(self.lengths[row])
                file.seek(int(self.starts[row]) * _TOKEN.itemsize * (2 if of_tokens else 1))
                stored = np.empty(2 * length if of_tokens else length, dtype=_TOKEN)
                file.readinto(stored.data)
                labels: Any = stored[length:].view(self.token_label_type) if of_tokens else self._label(row)
                if index < 0:
                    labels = np.full_like(labels, IGNORE_INDEX)
                found.append(
                    Features(
                        np.split(stored[:length], self.ends.get(row, [0])[:-1]),
                        labels=None if of_tokens else labels,
                        token_labels=labels if of_tokens else None,
                        values=() if self.values is None else self.values[row],
                        choices=tuple(self.choices.get(row, ())),
                    )
                )
        return found

    def _label(self, row: int) -> Any:
        assert self.label_codes is not None
        assert self.distinct_labels is not None
        return self.distinct_labels[self.label_codes[row]]


def store_features(batches: Iterable[Sequence[Features]], scratch: Path) -> EncodedExamples:
    """Write features, as they come, into a file under `scratch`.

    Raises FeaturesError for features whose labels do not fit their tokens or the others', MachineError where the disk
    is full.
    """
    lengths, label_codes, values = array("i"), array("i"), array("f")
    distinct: dict[bytes, int] = {}
    labels: list[np.ndarray] = []
    ends: dict[int, list[int]] = {}
    choices: dict[int, Sequence[int]] = {}
    used: set[int] = set()
    truncated = windowed = 0
    first: Features | None = None
    label_type: np.dtype[Any] = _TOKEN
    with machine_errors():
        scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(suffix=".tokens", dir=scratch, delete=False) as file:
            for batch in batches:
                for features in batch:
                    first = first or features
                    _check(features, first)
                    for ids in features.sequences:
                        file.write(np.asarray(ids, dtype=_TOKEN).tobytes())
                        used.update(ids if isinstance(ids, list) else np.asarray(ids).tolist())
                    if features.token_labels is not None:
                        if features is first and np.asarray(features.token_labels).dtype.kind == "f":
                            label_type = np.dtype(np.float32)
                        file.write(_token_labels(features.token_labels, label_type).tobytes())
                    else:
                        label = np.asarray(features.labels)
                        code = distinct.setdefault(label.tobytes(), len(distinct))
                        if code == len(labels):
                            labels.append(label)
                        label_codes.append(code)
                    if len(features.sequences) > 1:
                        ends[len(lengths)] = list(accumulate(map(len, features.sequences)))
                    if features.choices:
                        choices[len(lengths)] = features.choices
                    values.extend(features.values)
                    lengths.append(len(features))
                    truncated += features.truncated > 0
                    windowed += features.windows > 1
    sizes = np.frombuffer(lengths, dtype=np.int32) if lengths else np.zeros(0, dtype=np.int32)
    return EncodedExamples(
        Path(file.name),
        sizes,
        np.cumsum(sizes, dtype=np.int64) - sizes,
        np.array(sorted(used), dtype=np.int64),
        truncated,
        windowed,
        np.frombuffer(label_codes, dtype=np.int32) if labels else None,
        np.stack(labels) if labels else None,
        ends,
        choices,
        np.frombuffer(values, dtype=np.float32).reshape(len(sizes), -1) if values else None,
        label_type,
    )


def _token_labels(labels: Sequence[float], kind: np.dtype[Any]) -> np.ndarray:
    """Return labels of tokens as they are stored. Raises FeaturesError for fractions among whole numbers."""
    found = np.asarray(labels, dtype=kind)
    if kind == _TOKEN and not np.array_equal(found, labels):
        raise FeaturesError("encode() returned labels of tokens that are whole numbers for some examples only")
    return found


def _check(features: Features, first: Features) -> None:
    """Raise FeaturesError where features do not fit together, or are of another form than the first ones."""
    if not len(features):
        raise FeaturesError("encode() returned features without any token")
    if features.token_labels is not None and len(features.token_labels) != len(features):
        raise FeaturesError(
            f"encode() returned {len(features.token_labels)} labels for {len(features)} tokens: give each token one, "
            f"{IGNORE_INDEX} where it is not learned"
        )
    if features.token_labels is None and features.labels is None:
        raise FeaturesError("encode() returned features without labels, which training needs")
    if (features.token_labels is None) != (first.token_labels is None):
        raise FeaturesError("encode() returned labels of tokens for some examples and of whole examples for others")
    if features.token_labels is None and np.shape(features.labels) != np.shape(first.labels):
        raise FeaturesError(
            f"encode() returned labels of shape {np.shape(features.labels)}, but {np.shape(first.labels)} for others"
        )
    if len(features.values) != len(first.values):
        raise FeaturesError(f"encode() returned {len(features.values)} values, but {len(first.values)} for others")
    if features.choices and len(features.choices) != len(features.sequences):
        raise FeaturesError(
            f"encode() returned {len(features.choices)} choices for {len(features.sequences)} sequences"
        )
