"""LoRA by our options is peft's LoRA by its own; what cannot be adapted is refused with what can."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
)

from gpt_tasks.backbone.methods import register_methods, with_options
from gpt_tasks.errors import UsageError

LORA = {method.name: method for method in register_methods()}["lora"]
IDS = torch.tensor([[3, 7, 1, 9, 4], [5, 2, 8, 8, 6]])


def gpt2() -> Any:
    return GPT2LMHeadModel(GPT2Config(vocab_size=50, n_positions=32, n_embd=16, n_layer=2, n_head=2))


def llama() -> Any:
    config = LlamaConfig(
        vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2
    )
    return LlamaForCausalLM(config)


def mamba() -> Any:
    return MambaForCausalLM(MambaConfig(vocab_size=50, hidden_size=16, num_hidden_layers=2, state_size=4))


def mixtral() -> Any:
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    return MixtralForCausalLM(MixtralConfig(vocab_size=50, num_key_value_heads=2, num_local_experts=2, **shape))


CASES: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "gpt2, defaults": (gpt2, {}),
    "gpt2": (gpt2, {"r": 3, "lora_alpha": 7, "target_modules": ["c_proj"]}),
    "llama": (llama, {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}),
    "llama, DoRA": (llama, {"r": 2, "use_dora": True, "target_modules": ["q_proj", "down_proj"]}),
    "llama, rsLoRA": (llama, {"r": 8, "use_rslora": True}),
    "one layer's": (llama, {"r": 2, "target_modules": ["layers.1.mlp.up_proj"]}),
}


def ours(options: dict[str, Any]) -> dict[str, Any]:
    return {name if name.startswith("lora_") else f"lora_{name}": value for name, value in options.items()}


@pytest.mark.parametrize("case", CASES)
def test_lora_is_that_of_peft(case: str) -> None:
    build, options = CASES[case]
    torch.manual_seed(0)
    one = build().base_model
    other = copy.deepcopy(one)
    adapted: Any = with_options(LORA, ours(options)).prepare(one).eval()
    defaults = {"r": 16, "lora_alpha": 32, "lora_dropout": 0.05}
    expected: Any = get_peft_model(other, LoraConfig(**{**defaults, **options})).eval()
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    assert adapted.get_nb_trainable_parameters() == expected.get_nb_trainable_parameters()
    expected.load_state_dict(adapted.state_dict())
    with torch.no_grad():
        assert torch.equal(adapted(IDS).last_hidden_state, expected(IDS).last_hidden_state)
        before = adapted(IDS).last_hidden_state
        merged = LORA.finish(adapted)
        torch.testing.assert_close(merged(IDS).last_hidden_state, before, atol=1e-4, rtol=1e-4)


def test_all_linear_are_all_but_the_output_matrix() -> None:
    adapted: Any = with_options(LORA, {"lora_target_modules": ["all-linear"]}).prepare(llama().base_model)
    names = {name.split(".lora_")[0].rpartition(".")[2] for name, p in adapted.named_parameters() if p.requires_grad}
    assert names == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"lora_r": 0}, "--lora-r: 0: input should be greater than or equal to 1"),
        ({"lora_r": -4}, "--lora-r: -4"),
        ({"lora_r": 10**12}, "--lora-r: 1000000000000: input should be less than or equal to 65536"),
        ({"lora_r": "four"}, "--lora-r: 'four': input should be a valid integer"),
        ({"lora_alpha": 0}, "--lora-alpha: 0"),
        ({"lora_dropout": 1}, "--lora-dropout: 1: input should be less than 1"),
        ({"lora_use_dora": "perhaps"}, "--lora-use-dora: 'perhaps'"),
        ({"lora_rank": 4}, "--lora-rank: 4: extra inputs are not permitted"),
    ],
)
def test_a_value_that_is_not_allowed_is_named(options: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError) as caught:
        with_options(LORA, options)
    assert caught.value.message.startswith(told)


@pytest.mark.parametrize(
    ("build", "options", "told", "hint"),
    [
        (gpt2, {"lora_target_modules": ["q_proj"]}, "--lora-target-modules q_proj: ", "c_attn, c_fc, c_proj"),
        (
            llama,
            {"lora_target_modules": ["q_proj", "c_attn"]},
            "--lora-target-modules c_attn: ",
            "down_proj, gate_proj",
        ),
        (llama, {"lora_target_modules": ["lm_head"]}, "--lora-target-modules lm_head: ", "all-linear"),
        (llama, {"lora_target_modules": ["q_proj,v_proj"]}, "--lora-target-modules q_proj,v_proj: ", "q_proj, up_proj"),
        (llama, {"lora_target_modules": ["mlp"]}, "--lora-target-modules mlp: ", "up_proj, v_proj; all-linear"),
        (llama, {"lora_target_modules": ["embed_tokens"]}, "--lora-target-modules embed_tokens: ", "up_proj, v_proj"),
        (mamba, {"lora_target_modules": ["out_proj"]}, "--lora-target-modules out_proj: ", "in_proj"),
        (llama, {"lora_r": 17}, "--lora-r 17: the layers that are adapted have at most 16 dimensions", "below 16"),
        (
            mixtral,
            {"lora_target_modules": ["experts"], "lora_use_dora": True, "lora_dropout": 0},
            "--lora-",
            "",
        ),
    ],
)
def test_what_cannot_be_adapted_is_refused(build: Any, options: dict[str, Any], told: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        with_options(LORA, options).prepare(build().base_model)
    assert caught.value.message.startswith(told)
    assert hint in caught.value.hint
