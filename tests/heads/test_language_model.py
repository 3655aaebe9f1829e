"""A language model that learns some of its tokens: its loss is that of transformers for any architecture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import (
    GemmaConfig,
    GemmaForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PhiConfig,
    PhiForCausalLM,
)

from gpt_tasks.backbone.methods import register_methods
from gpt_tasks.heads.language_model import LanguageModel

METHODS = {method.name: method for method in register_methods()}
SHAPE: dict[str, Any] = {"vocab_size": 60, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
WIDE = {
    **SHAPE,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
}
ARCHITECTURES: dict[str, tuple[Callable[[], Any], bool]] = {
    "gpt2": (lambda: GPT2LMHeadModel(GPT2Config(**SHAPE, n_positions=32, n_embd=16, n_layer=2, n_head=2)), True),
    "llama": (lambda: LlamaForCausalLM(LlamaConfig(**WIDE)), True),
    "gemma": (lambda: GemmaForCausalLM(GemmaConfig(**WIDE, head_dim=8)), True),
    "granite, scaled logits": (lambda: GraniteForCausalLM(GraniteConfig(**WIDE, logits_scaling=4.0)), False),
    "phi, with a bias": (lambda: PhiForCausalLM(PhiConfig(**WIDE)), False),
}
# Tokens, and from which on they are learned; one is learned to its end, one not at all.
TEXTS = [([3, 7, 1, 9, 4, 0], 3), ([5, 0, 8], 1), ([6, 2], 2), ([1, 2, 3, 4, 5, 6, 7, 0], 5)]


def batch(left: bool) -> dict[str, torch.Tensor]:
    ids, mask = torch.zeros(4, 9, dtype=torch.long), torch.zeros(4, 9, dtype=torch.long)
    labels = torch.full((4, 9), -100)
    for row, (text, start) in enumerate(TEXTS):
        begin = 9 - len(text) if left else 0
        ids[row, begin : begin + len(text)] = torch.tensor(text)
        mask[row, begin : begin + len(text)] = 1
        labels[row, begin + start : begin + len(text)] = torch.tensor(text[start:])
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


@pytest.fixture(params=ARCHITECTURES)
def architecture(request: pytest.FixtureRequest) -> tuple[Any, bool]:
    torch.manual_seed(0)
    build, plain = ARCHITECTURES[request.param]
    causal_lm = build()
    for parameter in causal_lm.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return causal_lm.eval(), plain


def alone(causal_lm: Any) -> list[float]:
    """Transformers' own loss of each text alone, summed over its learned tokens."""
    found = []
    for text, start in TEXTS:
        labels = torch.tensor([[-100] * start + text[start:]])
        count = len(text) - start
        with torch.no_grad():
            found.append(float(causal_lm(torch.tensor([text]), labels=labels).loss) * count if count else 0.0)
    return found


@pytest.mark.parametrize("left", [False, True])
def test_the_loss_is_that_of_transformers(architecture: tuple[Any, bool], left: bool) -> None:
    causal_lm, plain = architecture
    model = LanguageModel(causal_lm.base_model, causal_lm).eval()
    assert model.plain == plain
    wanted = alone(causal_lm)
    learned = sum(len(text) - start for text, start in TEXTS)
    assert model.losses(**batch(left)).tolist() == pytest.approx(wanted, abs=1e-4)
    with torch.no_grad():
        assert float(model(**batch(left))["loss"]) == pytest.approx(sum(wanted) / learned, abs=1e-5)
        assert float(model(**batch(left), num_items_in_batch=100)["loss"]) == pytest.approx(sum(wanted) / 100, abs=1e-5)


@pytest.mark.parametrize("left", [False, True])
def test_log_probabilities_are_the_losses_with_a_gradient(architecture: tuple[Any, bool], left: bool) -> None:
    causal_lm, _ = architecture
    model = LanguageModel(causal_lm.base_model, causal_lm).eval()
    found = model.log_probs(**batch(left))
    assert found.tolist() == pytest.approx([-loss for loss in alone(causal_lm)], abs=1e-4)
    (found * torch.tensor([1.0, 1.0, 1.0, -1.0])).sum().backward()
    ours = {name: parameter.grad.clone() for name, parameter in causal_lm.named_parameters()}
    causal_lm.zero_grad()
    for (text, start), sign in zip(TEXTS, (-1, -1, -1, 1), strict=True):
        if start < len(text):
            labels = torch.tensor([[-100] * start + text[start:]])
            (causal_lm(torch.tensor([text]), labels=labels).loss * (len(text) - start) * sign).backward()
    for name, parameter in causal_lm.named_parameters():
        torch.testing.assert_close(ours[name], parameter.grad, atol=1e-4, rtol=1e-3)


def test_gradients_reach_what_moves_and_nothing_is_saved_twice(architecture: tuple[Any, bool]) -> None:
    causal_lm, _ = architecture
    model = LanguageModel(causal_lm.base_model, causal_lm)
    model(**batch(False))["loss"].backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert {id(parameter) for parameter in model.parameters()} == {id(each) for each in causal_lm.parameters()}
    places = [tensor.data_ptr() for tensor in model.state_dict().values()]
    assert len(set(places)) == len(places)


def test_the_gradients_are_those_of_transformers(architecture: tuple[Any, bool]) -> None:
    causal_lm, _ = architecture
    model = LanguageModel(causal_lm.base_model, causal_lm).eval()
    given = batch(False)
    model(**given)["loss"].backward()
    ours = {name: parameter.grad.clone() for name, parameter in causal_lm.named_parameters()}
    causal_lm.zero_grad()
    causal_lm(given["input_ids"], attention_mask=given["attention_mask"], labels=given["labels"]).loss.backward()
    for name, parameter in causal_lm.named_parameters():
        torch.testing.assert_close(ours[name], parameter.grad, atol=1e-5, rtol=1e-3)


def test_under_lora_only_what_was_added_moves() -> None:
    causal_lm = ARCHITECTURES["gpt2"][0]()
    model = LanguageModel(METHODS["lora"].prepare(causal_lm.base_model), causal_lm)
    model(**batch(False))["loss"].backward()
    moving = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert moving
    assert all("lora" in name for name in moving)
