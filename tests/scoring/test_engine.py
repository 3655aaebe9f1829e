"""Both engines give the same answers, on random tries, and the probe finds out the models for which one would not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpt_tasks.scoring.engine import PlainEngine, TrieEngine
from gpt_tasks.scoring.model import ScoredModel
from gpt_tasks.scoring.probe import check_tree_attention
from gpt_tasks.scoring.requests import TokenizedRequest

LLAMA = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
NEO = {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "max_position_embeddings": 256}


@st.composite
def token_paths(draw: st.DrawFn) -> list[TokenizedRequest]:
    """Paths that share beginnings, from long to none, some equal, some the beginning of others."""
    random = draw(st.randoms(use_true_random=False))
    inputs: list[tuple[int, ...]] = [()]
    for _ in range(draw(st.integers(1, 25))):
        before = random.choice(inputs)
        kept = before[: random.randint(0, len(before))]
        more = tuple(random.randrange(384) for _ in range(random.randint(0 if kept else 1, 40)))
        inputs.append((*kept, *more))
    return [
        TokenizedRequest(path, tuple(random.randrange(384) for _ in range(random.randint(1, min(len(path), 30)))))
        for path in inputs[1:]
    ]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(paths=token_paths(), row_tokens=st.integers(4, 128), batch_tokens=st.integers(16, 512))
def test_engines_agree(gpt2: ScoredModel, paths: list[TokenizedRequest], row_tokens: int, batch_tokens: int) -> None:
    plain = dict(PlainEngine(gpt2, 256).score(paths))
    packed = dict(TrieEngine(gpt2, batch_tokens, row_tokens).score(paths))
    assert plain.keys() == packed.keys() == set(range(len(paths)))
    for place, answer in plain.items():
        assert packed[place].value == pytest.approx(answer.value, abs=1e-4)
        assert packed[place].is_greedy == answer.is_greedy


def test_greedy_is_what_the_model_itself_would_say(gpt2: ScoredModel) -> None:
    context = torch.tensor([[5, 6, 7, 8]])
    said = gpt2.model.generate(context, max_new_tokens=5, do_sample=False)[0].tolist()
    right = TokenizedRequest(tuple(said[:-1]), tuple(said[4:]))
    wrong = TokenizedRequest(tuple(said[:-1]), (*said[4:-1], (said[-1] + 1) % 384))
    for engine in (PlainEngine(gpt2), TrieEngine(gpt2)):
        answers = dict(engine.score([right, wrong]))
        assert answers[0].is_greedy
        assert not answers[1].is_greedy


def test_a_path_may_be_as_long_as_the_window(gpt2: ScoredModel) -> None:
    path = TokenizedRequest(tuple(range(256)), tuple(range(1, 257)))
    (_, plain), (_, packed) = *PlainEngine(gpt2).score([path]), *TrieEngine(gpt2, row_tokens=16).score([path])
    assert packed.value == pytest.approx(plain.value, abs=1e-3)


@pytest.mark.parametrize(
    ("config", "arguments"),
    [
        (transformers.GPT2Config, {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 256}),
        (
            transformers.GPTNeoXConfig,
            {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64},
        ),
        (transformers.LlamaConfig, LLAMA),
        (transformers.Qwen2Config, LLAMA),
        (transformers.MistralConfig, LLAMA),
        (
            transformers.OPTConfig,
            {
                "hidden_size": 32,
                "word_embed_proj_dim": 32,
                "ffn_dim": 64,
                "num_hidden_layers": 3,
                "num_attention_heads": 4,
                "max_position_embeddings": 256,
            },
        ),
    ],
)
def test_models_that_take_a_tree_mask(make_model: Callable[..., Any], config: type, arguments: dict[str, Any]) -> None:
    assert check_tree_attention(ScoredModel(make_model(config, **arguments)), depth=200, row_tokens=64) is None


@pytest.mark.parametrize(
    ("config", "arguments", "fault"),
    [
        # Each is wrong in another way: a local window, a sliding one, scaled logits, no 4-D mask, no attention at all.
        (
            transformers.GPTNeoConfig,
            {**NEO, "attention_types": [[["global", "local"], 1]], "window_size": 48},
            "off by",
        ),
        (transformers.MistralConfig, {**LLAMA, "sliding_window": 48}, "off by"),
        (transformers.GraniteConfig, {**LLAMA, "logits_scaling": 8.0}, "off by"),
        (transformers.BloomConfig, {"hidden_size": 32, "n_layer": 2, "n_head": 4}, "refuses"),
        (transformers.MambaConfig, {"hidden_size": 32, "num_hidden_layers": 2}, "refuses"),
    ],
)
def test_models_that_do_not(
    make_model: Callable[..., Any], config: type, arguments: dict[str, Any], fault: str
) -> None:
    assert fault in str(check_tree_attention(ScoredModel(make_model(config, **arguments)), depth=200, row_tokens=64))


def test_a_window_that_no_path_reaches_does_no_harm(make_model: Callable[..., Any]) -> None:
    model = ScoredModel(make_model(transformers.MistralConfig, **{**LLAMA, "sliding_window": 48}))
    assert check_tree_attention(model, depth=40, row_tokens=64) is None


def test_bf16_is_near_float32(make_model: Callable[..., Any]) -> None:
    from transformers import GPT2Config

    path = TokenizedRequest(tuple(range(100, 140)), (7, 8, 9))
    model = make_model(GPT2Config, n_embd=32, n_layer=3, n_head=4, n_positions=256)
    (_, exact), *_ = TrieEngine(ScoredModel(model)).score([path])
    (_, rounded), *_ = TrieEngine(ScoredModel(model.to(torch.bfloat16))).score([path])
    assert rounded.value == pytest.approx(exact.value, rel=0.05)
