"""Tuning methods: which weights of the backbone are trained, and the settings that suit each method and size."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from gpt_tasks.errors import ModelError, said
from gpt_tasks.extensions import Method
from gpt_tasks.hookspecs import hookimpl
from gpt_tasks.threads import ignoring_warnings

if TYPE_CHECKING:
    from torch import nn

LORA_RANK = 16
LORA_ALPHA = 32
LORA_DROPOUT = 0.05
_MAMBA = frozenset(["falcon_h1", "falcon_mamba", "mamba", "mamba2"])


def _settings(learning_rate: float, epochs: float, batch_tokens: int) -> Mapping[str, float | int]:
    return {
        "learning_rate": learning_rate,
        "epochs": epochs,
        "batch_tokens": batch_tokens,
        "warmup": 0.1,
        "weight_decay": 0.01,
    }


# For each method, by the backbone's number of parameters: the first row that is large enough applies.
_DEFAULTS: Mapping[str, Sequence[tuple[float, Mapping[str, float | int]]]] = {
    "full": (
        (30e6, _settings(1e-3, 4, 1024)),
        (200e6, _settings(5e-5, 3, 1024)),
        (math.inf, _settings(2e-5, 3, 2048)),
    ),
    "lora": (
        (30e6, _settings(2e-3, 6, 1024)),
        (200e6, _settings(5e-4, 4, 1024)),
        (math.inf, _settings(2e-4, 3, 2048)),
    ),
    # Features are computed once and the head is fitted to its optimum: neither epochs nor a learning rate.
    "head": ((math.inf, {"batch_tokens": 4096}),),
}


@hookimpl
def register_methods() -> Sequence[Method]:
    """Register `full`, `lora` and `head`."""
    return [
        _method("full", "Every weight of the backbone is trained.", _unfreeze, _unchanged),
        _method("lora", "Low-rank matrices are trained, and merged at the end.", _add_lora, _merge),
        _method("head", "The backbone is frozen; its features are computed once.", _freeze, _unchanged, frozen=True),
    ]


def defaults(method: str, parameters: int) -> Mapping[str, float | int]:
    """Return the settings for one of the built-in methods and a backbone of so many parameters."""
    return next(settings for largest, settings in _DEFAULTS[method] if parameters <= largest)


def _method(
    name: str,
    description: str,
    prepare: Callable[[nn.Module], nn.Module],
    finish: Callable[[nn.Module], nn.Module],
    frozen: bool = False,
) -> Method:
    return Method(name, description, prepare, finish, partial(defaults, name), frozen)


def _unfreeze(backbone: nn.Module) -> nn.Module:
    return backbone.requires_grad_(True)


def _freeze(backbone: nn.Module) -> nn.Module:
    return backbone.requires_grad_(False)


def _unchanged(backbone: nn.Module) -> nn.Module:
    return backbone


def _add_lora(backbone: nn.Module) -> nn.Module:
    """Add low-rank matrices (Hu et al., 2021, https://arxiv.org/abs/2106.09685) to the linear layers peft names.

    Raises ModelError for a model that peft adapts nowhere.
    """
    from peft import LoraConfig, get_peft_model
    from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as TARGETS

    model: Any = backbone
    kind = model.config.model_type
    targets: Any = _linear_layers(model) if kind in _MAMBA or kind not in TARGETS else TARGETS[kind]
    config = LoraConfig(r=LORA_RANK, lora_alpha=LORA_ALPHA, lora_dropout=LORA_DROPOUT, target_modules=targets)
    with ignoring_warnings():  # peft warns that it transposes GPT-2's Conv1D
        try:
            return get_peft_model(model, config)
        except ValueError as error:
            raise ModelError(
                f"--method lora: peft adapts no model of type '{kind}': {said(error)}", "Take --method full or head."
            ) from error


def _linear_layers(model: Any) -> list[str]:
    """Return the names of the linear layers, without those of experts, which peft adapts only without dropout.

    Of Mamba two are never called: a kernel takes their weights, without what peft adds.
    """
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    linear = {name for name, module in model.named_modules() if isinstance(module, nn.Linear | Conv1D)}
    in_kernels = {"dt_proj", "out_proj"} if model.config.model_type in _MAMBA else set()
    return sorted({name.rpartition(".")[2] for name in linear} - in_kernels)


def _merge(backbone: nn.Module) -> nn.Module:
    model: Any = backbone
    merged: nn.Module = model.merge_and_unload()
    return merged
