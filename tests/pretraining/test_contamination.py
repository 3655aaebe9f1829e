"""How much of a held-out text occurs in the training text is found exactly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gpt_tasks.pretraining import contamination as room
from gpt_tasks.pretraining.contamination import STRETCH, overlap
from gpt_tasks.pretraining.corpus import Shards, ValidationText

END = 500


def shards(folder: Path, *parts: np.ndarray) -> Shards:
    files = []
    for number, part in enumerate(parts):
        part.astype(np.uint16).tofile(folder / f"{number}.bin")
        files.append(folder / f"{number}.bin")
    return Shards(tuple(files), END, sum(map(len, parts)), 1, 1, "uint16")


def held_out(tokens: np.ndarray) -> ValidationText:
    return ValidationText(tokens, np.arange(len(tokens)), END)


@pytest.mark.parametrize("chunk", [1 << 20, 64, 1])
def test_the_stretches_that_occur_anywhere_in_the_training_text_are_counted(tmp_path, monkeypatch, chunk) -> None:
    monkeypatch.setattr(room, "_CHUNK", chunk)
    draw = np.random.default_rng(0)
    text = draw.integers(0, 500, 10 * STRETCH)
    first, second = draw.integers(0, 500, (2, 300))
    first[100 : 100 + 2 * STRETCH] = text[3 * STRETCH : 5 * STRETCH]
    second[-STRETCH:] = text[:STRETCH]
    second[: STRETCH - 1] = text[6 * STRETCH : 7 * STRETCH - 1]  # all of a stretch but its last token
    assert overlap(shards(tmp_path, first, second), held_out(text)) == pytest.approx(0.3)


def test_the_same_tokens_in_another_order_are_another_stretch(tmp_path) -> None:
    text = np.arange(STRETCH)
    assert overlap(shards(tmp_path, text[::-1]), held_out(text)) == 0
    assert overlap(shards(tmp_path, text), held_out(text)) == 1


def test_a_text_shorter_than_a_stretch_has_none(tmp_path) -> None:
    text = np.arange(STRETCH - 1)
    assert overlap(shards(tmp_path, text), held_out(text)) == 0
