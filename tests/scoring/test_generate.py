"""What a suite has written ends at every end of the model's generation config, as `generate` and `chat` end it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
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
    from transformers import AutoModelForCausalLM, GenerationConfig

    ids = torch.tensor([tiny_tokenizer(PROMPT)["input_ids"]])
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokens = model.generate(ids, max_new_tokens=12, do_sample=False)[0, ids.shape[1] :].tolist()
    for ends, rest in ((None, tokens), ([tiny_tokenizer.eos_token_id, tokens[0]], [])):
        if ends is not None:
            GenerationConfig(eos_token_id=ends).save_pretrained(folder)
        _, scorer = open_scorer(str(folder), device="cpu")
        writer = open_writer(str(folder), device="cpu", precision="float32")
        right = tiny_tokenizer.decode(rest)
        assert scorer.answer([Generation(PROMPT, (), 12)]).answers == [right]
        assert writer.write([PROMPT], Decoding.checked(max_new_tokens=12))[0][0].text == right
