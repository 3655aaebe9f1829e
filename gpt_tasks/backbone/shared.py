"""Backbones that several models are built on, each in memory once."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gpt_tasks.threads import LOADING

if TYPE_CHECKING:
    from gpt_tasks.backbone.load import Backbone
    from gpt_tasks.backbone.locate import Location


class SharedBackbones:
    """Backbones by their places, each opened once, on a `device`.

    Whoever opens one gets modules of its own whose weights are the same memory: a weight that is replaced, as by the
    merging of an adapter, is replaced for it alone. No weight may be changed in place.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._opened: dict[str, Backbone] = {}

    def open(self, location: Location, opening: Callable[[Location], Backbone]) -> Backbone:
        """Return the backbone in a location, which `opening` opens the first time."""
        from gpt_tasks.backbone.precision import resolve_device

        place = str((location.gguf or location.folder).resolve())
        with LOADING:
            if place not in self._opened:
                first = opening(location)
                model: Any = first.model
                model.to(resolve_device(self._device))
                self._opened[place] = first
            return _sharing(self._opened[place], location)


def own_embeddings(model: Any) -> None:
    """Give a model embeddings of its own, so that rows of them can be changed in place."""
    for module in (model.get_input_embeddings(), model.get_output_embeddings()):
        module.weight.data = module.weight.data.clone()


def _sharing(backbone: Backbone, location: Location) -> Backbone:
    """Return a backbone of modules and parameters of its own, whose weights are those of another."""
    from torch import nn

    model: Any = backbone.model
    memo: dict[int, Any] = {id(each): nn.Parameter(each.data, each.requires_grad) for each in model.parameters()}
    memo |= {id(each): each for each in model.buffers()}
    return replace(
        backbone, location=location, model=copy.deepcopy(model, memo), tokenizer=copy.deepcopy(backbone.tokenizer)
    )
