"""The fast models compute what transformers' do, train what they train, and are not used where they cannot."""

from __future__ import annotations

import ctypes
import resource
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, GPT2Config, GPT2LMHeadModel, GPT2Model, LlamaForCausalLM

from gpt_tasks.backbone.speed import UsedRows, can_run, drop, hidden_states, keep_freed_memory, training_used_rows

SHAPE: dict[str, Any] = {
    "vocab_size": 60,
    "n_positions": 32,
    "n_embd": 16,
    "n_layer": 3,
    "n_head": 2,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
NO_DROPOUT: dict[str, Any] = {"embd_pdrop": 0.0, "attn_pdrop": 0.0, "resid_pdrop": 0.0}
LENGTHS = (11, 3, 1, 7)


def gpt2(**settings: Any) -> GPT2Model:
    """A model whose every weight matters: biases and normalisations are drawn as well, and larger than when fresh."""
    torch.manual_seed(0)
    model = GPT2Model(GPT2Config(**SHAPE, **settings))
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return model


GROUPED: dict[str, Any] = {
    "vocab_size": 60,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"attention_bias": True, "mlp_bias": True, "pad_token_id": 5},
    "llama scaled": {
        "rope_parameters": {**LLAMA3, "rope_theta": 100.0, "original_max_position_embeddings": 8},
        "num_key_value_heads": 4,
    },
    "llama yarn": {"rope_parameters": {"rope_type": "yarn", "rope_theta": 100.0, "factor": 4.0}},
    "mistral": {"sliding_window": None, "num_key_value_heads": 1},
    "qwen2": {},
    "qwen3": {"head_dim": 6},
}


def llama(family: str, **settings: Any) -> Any:
    """A model of Llama's shape whose every weight matters."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(family.split(maxsplit=1)[0], **{**GROUPED, **FAMILIES[family], **settings})
    model = AutoModel.from_config(config)
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return model


def batch(side: str, lengths: tuple[int, ...] = LENGTHS, width: int = 13) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    input_ids = torch.randint(1, 60, (len(lengths), width), generator=generator)
    mask = torch.zeros(len(lengths), width, dtype=torch.long)
    for row, length in enumerate(lengths):
        start = {"right": 0, "left": width - length, "both": (width - length) // 2}[side]
        mask[row, start : start + length] = 1
    return input_ids, mask


def by_transformers(model: nn.Module, input_ids: Tensor, mask: Tensor, last: bool) -> Tensor:
    positions = (mask.cumsum(dim=-1) - 1).clamp(min=0)
    hidden: Tensor = model(
        input_ids=input_ids, attention_mask=mask, position_ids=positions, use_cache=False
    ).last_hidden_state
    if not last:
        return hidden * mask.unsqueeze(-1)
    place = (mask * torch.arange(mask.shape[1])).argmax(dim=-1)
    return hidden[torch.arange(len(mask)), place].unsqueeze(1)


def with_gradients(
    model: nn.Module, compute: Callable[..., Tensor], *inputs: Any, **settings: Any
) -> tuple[Tensor, dict[str, Tensor]]:
    model.zero_grad()
    hidden = compute(*inputs, **settings)
    torch.manual_seed(2)
    (hidden.float() * torch.randn(hidden.shape)).sum().backward()
    return hidden.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same_as_transformers(model: nn.Module, wrapper: nn.Module, side: str, last: bool) -> None:
    assert can_run(model)
    inputs = batch(side)
    theirs, their_gradients = with_gradients(wrapper, by_transformers, wrapper, *inputs, last=last)
    ours, our_gradients = with_gradients(wrapper, hidden_states, model, *inputs, last=last)
    assert theirs.std() > 0.5
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    assert our_gradients.keys() == their_gradients.keys()
    for name, gradient in their_gradients.items():
        scale = gradient.abs().max().item()
        assert scale > 1e-3, name
        torch.testing.assert_close(our_gradients[name], gradient, atol=3e-5 * max(1.0, scale), rtol=1e-5, msg=name)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("side", ["right", "left", "both"])
@pytest.mark.parametrize("training", [False, True])
def test_states_and_gradients_are_those_of_transformers(side: str, last: bool, training: bool) -> None:
    model = gpt2(**NO_DROPOUT).train(training)
    assert_same_as_transformers(model, model, side, last)


@pytest.mark.parametrize(
    "settings",
    [{"activation_function": "relu"}, {"scale_attn_by_inverse_layer_idx": True}, {"scale_attn_weights": False}],
    ids=lambda settings: next(iter(settings)),
)
def test_the_variants_of_the_architecture_are_computed(settings: dict[str, Any]) -> None:
    model = gpt2(**settings, **NO_DROPOUT).train()
    # A dropout too rare to strike takes attention through the other branch, that of a training with dropout.
    for block in model.h:
        block.attn.attn_dropout.p = 1e-9
    assert_same_as_transformers(model, model, "left", last=True)


def test_lora_is_computed_with_its_gradients() -> None:
    from peft import LoraConfig, get_peft_model

    model = gpt2(**NO_DROPOUT)
    targets = ["c_attn", "c_proj", "c_fc"]
    wrapped = get_peft_model(model, LoraConfig(r=4, target_modules=targets, fan_in_fan_out=True)).eval()
    for name, parameter in wrapped.named_parameters():
        if "lora" in name:
            parameter.data.normal_(std=0.3)
    assert_same_as_transformers(model, wrapped, "left", last=True)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("family", FAMILIES)
def test_llamas_states_and_gradients_are_those_of_transformers(family: str, side: str, last: bool) -> None:
    model = llama(family).train()
    assert_same_as_transformers(model, model, side, last)


def test_lora_in_a_llama_is_computed_with_its_gradients() -> None:
    from peft import LoraConfig, get_peft_model

    model = llama("llama")
    wrapped = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"])).eval()
    for name, parameter in wrapped.named_parameters():
        if "lora" in name:
            parameter.data.normal_(std=0.3)
    assert_same_as_transformers(model, wrapped, "left", last=True)


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen3"])
def test_bfloat16_is_as_close_to_float32_as_that_of_transformers(family: str) -> None:
    model = (gpt2(**NO_DROPOUT) if family == "gpt2" else llama(family)).train()
    for block in model.h if family == "gpt2" else ():
        block.attn.attn_dropout.p = 1e-9
    inputs = batch("left")
    exact = with_gradients(model, by_transformers, model, *inputs, last=True)
    with torch.autocast("cpu", torch.bfloat16):
        theirs = with_gradients(model, by_transformers, model, *inputs, last=True)
        ours = with_gradients(model, hidden_states, model, *inputs, last=True)

    def distance(found: tuple[Tensor, dict[str, Tensor]]) -> float:
        flat, wanted = (torch.cat([g.flatten() for g in one[1].values()]) for one in (found, exact))
        return float((flat - wanted).norm() / wanted.norm() + (found[0] - exact[0]).norm() / exact[0].norm())

    assert ours[0].dtype == torch.float32
    assert 0 < distance(ours) < 1.2 * distance(theirs)


@pytest.mark.parametrize("where", ["embd_pdrop", "attn_pdrop", "resid_pdrop"])
@pytest.mark.parametrize("last", [False, True])
def test_dropout_is_where_gpt2_has_it(where: str, last: bool) -> None:
    """One text 20,000 times in a batch: every coordinate has the mean and the spread that transformers' has."""
    model = gpt2(**{**NO_DROPOUT, where: 0.3}).train()
    input_ids, mask = (rows.expand(20_000, -1) for rows in batch("right", lengths=(5,), width=5))
    with torch.no_grad():
        theirs = by_transformers(model, input_ids, mask, last)
        ours = hidden_states(model, input_ids, mask, last=last)
    spread = theirs.std(dim=0)
    assert spread.mean() > 0.05
    # Both are estimates: 5 standard errors of a difference, and the kurtosis of a spread is not known.
    torch.testing.assert_close((ours.mean(dim=0) - theirs.mean(dim=0)) / (spread + 1e-6), 0 * spread, atol=0.05, rtol=0)
    torch.testing.assert_close(ours.std(dim=0), spread, atol=1e-3, rtol=0.06)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_has_the_rate_and_the_scale_that_it_says(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    inputs = torch.ones(1000, 1003, dtype=dtype)
    dropped = drop(inputs, 0.1)
    zeros = (dropped == 0).float()
    n = inputs.numel()
    assert abs(zeros.mean().item() - 0.1) < 5 * (0.09 / n) ** 0.5
    assert dropped.unique().tolist() == [0, pytest.approx(1 / 0.9, rel=1e-5 if dtype == torch.float32 else 2**-8)]
    # Four neighbours come from one draw; they must not know of each other.
    flat = zeros.flatten()[: n - n % 4].view(-1, 4)
    correlations = torch.corrcoef(flat.T) - torch.eye(4)
    assert correlations.abs().max() < 5 / len(flat) ** 0.5
    assert drop(inputs, 0.0) is inputs


def test_dropout_follows_the_seed_and_its_gradient_follows_the_mask() -> None:
    inputs = torch.randn(7, 9, requires_grad=True)
    results = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        results.append(drop(inputs, 0.4))
        # The next draw is the same as well, so that a resumed training continues unchanged.
        results.append(drop(inputs, 0.4))
    assert torch.equal(results[0], results[2])
    assert torch.equal(results[1], results[3])
    assert not torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[4])
    results[0].sum().backward()
    assert inputs.grad is not None
    torch.testing.assert_close(inputs.grad * inputs, results[0])


def test_rows_without_tokens_leave_the_others_alone() -> None:
    model = gpt2().eval()
    input_ids, mask = batch("right", lengths=(4, 0, 6))
    with torch.no_grad():
        for last in (False, True):
            whole = hidden_states(model, input_ids, mask, last=last)
            alone = hidden_states(model, input_ids[[0, 2]], mask[[0, 2]], last=last)
            torch.testing.assert_close(whole[[0, 2]], alone)


def test_it_is_not_used_where_another_forward_is_wanted() -> None:
    assert can_run(gpt2())
    assert can_run(llama("mistral"))
    assert not can_run(llama("mistral", sliding_window=4))
    assert not can_run(AutoModel.from_config(AutoConfig.for_model("gemma", **GROUPED)))
    assert not can_run(gpt2(add_cross_attention=True))
    elsewhere = gpt2()
    elsewhere.to("meta")
    assert not can_run(elsewhere)
    recomputing = gpt2()
    recomputing.activation_checkpointing_enable()
    assert not can_run(recomputing)
    sharded = gpt2()
    # FSDP2 replaces a block's class by another and gathers the weights in its forward.
    sharded.h[1].__class__ = type("FSDPGPT2Block", (type(sharded.h[1]),), {})
    assert not can_run(sharded)


USED = torch.tensor([3, 4, 7, 20, 41])


def trained(model: GPT2LMHeadModel, steps: int = 6, weight_decay: float = 0.0) -> None:
    """A few updates by AdamW, on the used tokens."""
    base = model.transformer
    optimizer = torch.optim.AdamW(base.parameters(), lr=1e-2, weight_decay=weight_decay)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        input_ids = USED[torch.randint(len(USED), (4, 6), generator=generator)]
        loss = hidden_states(base, input_ids, torch.ones_like(input_ids), last=True)[..., :3].pow(2).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(base.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()


def fresh() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(**SHAPE, **NO_DROPOUT))


def test_training_the_used_rows_alone_gives_the_weights_of_training_all() -> None:
    whole, part = fresh(), fresh()
    before = whole.transformer.wte.weight.detach().clone()
    trained(whole)
    embedding = part.transformer.wte
    with training_used_rows(part.transformer, USED):
        assert part.transformer.wte.weight.shape == (5, 16)
        trained(part)
    assert part.transformer.wte is embedding
    assert part.lm_head.weight is embedding.weight
    weights = part.state_dict()
    assert weights.keys() == whole.state_dict().keys()
    for name, weight in whole.state_dict().items():
        torch.testing.assert_close(weights[name], weight, atol=1e-6, rtol=1e-5, msg=name)
    moved = (embedding.weight != before).any(dim=-1)
    assert moved.nonzero().flatten().tolist() == USED.tolist()


def test_rows_that_no_token_uses_do_not_decay() -> None:
    model = fresh()
    before = model.transformer.wte.weight.detach().clone()
    unused = [row for row in range(len(before)) if row not in USED.tolist()]
    with training_used_rows(model.transformer, USED):
        trained(model, weight_decay=0.5)
    assert torch.equal(model.transformer.wte.weight[unused], before[unused])
    trained(model, weight_decay=0.5)
    assert (model.transformer.wte.weight[unused].abs() < before[unused].abs()).all()


def test_the_row_for_padding_stays() -> None:
    torch.manual_seed(0)
    model = LlamaForCausalLM(AutoConfig.for_model("llama", **GROUPED, pad_token_id=4, tie_word_embeddings=True))
    before = model.model.embed_tokens.weight.detach().clone()
    with training_used_rows(model.model, USED):
        hidden_states(model.model, USED[None], torch.ones(1, 5)).square().sum().backward()
        model.model.embed_tokens.weight.data -= model.model.embed_tokens.weight.grad
    moved = (model.lm_head.weight != before).any(dim=-1)
    assert moved.nonzero().flatten().tolist() == [token for token in USED.tolist() if token != 4]


def test_unused_tokens_are_embedded_during_training_as_ever() -> None:
    model = fresh().transformer.eval()
    input_ids, mask = batch("right")
    with torch.no_grad():
        expected = hidden_states(model, input_ids, mask)
        with training_used_rows(model, USED):
            torch.testing.assert_close(hidden_states(model, input_ids, mask), expected)


def test_a_checkpoint_of_the_used_rows_fits_the_run_that_continues() -> None:
    first, second = fresh(), fresh()
    with training_used_rows(first.transformer, USED):
        trained(first)
        checkpoint = {name: tensor.clone() for name, tensor in first.transformer.state_dict().items()}
    with training_used_rows(second.transformer, USED):
        second.transformer.load_state_dict(checkpoint)
    torch.testing.assert_close(second.state_dict(), first.state_dict(), rtol=0, atol=0)


def test_what_was_learned_is_saved_when_training_is_interrupted() -> None:
    model = fresh()

    def interrupted() -> None:
        with training_used_rows(model.transformer, USED):
            model.transformer.wte.weight.data.fill_(5.0)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (model.lm_head.weight == 5).all(dim=-1).nonzero().flatten().tolist() == USED.tolist()


def test_an_embedding_that_does_not_move_or_is_of_another_kind_is_left_unchanged() -> None:
    frozen, another = fresh().transformer, fresh().transformer
    frozen.requires_grad_(False)
    another.wte.__class__ = type("Scaled", (nn.Embedding,), {})
    for model in (frozen, another):
        with training_used_rows(model, USED):
            assert not isinstance(model.wte, UsedRows)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="a setting of glibc")
def test_freed_memory_is_used_again_without_asking_the_kernel() -> None:
    keep_freed_memory()

    def page_faults() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        blocks = [torch.zeros(2**23 - 1000) for _ in range(8)]
        del blocks
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    first, *later = (page_faults() for _ in range(4))
    pages = 8 * 2**25 // resource.getpagesize()
    assert min(later) < pages / 16, f"{pages} pages were asked for {first} times, then {later}"
