"""The embedded GPT: small, whole, opened by transformers alone, and it has read English."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(str(files("gpt_tasks.backbone"))) / "embedded" / "tiny"


@pytest.fixture(scope="module")
def opened() -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(FOLDER).float().eval(), AutoTokenizer.from_pretrained(FOLDER)


def test_it_is_small_and_comes_with_its_card() -> None:
    assert (FOLDER / "model.safetensors").stat().st_size <= 24e6
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert "bits per byte" in card


def test_weights_are_stored_in_bfloat16() -> None:
    from safetensors import safe_open

    with safe_open(FOLDER / "model.safetensors", framework="pt") as file:
        assert {str(file.get_slice(name).get_dtype()) for name in file.keys()} == {"BF16"}  # noqa: SIM118


def test_its_tokenizer_reads_any_bytes(opened: tuple[Any, Any]) -> None:
    _, tokenizer = opened
    text = "Plain words, 自然语言, café, a tab\tand 🙂.\n"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_it_prefers_english_to_the_same_words_shuffled(opened: tuple[Any, Any]) -> None:
    import torch

    model, tokenizer = opened

    def nats(text: str) -> float:
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            return float(model(ids, labels=ids).loss)

    pairs = [
        ("She opened the door and looked into the room.", "Door the opened she and room the into looked."),
        ("He had never seen such a beautiful garden.", "Such garden he a seen had beautiful never."),
        ("They walked along the river until it was dark.", "Until they the dark along it walked river was."),
        ("I am very glad that you have come to see us.", "Us that come glad I see have very to you am."),
    ]
    assert all(nats(straight) < nats(shuffled) - 0.5 for straight, shuffled in pairs)
