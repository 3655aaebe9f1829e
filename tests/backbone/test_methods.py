"""Tuning methods move what they say and leave a plain model behind."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    OpenAIGPTConfig,
    OpenAIGPTLMHeadModel,
)

from gpt_tasks.backbone.methods import register_methods
from gpt_tasks.errors import ModelError, UsageError
from gpt_tasks.extensions import Method
from gpt_tasks.heads.model import HeadModel
from gpt_tasks.heads.sequence import SequenceHead

METHODS = {method.name: method for method in register_methods()}
IDS = torch.tensor([[3, 7, 1, 9, 4], [5, 2, 8, 8, 6]])
LABELS = torch.tensor([0, 1])


def summed_cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.cross_entropy(logits, labels, reduction="sum")


def gpt2() -> Any:
    config = GPT2Config(vocab_size=50, n_positions=32, n_embd=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0)
    return GPT2LMHeadModel(config)


def llama() -> Any:
    return LlamaForCausalLM(
        LlamaConfig(vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)
    )


def openai_gpt() -> Any:
    """An architecture for which peft names no layers."""
    return OpenAIGPTLMHeadModel(OpenAIGPTConfig(vocab_size=50, n_positions=32, n_embd=16, n_layer=2, n_head=2))


def mamba() -> Any:
    """An architecture some of whose linear layers peft refuses."""
    return MambaForCausalLM(MambaConfig(vocab_size=50, hidden_size=16, num_hidden_layers=2, state_size=4))


def train(method: Method, causal_lm: Any, updates: int = 3) -> HeadModel:
    torch.manual_seed(0)
    model = HeadModel(method.prepare(causal_lm.base_model), SequenceHead(16, 2), summed_cross_entropy)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.05)
    for _ in range(updates):
        model(IDS, torch.ones_like(IDS), LABELS)["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


def logits(model: HeadModel) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(IDS, torch.ones_like(IDS))["logits"]
    return found


@pytest.mark.parametrize("build", [gpt2, llama, openai_gpt, mamba])
def test_lora_merged_answers_as_it_did_unmerged(build: Callable[[], Any], tmp_path: Any) -> None:
    causal_lm = build()
    names = set(causal_lm.state_dict())
    untrained = {name: tensor.clone() for name, tensor in causal_lm.state_dict().items()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = train(METHODS["lora"], causal_lm)
    expected = logits(model)
    model.backbone = METHODS["lora"].finish(model.backbone)
    assert model.backbone is causal_lm.base_model
    torch.testing.assert_close(logits(model), expected, atol=1e-5, rtol=1e-5)
    assert set(causal_lm.state_dict()) == names
    assert any(not torch.equal(tensor, untrained[name]) for name, tensor in causal_lm.state_dict().items())
    causal_lm.save_pretrained(tmp_path)
    opened = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    model.backbone = opened.base_model
    torch.testing.assert_close(logits(model), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("build", [gpt2, llama, openai_gpt, mamba])
def test_lora_moves_low_rank_matrices_alone(build: Callable[[], Any]) -> None:
    backbone = METHODS["lora"].prepare(build().base_model)
    moving = [name for name, parameter in backbone.named_parameters() if parameter.requires_grad]
    assert moving
    assert all("lora_" in name for name in moving)


def test_every_matrix_that_lora_adds_to_a_mamba_learns() -> None:
    model = train(METHODS["lora"], mamba())
    added = {name: weight for name, weight in model.backbone.named_parameters() if "lora_B" in name}
    assert len(added) == 4
    assert all(weight.any() for weight in added.values())


def test_a_model_that_peft_adapts_nowhere_is_named() -> None:
    backbone = gpt2().base_model
    backbone.config.model_type = "llama"  # for which peft names layers that are not there
    with pytest.raises(ModelError, match=r"--method lora: peft adapts no model of type 'llama': "):
        METHODS["lora"].prepare(backbone)


def test_head_leaves_the_backbone_as_it_was() -> None:
    causal_lm = gpt2()
    before = {name: tensor.clone() for name, tensor in causal_lm.state_dict().items()}
    model = train(METHODS["head"], causal_lm)
    assert METHODS["head"].frozen
    assert METHODS["head"].finish(model.backbone) is causal_lm.base_model
    assert all(torch.equal(tensor, before[name]) for name, tensor in causal_lm.state_dict().items())


def test_full_moves_every_weight() -> None:
    causal_lm = gpt2()
    causal_lm.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in causal_lm.base_model.named_parameters()}
    model = train(METHODS["full"], causal_lm)
    assert METHODS["full"].finish(model.backbone) is causal_lm.base_model
    unmoved = [name for name, tensor in model.backbone.named_parameters() if torch.equal(tensor, before[name])]
    assert unmoved == []


@pytest.mark.parametrize("build", [gpt2, llama])
@pytest.mark.parametrize("name", ["full", "lora"])
def test_activation_checkpointing_computes_twice_and_changes_no_gradient(name: str, build: Callable[[], Any]) -> None:
    model = HeadModel(METHODS[name].prepare(build().base_model), SequenceHead(16, 2), summed_cross_entropy).train()
    calls = 0

    def count(*_: Any) -> None:
        nonlocal calls
        calls += 1

    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # its random numbers are not those of the faster forward without checkpointing
    inner = (module for path, module in model.named_modules() if path.endswith((".mlp.c_fc", ".mlp.gate_proj")))
    next(inner).register_forward_pre_hook(count)
    gradients = []
    for times in (1, 2):
        calls = 0
        model.zero_grad()
        torch.manual_seed(0)
        model(IDS, torch.ones_like(IDS), LABELS)["loss"].backward()
        assert calls == times
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
        model.activation_checkpointing_enable()
    torch.testing.assert_close(gradients[0], gradients[1])


def test_a_backbone_that_cannot_recompute_says_so() -> None:
    model = HeadModel(openai_gpt().base_model, SequenceHead(16, 2))
    with pytest.raises(UsageError, match="OpenAIGPTModel does not support"):
        model.activation_checkpointing_enable()


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_defaults_are_settings_of_a_fine_tuning(method: Method) -> None:
    from gpt_tasks.training.config import FinetuneConfig

    for parameters in (1_000, 7_000_000, 124_000_000, 1_600_000_000, 10**12):
        assert FinetuneConfig(**method.defaults(parameters))


def test_larger_backbones_learn_at_lower_rates() -> None:
    for name in ("full", "lora"):
        rates = [METHODS[name].defaults(size)["learning_rate"] for size in (7_000_000, 124_000_000, 774_000_000)]
        assert rates == sorted(set(rates), reverse=True)
        assert (
            METHODS["lora"].defaults(7_000_000)["learning_rate"] > METHODS["full"].defaults(7_000_000)["learning_rate"]
        )
