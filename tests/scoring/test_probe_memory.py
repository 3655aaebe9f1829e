"""What a trial has found holds for the same configuration, and never for another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import GPT2Config

from gpt_tasks.scoring import probe_memory
from gpt_tasks.scoring.model import ScoredModel
from gpt_tasks.scoring.probe_memory import remembered

SHAPE = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256}
FAULT = "it refuses"


class Trial:
    """A trial that fails for paths of more than 100 tokens, and knows how deep it was asked to go."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, model: ScoredModel, depth: int) -> str | None:
        self.asked.append(depth)
        return FAULT if depth > 100 else None


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(probe_memory, "user_cache_path", lambda name: tmp_path / name)
    return tmp_path / "gpt-tasks" / "tree-attention"


def test_only_what_was_not_tried_is_tried(cache: Path, make_model: Callable[..., Any]) -> None:
    trial = Trial()
    for depth, fault in ((50, None), (50, None), (20, None), (80, None), (200, FAULT), (300, FAULT), (90, None)):
        assert remembered(trial, ScoredModel(make_model(GPT2Config, **SHAPE)), depth) == fault
    assert trial.asked == [50, 80, 200, 90]


@pytest.mark.parametrize("change", ["shape", "library", "code of its own"])
def test_another_model_is_tried(
    cache: Path, make_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    trial = Trial()
    remembered(trial, ScoredModel(make_model(GPT2Config, **SHAPE)), 50)
    model = make_model(GPT2Config, **{**SHAPE, **({"n_layer": 3} if change == "shape" else {})})
    if change == "library":
        monkeypatch.setattr(probe_memory, "version", lambda name: "another")
    elif change == "code of its own":
        model.config.auto_map = {"AutoModelForCausalLM": "modeling.Model"}
    remembered(trial, ScoredModel(model), 50)
    assert trial.asked == [50, 50]


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b'{"works": "deep"}', b'{"works": 50, "more": 1}'])
def test_a_damaged_memory_is_as_none(cache: Path, make_model: Callable[..., Any], content: bytes) -> None:
    trial, model = Trial(), ScoredModel(make_model(GPT2Config, **SHAPE))
    remembered(trial, model, 50)
    (file,) = cache.iterdir()
    file.write_bytes(content)
    remembered(trial, model, 50)
    remembered(trial, model, 50)
    assert trial.asked == [50, 50]


def test_a_cache_that_cannot_be_written_is_no_error(cache: Path, make_model: Callable[..., Any]) -> None:
    cache.parent.write_text("a file", encoding="utf-8")
    trial, model = Trial(), ScoredModel(make_model(GPT2Config, **SHAPE))
    assert [remembered(trial, model, 50) for _ in range(2)] == [None, None]
    assert trial.asked == [50, 50]
