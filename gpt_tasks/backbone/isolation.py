"""Calls that leave a model's mode, and torch's global random generator, as they were."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

_DRAWS = frozenset(
    [
        "bernoulli",
        "bernoulli_",
        "exponential_",
        "kaiming_normal_",
        "kaiming_uniform_",
        "multinomial",
        "normal",
        "normal_",
        "orthogonal_",
        "rand",
        "randint",
        "randn",
        "random_",
        "randperm",
        "trunc_normal_",
        "uniform_",
        "xavier_normal_",
        "xavier_uniform_",
    ]
)


class OwnGenerator(TorchFunctionMode):
    """A context in which this thread draws from a separate generator, also in code that takes none.

    torch's functions draw from one generator of the whole process, where another thread may be training.
    """

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.generator = generator

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Give a function that draws the generator, unless it is given one."""
        named = dict(kwargs or {})
        if getattr(func, "__name__", "") in _DRAWS and named.get("generator") is None:
            named["generator"] = self.generator
        return func(*args, **named)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model in evaluation mode, and each of its parts back where it was; one in that mode is not touched."""
    training = [module for module in model.modules() if module.training]
    if training:
        model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
