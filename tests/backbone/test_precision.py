"""In another precision a model has the same rotary frequencies as transformers' own loading gives it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from gpt_tasks.backbone.load import open_backbone
from gpt_tasks.backbone.precision import in_precision
from gpt_tasks.generation.generator import open_writer

SIZES = {
    "vocab_size": 384,
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
MODELS = {
    "Llama": (LlamaForCausalLM, LlamaConfig(**SIZES)),
    "Qwen2": (Qwen2ForCausalLM, Qwen2Config(**SIZES)),
    "Gemma 3": (Gemma3ForCausalLM, Gemma3TextConfig(**SIZES, head_dim=16, sliding_window=32)),
    "GPT-NeoX": (
        GPTNeoXForCausalLM,
        GPTNeoXConfig(**{name: size for name, size in SIZES.items() if name != "num_key_value_heads"}),
    ),
}


def frequencies(model: Any) -> dict[str, torch.Tensor]:
    return {name: buffer for name, buffer in model.named_buffers() if name.endswith("inv_freq")}


@pytest.mark.parametrize("name", MODELS)
def test_frequencies_stay_in_float32_as_transformers_loads_them(name: str, tmp_path: Path) -> None:
    kind, config = MODELS[name]
    torch.manual_seed(0)
    model = kind(config).eval()
    model.save_pretrained(tmp_path)
    theirs = frequencies(AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16))
    ours = in_precision(copy.deepcopy(model), "bf16")
    assert {parameter.dtype for parameter in ours.parameters()} == {torch.bfloat16}
    assert theirs
    for each, buffer in frequencies(ours).items():
        assert buffer.dtype == theirs[each].dtype == torch.float32
        assert torch.equal(buffer, theirs[each])
    again = in_precision(ours, "float32")
    assert {parameter.dtype for parameter in again.parameters()} == {torch.float32}
    for each, buffer in frequencies(again).items():
        assert torch.equal(buffer, theirs[each])


def test_a_writer_and_a_scorer_keep_them(tiny_tokenizer: Any, tmp_path: Path) -> None:
    from gpt_tasks.scoring.scorer import open_scorer
    from gpt_tasks.types import Continuation

    kind, config = MODELS["Llama"]
    torch.manual_seed(0)
    kind(config).save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    right = frequencies(open_backbone_model(tmp_path))
    writer = open_writer(str(tmp_path), device="cpu", precision="bf16")
    backbone, scorer = open_scorer(str(tmp_path), device="cpu", precision="bf16")
    scorer.answer([Continuation("The soup was", " cold")])
    for model in (writer._model, backbone.model):
        assert next(model.parameters()).dtype == torch.bfloat16
        for name, buffer in frequencies(model).items():
            assert torch.equal(buffer, right[name])


def open_backbone_model(folder: Path) -> Any:
    from gpt_tasks.backbone.locate import Location

    return open_backbone(Location(str(folder), folder)).model
