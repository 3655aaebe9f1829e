"""What a suite has written ends at every end of the model's generation config, as `generate` and `chat` end it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import GPT2Config

from gpt_tasks.generation.decoding import Decoding
from gpt_tasks.generation.generator import open_writer
from gpt_tasks.scoring.scorer import open_scorer
from gpt_tasks.types import Generation

PROMPT = "The soup was"


@pytest.fixture
def folder(make_model: Callable[..., Any], tiny_tokenizer: Any, tmp_path: Path) -> Path:
    make_model(GPT2Config, n_embd=32, n_layer=2, n_head=4, n_positions=64).save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    return tmp_path


def test_a_second_end_ends_what_is_written(folder: Path, tiny_tokenizer: Any) -> None:
    from transformers import GenerationConfig

    def written() -> tuple[str, str]:
        _, scorer = open_scorer(str(folder), device="cpu")
        (scored,) = scorer.answer([Generation(PROMPT, (), 12)]).answers
        writer = open_writer(str(folder), device="cpu", precision="float32")
        return str(scored), writer.write([PROMPT], Decoding.checked(max_new_tokens=12))[0][0].text

    long, alike = written()
    assert long == alike
    ids = tiny_tokenizer(long)["input_ids"]
    third = next(token for token in ids[2:] if token not in ids[:2])
    GenerationConfig(eos_token_id=[tiny_tokenizer.eos_token_id, third]).save_pretrained(folder)
    short, alike = written()
    assert short == alike
    assert short
    assert len(short) < len(long)
    assert long.startswith(short)
