"""The layers of a transformer by their depth: which are left as they are, and the learning rate of each."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from gpt_tasks.errors import UsageError


def freeze_layers(transformer: nn.Module, count: int) -> list[Tensor]:
    """Have the embeddings and the first `count` layers of a transformer, wrapped or not, not trained.

    Returns the parameters that would have been. Raises UsageError for more layers than there are.
    """
    path, layers = _layers(transformer, "--freeze-layers")
    if count > len(layers):
        raise UsageError(f"--freeze-layers {count}: the backbone has {len(layers)} layers", "Give at most so many.")
    embeddings = _embeddings(transformer, path)
    frozen = []
    for name, parameter in transformer.named_parameters():
        depth = _depth(name, path, embeddings)
        if depth is not None and depth <= count and parameter.requires_grad:
            frozen.append(parameter.requires_grad_(False))
    return frozen


def rates_by_layer(model: nn.Module, decay: float) -> dict[str, float]:
    """Return, for each parameter of a model, what its learning rate is to be multiplied by.

    Above the layers it is 1, for the last layer `decay`, for each one below `decay` times that, and for the embeddings
    `decay` times that of the first: discriminative fine-tuning (https://arxiv.org/abs/1801.06146, 3.2).
    """
    path, layers = _layers(model, "--layer-lr-decay")
    embeddings = _embeddings(model, path)
    depths = {name: _depth(name, path, embeddings) for name, _ in model.named_parameters()}
    return {name: 1.0 if depth is None else decay ** (len(layers) + 1 - depth) for name, depth in depths.items()}


def _layers(model: nn.Module, flag: str) -> tuple[str, nn.ModuleList]:
    """Return the path to the list of layers in a model, and the list. Raises UsageError where there is none."""
    modules: list[tuple[str, Any]] = list(model.named_modules())
    configs = (getattr(module, "config", None) for _, module in modules)
    counts = {getattr(config, "num_hidden_layers", None) for config in configs} - {None}
    for path, module in modules:
        if isinstance(module, nn.ModuleList) and len(module) in counts:
            return path, module
    raise UsageError(f"{flag}: the layers of this architecture are not known", "Leave it out.")


def _embeddings(model: nn.Module, layers: str) -> tuple[str, ...]:
    """Return the paths to the modules below the layers: embeddings, of tokens and positions, and what is with them."""
    found = {
        path
        for path, module in model.named_modules()
        if isinstance(module, nn.Embedding) or "embed" in path.rpartition(".")[2]
    }
    for _, module in model.named_modules():
        if hasattr(module, "get_input_embeddings"):
            try:
                inner = module.get_input_embeddings()
            except (NotImplementedError, AttributeError):
                continue
            found |= {name for name, each in model.named_modules() if each is inner}
    return tuple(path for path in found if path and not path.startswith(f"{layers}."))


def _depth(name: str, layers: str, embeddings: tuple[str, ...]) -> int | None:
    """Return where a parameter is: 0 in the embeddings, n in the nth layer, None above."""
    if name.startswith(f"{layers}."):
        return int(name.removeprefix(f"{layers}.").partition(".")[0]) + 1
    return 0 if any(name.startswith(f"{path}.") for path in embeddings) else None
