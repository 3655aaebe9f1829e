"""Rows that contradict, that are in two places, or that a run was trained on, are counted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from gpt_tasks.data.examples import Examples, store_examples
from gpt_tasks.data.leaks import (
    TRAINED_ROWS,
    contradictions,
    equal_choices,
    load_trained,
    note_on_shots,
    note_on_training,
    notes_on,
    save_trained,
)
from gpt_tasks.errors import ModelError
from gpt_tasks.types import Example

ROWS = [
    Example({"text": "The soup was cold."}, "negative", "1"),
    Example({"text": "The soup  was\ncold."}, "positive", "2"),
    Example({"text": "The soup was cold."}, "negative", "3"),
    Example({"text": "The train was late."}, "negative", "4"),
    Example({"text": "The train was late."}, "negative", "5"),
    Example({"text": "The view was lovely."}, "positive", "6"),
]
CHOICES = [
    Example({"question": "Who?"}, "0", "1", choices=("I", "you", "I")),
    Example({"question": "Who?"}, "1", "2", choices=("you", "I")),
]


def stored(rows: Sequence[Example], folder: Path) -> Examples:
    return store_examples(rows, folder)


def test_contradictions_are_rows_with_one_text_and_several_answers(tmp_path: Path) -> None:
    for examples in (ROWS, stored(ROWS, tmp_path)):
        assert notes_on(examples) == ["Rows whose text another row has with another right answer: 3."]
        assert notes_on(examples[3:]) == []
    keys = np.array([7, 7, 7, 8], dtype=np.uint64)
    assert contradictions(keys, np.array([0, -1, 0, 1])) == 0, "an unknown target contradicts none"
    assert contradictions(keys, np.array([-1, -1, -1, -1])) == 0


def test_written_answers_do_not_contradict(tmp_path: Path) -> None:
    rows = [
        Example({"question": "Say hello."}, answer, "1", references=(answer,)) for answer in (" Hello!", " Good day!")
    ]
    assert notes_on(rows) == notes_on(stored(rows, tmp_path)) == []


def test_equal_choices_are_counted(tmp_path: Path) -> None:
    assert equal_choices(CHOICES) == equal_choices(stored(CHOICES, tmp_path)) == 1
    assert notes_on(CHOICES) == ["Rows with equal choices, of which the first counts: 1."]


def test_rows_of_the_training_data_are_counted(tmp_path: Path) -> None:
    train = stored(ROWS[:2], tmp_path)
    assert note_on_shots(ROWS, train) == [
        "Texts that are among the rows of shots and baselines too: 3 of 6. None is among its own shots."
    ]
    assert note_on_shots(ROWS[3:], train) == []
    save_trained(tmp_path / TRAINED_ROWS, train.keys, None)
    trained = load_trained(tmp_path)
    assert note_on_training(stored(ROWS, tmp_path), trained) == [
        "Rows that the model was trained on: 3 of 6. New texts would give other figures."
    ]
    assert note_on_training(ROWS[3:], trained) == []
    assert note_on_training(ROWS, None) == []


def test_the_file_holds_eight_bytes_a_text_and_no_text(tmp_path: Path) -> None:
    train = stored(ROWS, tmp_path / "scratch")
    save_trained(tmp_path / TRAINED_ROWS, train.keys, None)
    content = (tmp_path / TRAINED_ROWS).read_bytes()
    assert len(content) <= 128 + 3 * 8
    assert b"soup" not in content
    (tmp_path / "model").mkdir()
    first = load_trained(tmp_path / "model")
    assert first is not None
    assert first.tolist() == sorted(set(train.keys.tolist()))
    save_trained(tmp_path / TRAINED_ROWS, np.array([1], dtype=np.uint64), first)
    second = load_trained(tmp_path)
    assert second is not None
    assert set(second.tolist()) == {1, *first.tolist()}, "what the backbone was trained on stays known"


def test_what_is_not_known_is_not_said_and_what_is_damaged_is_named(tmp_path: Path) -> None:
    assert load_trained(tmp_path) is None
    file = tmp_path / TRAINED_ROWS
    for content in (b"", b"no array", b"\x93NUMPY\x01\x00"):
        file.write_bytes(content)
        with pytest.raises(ModelError, match=TRAINED_ROWS):
            load_trained(tmp_path)
    np.save(file, np.array([1.5]))
    with pytest.raises(ModelError, match="holds no hashes"):
        load_trained(tmp_path)
