"""What a fine-tuning trains of each layer, at which rate, by which optimizer, and beside which weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
)

import gpt_tasks
from gpt_tasks.backbone.layers import freeze_layers, rates_by_layer
from gpt_tasks.cli.main import run as command
from gpt_tasks.errors import MachineError, UsageError
from gpt_tasks.training.trainer import LearnerTrainer

ROWS = [
    {"text": f"What a {word} {thing}.", "label": label}
    for word, label in (("splendid", "positive"), ("dreadful", "negative"))
    for thing in ("film", "dinner", "hotel", "walk", "concert", "novel", "museum", "train", "soup", "tram")
]
SHAPE: dict[str, Any] = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}


def gpt2() -> Any:
    return GPT2LMHeadModel(GPT2Config(vocab_size=50, n_positions=32, n_embd=16, n_layer=3, n_head=2))


def llama() -> Any:
    return LlamaForCausalLM(LlamaConfig(**SHAPE, intermediate_size=32))


def bloom() -> Any:
    return BloomForCausalLM(BloomConfig(vocab_size=50, hidden_size=16, n_layer=3, n_head=2))


def opt() -> Any:
    return OPTForCausalLM(OPTConfig(**SHAPE, ffn_dim=32, word_embed_proj_dim=16, max_position_embeddings=32))


def mamba() -> Any:
    return MambaForCausalLM(MambaConfig(vocab_size=50, hidden_size=16, num_hidden_layers=3, state_size=4))


# The first layer's path in the base model, and the embeddings'.
PARTS: dict[str, tuple[Callable[[], Any], str, tuple[str, ...]]] = {
    "gpt2": (gpt2, "h", ("wte", "wpe")),
    "llama": (llama, "layers", ("embed_tokens",)),
    "bloom": (bloom, "h", ("word_embeddings", "word_embeddings_layernorm")),
    "opt": (opt, "decoder.layers", ("decoder.embed_tokens", "decoder.embed_positions")),
    "mamba": (mamba, "layers", ("embeddings",)),
}


def trained(backbone: Path, output: Path, **settings: Any) -> Any:
    how: dict[str, Any] = {"epochs": 2, "learning_rate": 0.01, "device": "cpu", "precision": "float32", **settings}
    return gpt_tasks.finetune("sentiment", data=ROWS, backbone=backbone, output=output, **how)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    return dict(model.base_model.named_parameters())


@pytest.mark.parametrize("kind", PARTS)
def test_embeddings_and_first_layers_are_frozen(kind: str) -> None:
    build, layers, embeddings = PARTS[kind]
    base = build().base_model
    frozen = freeze_layers(base, 2)
    still = {name for name, parameter in base.named_parameters() if not parameter.requires_grad}
    below = (*(f"{each}." for each in embeddings), f"{layers}.0.", f"{layers}.1.")
    assert still == {name for name, _ in base.named_parameters() if name.startswith(below)}
    assert len(frozen) == len(still) > 0


@pytest.mark.parametrize("kind", PARTS)
def test_rates_fall_from_layer_to_layer(kind: str) -> None:
    build, layers, embeddings = PARTS[kind]
    base = build().base_model
    for name, rate in rates_by_layer(base, 0.5).items():
        expected = 1.0
        if name.startswith(f"{layers}."):
            expected = 0.5 ** (3 - int(name.removeprefix(f"{layers}.").partition(".")[0]))
        elif name.startswith(tuple(f"{each}." for each in embeddings)):
            expected = 0.5**4
        assert rate == expected, name


def test_frozen_layers_are_the_same_bit_by_bit(tiny_backbone_folder: Path, tmp_path: Path) -> None:
    before = weights(tiny_backbone_folder)
    run = trained(tiny_backbone_folder, tmp_path / "run", freeze_layers=1)
    after = weights(run.path / "model")
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert same == {name for name in before if name.startswith(("wte.", "wpe.", "h.0."))}
    assert run.record["settings"]["freeze_layers"] == 1


def test_frozen_layers_have_no_adapter_that_moves(tiny_backbone_folder: Path, tmp_path: Path) -> None:
    before = weights(tiny_backbone_folder)
    run = trained(tiny_backbone_folder, tmp_path / "run", method="lora", freeze_layers=1, backbone_by_reference=True)
    opened: Any = gpt_tasks.load(run.path).predictor.backbone.model
    after = dict(opened.base_model.named_parameters())
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"h.1.attn.c_attn.weight"}


@pytest.mark.parametrize("method", ["full", "lora"])
def test_more_layers_than_there_are_cannot_be_frozen(tiny_backbone_folder: Path, tmp_path: Path, method: str) -> None:
    with pytest.raises(UsageError, match="--freeze-layers 3: the backbone has 2 layers"):
        trained(tiny_backbone_folder, tmp_path / "run", freeze_layers=3, method=method)
    assert not (tmp_path / "run").exists()


def test_something_must_be_left_to_train(tiny_backbone_folder: Path, tmp_path: Path) -> None:
    rows = [{"document": f"{row['text']} It was.", "summary": "It was."} for row in ROWS]
    how: dict[str, Any] = {"data": rows, "backbone": tiny_backbone_folder, "device": "cpu", "output": tmp_path / "run"}
    how["options"] = {"max_tokens": 8}
    with pytest.raises(UsageError, match="--freeze-layers 2: nothing is left that could be trained"):
        gpt_tasks.finetune("summarization", method="lora", freeze_layers=2, **how)


def test_layers_learn_at_their_own_rates(
    tiny_backbone_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    create = LearnerTrainer.create_optimizer

    def noted(trainer: LearnerTrainer, model: Any = None) -> Any:
        optimizer = create(trainer, model)
        names = {id(parameter): name for name, parameter in trainer.model.named_parameters()}  # type: ignore[union-attr]
        seen.append([({names[id(each)] for each in group["params"]}, dict(group)) for group in optimizer.param_groups])
        return optimizer

    monkeypatch.setattr(LearnerTrainer, "create_optimizer", noted)
    run = trained(tiny_backbone_folder, tmp_path / "run", layer_lr_decay=0.1, warmup=0, weight_decay=0.3)
    assert run.record["settings"]["layer_lr_decay"] == 0.1
    (groups,) = seen
    rates = {name: (group["lr"], group["weight_decay"]) for names, group in groups for name in names}
    assert {
        name: rates[name]
        for name in (
            "backbone.wte.weight",
            "backbone.h.0.attn.c_attn.weight",
            "backbone.h.1.ln_1.weight",
            "backbone.ln_f.weight",
        )
    } == {
        "backbone.wte.weight": (pytest.approx(1e-5), 0.3),
        "backbone.h.0.attn.c_attn.weight": (pytest.approx(1e-4), 0.3),
        "backbone.h.1.ln_1.weight": (pytest.approx(1e-3), 0.0),
        "backbone.ln_f.weight": (pytest.approx(1e-2), 0.0),
    }
    head = {rate for name, (rate, _) in rates.items() if name.startswith("head.")}
    assert head == {0.01}
    # The first update of Adam is as large as the learning rate.
    before, after = weights(tiny_backbone_folder), weights(run.path / "model")
    moved = {name: float((after[name] - before[name]).abs().max()) for name in before}
    assert moved["ln_f.weight"] > 3 * moved["h.1.ln_1.weight"] > 9 * moved["h.0.ln_1.weight"]


def test_a_run_with_rates_of_layers_is_resumed(
    tiny_backbone_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    how: dict[str, Any] = {"layer_lr_decay": 0.5, "freeze_layers": 0, "checkpoint_steps": 1, "batch_tokens": 64}
    whole = trained(tiny_backbone_folder, tmp_path / "whole", **how)
    step = LearnerTrainer.training_step
    calls = 0

    def stopping(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return step(*arguments, **named)

    monkeypatch.setattr(LearnerTrainer, "training_step", stopping)
    with pytest.raises(KeyboardInterrupt):
        trained(tiny_backbone_folder, tmp_path / "run", **how)
    resumed = trained(tiny_backbone_folder, tmp_path / "run", resume=True, **how)
    one, other = weights(whole.path / "model"), weights(resumed.path / "model")
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_another_optimizer_trains(tiny_backbone_folder: Path, tmp_path: Path) -> None:
    run = trained(tiny_backbone_folder, tmp_path / "run", optimizer="adafactor")
    assert run.record["settings"]["optimizer"] == "adafactor"
    default = trained(tiny_backbone_folder, tmp_path / "default")
    one, other = weights(run.path / "model"), weights(default.path / "model")
    assert not torch.equal(one["ln_f.weight"], other["ln_f.weight"])


@pytest.mark.parametrize(
    "given",
    [
        {"method": "lora", "load_in": "4bit"},
        {"method": "lora", "load_in": "8bit"},
        {"optimizer": "adamw_8bit"},
        {"optimizer": "paged_adamw_32bit"},
    ],
)
def test_what_needs_a_gpu_says_so(tiny_backbone_folder: Path, tmp_path: Path, given: dict[str, Any]) -> None:
    flag = "--load-in" if "load_in" in given else "--optimizer"
    with pytest.raises(MachineError) as caught:
        trained(tiny_backbone_folder, tmp_path / "run", **given)
    value = list(given.values())[-1]
    assert caught.value.message.startswith(f"{flag} {value} needs a GPU (CUDA) and the package bitsandbytes")
    assert not (tmp_path / "run").exists()


def test_the_exit_code_of_a_missing_gpu_is_the_machines(
    tiny_backbone_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--backbone", str(tiny_backbone_folder), "--method", "lora", "--load-in", "4bit", "--device", "cpu"]
    assert command(["finetune", "sentiment", *words]) == 6
    assert list(tmp_path.iterdir()) == []


def test_only_adapters_are_trained_beside_quantized_weights(tiny_backbone_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--load-in is of no use with --method full: .*: 4bit"):
        trained(tiny_backbone_folder, tmp_path / "run", load_in="4bit")
