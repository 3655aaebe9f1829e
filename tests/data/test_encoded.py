"""Features on disk: each comes back as it was given, and what does not fit together is refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpt_tasks.data.batches import collate
from gpt_tasks.data.encoded import IGNORE_INDEX, EncodedExamples, FeaturesError, store_features
from gpt_tasks.errors import MachineError
from gpt_tasks.types import Features


def listed(sequences: Sequence[Any]) -> list[list[int]]:
    return [np.asarray(ids).tolist() for ids in sequences]


@pytest.mark.parametrize(
    "labels",
    [
        [np.int64(2), np.int64(0), np.int64(2)],
        [2, 0, 2],
        [np.float32(0.25), np.float32(-1.5), np.float32(0.25)],
        [np.array([1, 0], np.float32), np.array([0, 0], np.float32), np.array([1, 1], np.float32)],
        [np.array([3, 4]), np.array([0, 7]), np.array([3, 4])],
        [np.array([[1, 2], [3, 4]]), np.array([[0, 0], [0, 0]]), np.array([[1, 2], [3, 5]])],
    ],
    ids=["class", "plain number", "number", "several labels", "positions", "matrix"],
)
def test_labels_of_examples_keep_their_shape_and_kind(labels: list[Any], tmp_path: Path) -> None:
    given = [Features([list(range(1, 2 + place))], labels=label) for place, label in enumerate(labels)]
    encoded = store_features([given[:2], given[2:]], tmp_path)
    assert np.array_equal(encoded.labels, np.array(labels))
    assert encoded.labels.dtype == np.asarray(labels[0]).dtype
    for place, label in enumerate(labels):
        found = encoded[place]
        assert np.array_equal(found.labels, label)
        assert found.token_labels is None
        assert listed(found.sequences) == given[place].sequences
        ignored = encoded[~place]
        assert np.shape(ignored.labels) == np.shape(label)
        assert (np.asarray(ignored.labels) == IGNORE_INDEX).all()
        assert np.asarray(ignored.labels).dtype == encoded.labels.dtype
        assert listed(ignored.sequences) == given[place].sequences
    assert collate([encoded[0], encoded[~1]], pad_token_id=0)["labels"].shape == (2, *np.shape(labels[0]))


def test_equal_labels_are_stored_once(tmp_path: Path) -> None:
    encoded = store_features([[Features([[1]], labels=np.int64(row % 3)) for row in range(3_000)]], tmp_path)
    assert encoded.distinct_labels is not None
    assert len(encoded.distinct_labels) == 3
    assert encoded.labels.tolist() == [row % 3 for row in range(3_000)]


def test_labels_of_tokens_come_back_and_are_ignored_by_a_negative_index(tmp_path: Path) -> None:
    given = [
        Features([[5, 6, 7]], token_labels=[-100, 1, 2]),
        Features([np.array([8], dtype=np.int32), [9, 4]], token_labels=np.array([0, -100, 3])),
    ]
    encoded = store_features([given], tmp_path)
    assert encoded.lengths.tolist() == [3, 3]
    for place, features in enumerate(given):
        assert listed(encoded[place].sequences) == listed(features.sequences)
        assert np.asarray(encoded[place].token_labels).tolist() == np.asarray(features.token_labels).tolist()
        assert np.asarray(encoded[~place].token_labels).tolist() == [IGNORE_INDEX] * 3
        assert listed(encoded[~place].sequences) == listed(features.sequences)
        assert encoded[place].labels is None
    with pytest.raises(ValueError, match="labels of tokens"):
        _ = encoded.labels


def test_several_sequences_choices_and_values_come_back_whole(tmp_path: Path) -> None:
    given = [
        Features([[1, 2], [3], [4, 5, 6]], labels=1, choices=(0, 0, 1), values=(0.5, 1.0), windows=2),
        Features([[7]], labels=0, choices=(0,), values=(2.5, -1.0), truncated=4),
        Features([[8, 9], [1]], labels=1, choices=(0, 1), values=(0.0, 3.0), truncated=1, windows=3),
    ]
    encoded = store_features([[each] for each in given], tmp_path)
    assert len(encoded) == 3
    assert encoded.lengths.tolist() == [6, 1, 3]
    assert (encoded.truncated, encoded.windowed) == (2, 2)
    assert encoded.used_tokens.tolist() == list(range(1, 10))
    for index in (0, 1, 2, ~0, ~1, ~2):
        found, right = encoded[index], given[index if index >= 0 else ~index]
        assert listed(found.sequences) == right.sequences
        assert found.choices == right.choices
        assert np.asarray(found.values).tolist() == list(right.values)
    assert encoded.values is not None
    assert encoded.values.tolist() == [[0.5, 1.0], [2.5, -1.0], [0.0, 3.0]]
    assert [int(each.labels) for each in encoded.__getitems__([2, 1, ~0])] == [1, 0, IGNORE_INDEX]


def test_what_is_not_there_is_reported(tmp_path: Path) -> None:
    encoded = store_features([[Features([[1]], labels=0), Features([[2]], labels=1)]], tmp_path)
    for index in (2, ~2):
        with pytest.raises(IndexError, match=f"there is no example {index} among 2"):
            encoded[index]


def test_nothing_to_store_is_an_empty_set(tmp_path: Path) -> None:
    for batches in ([], [[]]):
        assert len(store_features(batches, tmp_path)) == 0


FIRST = Features([[1, 2]], labels=np.int64(0))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([FIRST, Features([], labels=0)], "returned features without any token"),
        ([Features([[]], labels=0)], "returned features without any token"),
        (
            [Features([[1, 2], [3]], token_labels=[1, 2])],
            "returned 2 labels for 3 tokens: give each token one, -100 where it is not learned",
        ),
        ([Features([[1]])], "returned features without labels, which training needs"),
        ([FIRST, Features([[1]])], "returned features without labels, which training needs"),
        (
            [FIRST, Features([[1]], token_labels=[1])],
            "returned labels of tokens for some examples and of whole examples for others",
        ),
        (
            [Features([[1]], token_labels=[1]), FIRST],
            "returned labels of tokens for some examples and of whole examples for others",
        ),
        (
            [FIRST, Features([[1]], labels=np.array([0, 1]))],
            r"returned labels of shape \(2,\), but \(\) for others",
        ),
        ([FIRST, Features([[1]], labels=1, values=(0.5,))], "returned 1 values, but 0 for others"),
        ([Features([[1]], labels=1, values=(0.5, 1.0)), FIRST], "returned 0 values, but 2 for others"),
        (
            [Features([[1], [2]], labels=0, choices=(0, 1, 2))],
            "returned 3 choices for 2 sequences",
        ),
    ],
)
def test_features_that_do_not_fit_together_are_refused(given: list[Features], told: str, tmp_path: Path) -> None:
    for batches in ([given], [[each] for each in given]):
        with pytest.raises(FeaturesError, match=rf"^encode\(\) {told}$"):
            store_features(batches, tmp_path)


def test_a_full_disk_is_the_machines_error(
    tmp_path: Path, files_up_to: Callable[[int], AbstractContextManager[None]]
) -> None:
    def stored() -> EncodedExamples:
        return store_features(([Features([list(range(100))], labels=0)] * 100 for _ in range(10)), tmp_path)

    with files_up_to(10_000), pytest.raises(MachineError) as caught:
        stored()
    assert "\n" not in caught.value.message
    assert caught.value.hint
