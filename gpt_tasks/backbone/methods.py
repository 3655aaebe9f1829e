"""Tuning methods: which weights of the backbone are trained, and the settings that suit each method and size."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from gpt_tasks.backbone.lora import LoraOptions, add_lora, merge_lora
from gpt_tasks.errors import UsageError
from gpt_tasks.extensions import Method
from gpt_tasks.hookspecs import hookimpl
from gpt_tasks.tasks.options import validated

if TYPE_CHECKING:
    from torch import nn


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
    says = "Every weight of the backbone is trained."
    full = Method("full", says, _unfreeze, _unchanged, partial(defaults, "full"))
    says = "Low-rank matrices are trained, and merged at the end."
    lora = Method("lora", says, add_lora, merge_lora, partial(defaults, "lora"), options=LoraOptions, adapter=True)
    says = "The backbone is frozen; its features are computed once."
    head = Method("head", says, _freeze, _unchanged, partial(defaults, "head"), frozen=True)
    return [full, lora, head]


def defaults(method: str, parameters: int) -> Mapping[str, float | int]:
    """Return the settings for one of the built-in methods and a backbone of so many parameters."""
    return next(settings for largest, settings in _DEFAULTS[method] if parameters <= largest)


def with_options(method: Method, values: Mapping[str, Any]) -> Method:
    """Return a method that has these options, which its `prepare` is given, and the default of all others.

    Raises UsageError, naming the option, for one that the method does not have or that has a wrong value.
    """
    if not method.options.model_fields and not values:
        return method
    options = validated(method.options, dict(values))
    places = method.num_virtual_tokens
    return replace(
        method,
        prepare=partial(_prepared, method, options),
        num_virtual_tokens=places(options) if callable(places) else places,
    )


def option_owners(methods: Iterable[Method]) -> dict[str, Method]:
    """Return the options of all methods, by their names, each with its method."""
    return {name: method for method in methods for name in method.options.model_fields}


def refuse_other_options(method: Method, given: Mapping[str, Any], owners: Mapping[str, Method]) -> None:
    """Raise UsageError for an option that is given and is another method's, or nobody's."""
    for name, value in given.items():
        flag = f"--{name.replace('_', '-')}"
        if name not in owners:
            raise UsageError(
                f"{flag}: no method has such an option: {value}",
                f"There are {', '.join(owners)}." if owners else "Leave it out.",
            )
        if name not in method.options.model_fields:
            raise UsageError(
                f"{flag} is for --method {owners[name].name}, and the method is {method.name}: {value}", "Leave it out."
            )


def _prepared(method: Method, options: Any, backbone: nn.Module) -> nn.Module:
    return method.prepare(backbone, options)


def _unfreeze(backbone: nn.Module) -> nn.Module:
    return backbone.requires_grad_(True)


def _freeze(backbone: nn.Module) -> nn.Module:
    return backbone.requires_grad_(False)


def _unchanged(backbone: nn.Module) -> nn.Module:
    return backbone
