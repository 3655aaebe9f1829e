"""The loop of our own for Llama and its like: transformers' logits and tokens, for each thing in which they differ."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerBase

from gpt_tasks.generation import linear_kernels
from gpt_tasks.generation.decoding import Decoding
from gpt_tasks.generation.engine import CachedLoop, Generating, can_loop
from gpt_tasks.generation.generator import Generator
from gpt_tasks.generation.linear_kernels import multiplies_int8, product
from gpt_tasks.generation.packed import PackedDecoder, can_pack
from tests.generation.test_engine import parted_at_a_tie, random_prompts, tokens_by

SIZES = {
    "vocab_size": 384,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
SCALED = {"rope_theta": 10000.0, "factor": 4.0}
LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}
WINDOW = {"sliding_window": 7}
BY_LAYER = {"layer_types": ["full_attention", "sliding_attention", "full_attention"], **WINDOW}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "tied": ("llama", {"tie_word_embeddings": True}),
    "one head of keys": ("llama", {"num_key_value_heads": 1}),
    "as many heads of keys": ("llama", {"num_key_value_heads": 4}),
    "biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "wide heads": ("llama", {"head_dim": 24}),
    "another activation": ("llama", {"hidden_act": "gelu"}),
    "linear": ("llama", {"rope_parameters": SCALED | {"rope_type": "linear"}}),
    "llama3": ("llama", {"rope_parameters": SCALED | LLAMA3 | {"rope_type": "llama3"}}),
    "yarn": ("llama", {"rope_parameters": SCALED | {"rope_type": "yarn", "original_max_position_embeddings": 32}}),
    "mistral": ("mistral", WINDOW),
    "mistral without a window": ("mistral", {"sliding_window": None}),
    "qwen2": ("qwen2", {}),
    "qwen2 with windows": ("qwen2", BY_LAYER | {"use_sliding_window": True}),
    "qwen3": ("qwen3", {"head_dim": 16}),
    "smollm3": ("smollm3", {"no_rope_layers": [1, 0, 1]}),
    "granite": (
        "granite",
        {"residual_multiplier": 0.3, "embedding_multiplier": 5, "logits_scaling": 3, "attention_multiplier": 0.4},
    ),
    "gemma": ("gemma", {"head_dim": 16}),
    "gemma2": ("gemma2", BY_LAYER | {"head_dim": 16, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0}),
    "gemma3": ("gemma3_text", BY_LAYER | {"head_dim": 16, "query_pre_attn_scalar": 10, "final_logit_softcapping": 4.0}),
}


def random_model(kind: str, **settings: Any) -> Any:
    config = AutoConfig.for_model(kind, **SIZES | settings)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
        for parameter in model.parameters():
            if parameter.ndim == 1:  # biases and norms that are not trained would hide that they are left out
                parameter.data.add_(torch.randn_like(parameter) * 0.1)
    model.generation_config.eos_token_id = None
    return model.eval()


@pytest.mark.parametrize("case", CASES)
def test_logits_are_the_models_own(case: str) -> None:
    kind, settings = CASES[case]
    model = random_model(kind, **settings)
    assert can_pack(model)
    (ids,) = random_prompts(40)
    with torch.inference_mode():
        right = model(torch.tensor([ids])).logits[0]
        torch.testing.assert_close(PackedDecoder(model, "float32").logits(ids), right, rtol=1e-4, atol=1e-4)
        rough = PackedDecoder(model, "bf16").logits(ids)
    assert (rough - right).norm() < 0.05 * right.norm()


@pytest.mark.parametrize("case", CASES)
def test_greedy_tokens_are_those_of_generate(tiny_tokenizer: PreTrainedTokenizerBase, case: str) -> None:
    kind, settings = CASES[case]
    model = random_model(kind, **settings)
    prompts = random_prompts(3, 17, 8, 1)
    assert can_loop(model)
    ours = tokens_by(CachedLoop(model, "float32"), tiny_tokenizer, prompts, 24)
    for prompt, row in zip(prompts, ours, strict=True):
        (alone,) = tokens_by(Generating(model, tiny_tokenizer, "float32"), tiny_tokenizer, [prompt], 24)
        assert row == alone or parted_at_a_tie(model, prompt, row, alone)


@pytest.mark.parametrize("kind", ["llama", "gemma3_text"])
def test_a_beginning_that_prompts_share_is_computed_once(tiny_tokenizer: PreTrainedTokenizerBase, kind: str) -> None:
    model = random_model(kind, **(BY_LAYER if kind == "gemma3_text" else {}))
    (shared, *ends) = random_prompts(40, 5, 11, 1)
    prompts = [shared + end for end in ends]
    packed = PackedDecoder(model, "float32")
    read: list[int] = []
    embed = packed._decoder.embed

    def counted(ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        read.append(len(ids))
        return embed(ids, positions)

    object.__setattr__(packed._decoder, "embed", counted)
    with torch.inference_mode():
        _, together = packed.start(prompts, 1)
        assert read == [40, 3 * 11]
        for prompt, logits in zip(prompts, together, strict=True):
            torch.testing.assert_close(logits, packed.logits(prompt)[-1], rtol=1e-4, atol=1e-4)
    ours = tokens_by(CachedLoop(model, "float32"), tiny_tokenizer, prompts, 12)
    for prompt, row in zip(prompts, ours, strict=True):
        (alone,) = tokens_by(Generating(model, tiny_tokenizer, "float32"), tiny_tokenizer, [prompt], 12)
        assert row == alone or parted_at_a_tie(model, prompt, row, alone)


def test_copies_of_a_prompt_are_drawn_as_generate_draws_them(tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    model = random_model("llama")
    prompts = random_prompts(5, 9)
    settings: dict[str, Any] = {"temperature": 0.8, "top_k": 50, "num_return_sequences": 3, "seed": 4}
    ours = tokens_by(CachedLoop(model, "float32"), tiny_tokenizer, prompts, 20, **settings)
    assert ours == tokens_by(Generating(model, tiny_tokenizer, "float32"), tiny_tokenizer, prompts, 20, **settings)
    assert len(set(map(tuple, ours))) == 6


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_a_batch_is_as_its_rows_alone_in_any_precision(precision: Any) -> None:
    if precision == "int8" and not multiplies_int8():
        pytest.skip("this CPU does not multiply int8")
    packed = PackedDecoder(random_model("llama"), precision)
    prompts = random_prompts(5, 6, 20)
    with torch.inference_mode():
        for rows in ([0, 1], [0, 1, 2]):
            memory, logits = packed.start([prompts[row] for row in rows], 2)
            following = packed.step(torch.tensor(rows), memory)
            for place, row in enumerate(rows):
                memory, alone = packed.start([prompts[row]], 2)
                assert (alone[0] - logits[place]).norm() < 0.02 * alone.norm()
                alone = packed.step(torch.tensor([row]), memory)
                assert (alone[0] - following[place]).norm() < 0.02 * alone.norm()


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_copies_of_a_row_write_on_as_the_row_would(precision: Any) -> None:
    """Many rows are computed by other kernels than few, and their keys and values are in another precision."""
    packed = PackedDecoder(random_model("qwen3"), precision)
    (prompt,) = random_prompts(9)
    tokens = torch.tensor([5, 6, 7, 8, 9, 10])
    with torch.inference_mode():
        memory, _ = packed.start([prompt], 2)
        memory.keep([0] * len(tokens))
        together = packed.step(tokens, memory)
        assert packed._shape.dtype == memory.keys[0].dtype
        for token, logits in zip(tokens, together, strict=True):
            memory, _ = packed.start([prompt], 2)
            alone = packed.step(token[None], memory)[0]
            assert (alone - logits).norm() < (1e-5 if precision == "float32" else 0.02) * alone.norm()


def test_weights_beyond_float16_are_multiplied_in_bfloat16() -> None:
    generator = torch.Generator().manual_seed(0)
    weight, states = torch.randn(48, 64, generator=generator), torch.randn(6, 64, generator=generator)
    weight[3] *= 1e6
    right = states @ weight.T
    multiply = product(weight, None, "bf16")
    for rows in (1, 6):
        found = multiply(states[:rows]).float()
        assert ((found - right[:rows]).norm(dim=0) < 0.02 * right[:rows].norm(dim=0) + 0.1).all()


@pytest.mark.parametrize("largest", [1.0, 1e6])
@pytest.mark.parametrize(("precision", "apart"), [("float32", 1e-5), ("bf16", 0.02)])
def test_a_processor_without_kernels_of_onednn_multiplies_all_the_same(
    precision: Any, apart: float, largest: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear_kernels, "_packed", lambda weight: None)
    generator = torch.Generator().manual_seed(0)
    weight, states, bias = (torch.randn(*shape, generator=generator) for shape in ((48, 64), (6, 64), (48,)))
    weight[3] *= largest
    right = functional.gelu(states @ weight.T + bias, approximate="tanh")
    multiply = linear_kernels.product(weight, bias, precision, gelu=True)
    for rows in (1, 6):
        found = multiply(states[:rows]).float()
        assert ((found - right[:rows]).norm(dim=0) < apart * right[:rows].norm(dim=0) + 10 * apart).all()


@pytest.mark.skipif(not multiplies_int8(), reason="this CPU does not multiply int8")
def test_int8_is_near_the_model(tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    model = random_model("llama")
    (ids,) = random_prompts(40)
    with torch.inference_mode():
        right, rough = model(torch.tensor([ids])).logits[0], PackedDecoder(model, "int8").logits(ids)
    assert (rough - right).norm() < 0.1 * right.norm()
    writer = Generator(model, tiny_tokenizer, window=128, precision="int8")
    assert isinstance(writer._engine_for(Decoding.checked()), CachedLoop)


def altered(change: str) -> Any:
    model = random_model("llama")
    match change:
        case "another class":
            model.__class__ = type("Mine", (type(model),), {})
        case "another layer":
            layer = model.model.layers[1].mlp
            layer.__class__ = type("Mine", (type(layer),), {})
        case "a hook":
            model.model.layers[0].mlp.register_forward_hook(lambda *_: None)
        case "a generation config that asks for more":
            model.generation_config.suppress_tokens = [3]
        case "frequencies by length":
            return random_model("llama", rope_parameters=SCALED | {"rope_type": "dynamic"})
        case "a layer less":
            model.config.num_hidden_layers = 2
        case "a layer without its parts":
            model.model.layers[1] = torch.nn.Identity()
        case "attention both ways":
            return random_model("gemma3_text", head_dim=16, use_bidirectional_attention=True)
        case "another architecture":
            return random_model("olmo2")
    return model


@pytest.mark.parametrize(
    "change",
    [
        "another class",
        "another layer",
        "a hook",
        "a generation config that asks for more",
        "frequencies by length",
        "a layer less",
        "a layer without its parts",
        "attention both ways",
        "another architecture",
    ],
)
def test_what_is_not_known_is_left_to_generate(change: str) -> None:
    assert not can_loop(altered(change))
