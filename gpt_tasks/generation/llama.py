"""Llama and its like as the layers of `block`: RMS norms, rotary positions, grouped queries, a gate."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.activations import ACT2CLS

from gpt_tasks.backbone.precision import WritingPrecision
from gpt_tasks.generation.block import Block, Decoder, Norm
from gpt_tasks.generation.linear_kernels import Product, product


@dataclass(frozen=True, slots=True)
class Family:
    """What an architecture computes that its modules do not tell.

    Its norms multiply by `1 + weight` where `norm_offset` is 1; all layers have a window, or those that the config's
    layer types name. `heeds` are those of the other settings of its config that it reads.
    """

    norm_offset: float = 0
    window: Literal["none", "all", "by layer"] = "none"
    heeds: tuple[str, ...] = ()


_FINAL, _SCORES, _DIVISOR = "final_logit_softcapping", "attn_logit_softcapping", "logits_scaling"
FAMILIES = {
    "Llama": Family(),
    "Mistral": Family(window="all"),
    "Qwen2": Family(window="by layer"),
    "Qwen3": Family(window="by layer"),
    "SmolLM3": Family(window="by layer"),
    "Granite": Family(heeds=(_DIVISOR,)),
    "Gemma": Family(norm_offset=1),
    "Gemma2": Family(norm_offset=1, window="by layer", heeds=(_FINAL, _SCORES)),
    "Gemma3": Family(norm_offset=1, window="by layer", heeds=(_FINAL,)),
}
"""By what the names of their classes begin with, in `transformers.models.{name}.modeling_{name}`."""

# Frequencies that are the same for all lengths.
_FIXED = frozenset(["default", "linear", "llama3", "yarn"])
_ACTIVATIONS = {each[0] if isinstance(each, tuple) else each for each in ACT2CLS.values()}
_PLAIN = {nn.Linear, nn.Embedding, nn.ModuleList}


def can_pack(model: Any) -> bool:
    """Whether `decoder` describes this model: one of `FAMILIES` of transformers' own modules, without hooks, on a CPU.

    Rotary positions whose frequencies depend on the length are not described.
    """
    name = _family(model)
    if name is None or model.device.type != "cpu":
        return False
    module, core, config = sys.modules[type(model).__module__], model.model, model.config
    own = {
        getattr(module, f"{name}{part}", None)
        for part in ("DecoderLayer", "Attention", "MLP", "RMSNorm", "RotaryEmbedding", "TextScaledWordEmbedding")
    }
    own |= {type(model), getattr(module, f"{name}TextModel", None) or getattr(module, f"{name}Model")}
    kinds = {type(each) for each in model.modules()}
    acts: list[Any] = [getattr(getattr(layer, "mlp", None), "act_fn", None) for layer in core.layers]
    return (
        len(acts) == config.num_hidden_layers > 0
        and kinds <= own | _PLAIN | {type(act) for act in acts}
        and all(type(act) in _ACTIVATIONS and not list(act.parameters()) for act in acts)
        and not any(each._forward_hooks or each._forward_pre_hooks for each in model.modules())
        and not getattr(config, "use_bidirectional_attention", False)
        and (_SCORES not in FAMILIES[name].heeds or config._attn_implementation == "eager")
        and all(
            kind in _FIXED and 2 * frequencies.numel() == core.layers[0].self_attn.head_dim
            for kind, frequencies, _ in _rotations(core).values()
        )
    )


def decoder(model: Any, precision: WritingPrecision) -> Decoder:
    """Describe a model that `can_pack`."""
    core, config = model.model, model.config
    family = FAMILIES[str(_family(model))]
    words = core.embed_tokens
    scale = float(words.embed_scale.to(words.weight.dtype)) if hasattr(words, "embed_scale") else 1.0
    scale *= getattr(core, "embedding_multiplier", 1.0)
    head = model.lm_head
    weight, bias = head.weight.detach(), None if head.bias is None else head.bias.detach()
    output, norm = product(weight, bias, precision), _norm(core.norm, family)
    divisor = getattr(config, _DIVISOR) if _DIVISOR in family.heeds else 1
    cap = getattr(config, _FINAL) if _FINAL in family.heeds else None

    def logits(last: Tensor) -> Tensor:
        found = output(norm(last)).float()
        if divisor != 1:
            found = found / divisor
        return found if cap is None else (found / cap).tanh_().mul_(cap)

    def embed(ids: Tensor, _: Tensor) -> Tensor:
        found = functional.embedding(ids, words.weight).float()
        return found if scale == 1 else found * scale

    blocks = [_block(place, core, config, family, precision) for place in range(len(core.layers))]
    first = blocks[0]
    return Decoder(
        embed,
        blocks,
        logits,
        {
            kind: _rotation(frequencies.detach().float(), scaling, first.heads + first.key_heads, first.key_heads)
            for kind, (_, frequencies, scaling) in _rotations(core).items()
        },
    )


def _family(model: Any) -> str | None:
    """Return the name of a model's family."""
    for name in FAMILIES:
        home = f"transformers.models.{name.lower()}.modeling_{name.lower()}"
        if type(model).__module__ == home and type(model) is getattr(sys.modules[home], f"{name}ForCausalLM"):
            return name
    return None


def _rotations(core: Any) -> dict[str, tuple[str, Tensor, float]]:
    """Return each kind of rotary positions: its type, frequencies `[head_dim / 2]` and what it multiplies by."""
    rotary = core.rotary_emb
    if isinstance(rotary.rope_type, str):
        return {"": (rotary.rope_type, rotary.inv_freq, rotary.attention_scaling)}
    return {
        kind: (rope_type, getattr(rotary, f"{kind}_inv_freq"), getattr(rotary, f"{kind}_attention_scaling"))
        for kind, rope_type in rotary.rope_type.items()
    }


def _rotation(frequencies: Tensor, scaling: float, turned: int, others: int) -> Callable[[Tensor], Tensor]:
    """Return what turns positions into complex numbers for heads that are `turned` and `others` that stay."""

    def rotation(positions: Tensor) -> Tensor:
        angles = positions[:, None].float() * frequencies
        turns = torch.polar(torch.full_like(angles, scaling), angles)[:, None]
        return torch.cat([turns.expand(-1, turned, -1), torch.ones_like(turns).expand(-1, others, -1)], dim=1)

    return rotation


def _block(place: int, core: Any, config: Any, family: Family, precision: WritingPrecision) -> Block:
    layer = core.layers[place]
    attention, mlp = layer.self_attn, layer.mlp
    head_dim = attention.head_dim
    rotation: str | None = "" if "" in _rotations(core) else config.layer_types[place]
    if not getattr(attention, "use_rope", True):
        rotation = None
    order = torch.arange(head_dim)
    if rotation is not None:  # features that turn together become neighbours, which changes no product of two heads
        order = order.view(2, -1).t().flatten()
    heads, key_heads = (each.out_features // head_dim for each in (attention.q_proj, attention.k_proj))
    # The scale of queries is part of their matrix, or of their norm.
    normed = hasattr(attention, "q_norm")
    scale = 1.0 if normed else attention.scaling
    projected = [
        _by_head(attention.q_proj, heads, order, scale),
        _by_head(attention.k_proj, key_heads, order),
        _by_head(attention.v_proj, key_heads, torch.arange(head_dim)),
    ]
    head_norm = None
    if normed:
        of_queries, of_keys = (_weight(each, family)[order] for each in (attention.q_norm, attention.k_norm))
        of_queries = of_queries * attention.scaling
        weight = torch.cat([of_queries.expand(heads, -1), of_keys.expand(key_heads, -1)])
        head_norm = partial(_normalize_heads, weight, _eps(attention.q_norm))
    factor = getattr(layer, "residual_multiplier", 1.0)
    gemma2 = hasattr(layer, "pre_feedforward_layernorm")
    return Block(
        heads=heads,
        key_heads=key_heads,
        head_dim=head_dim,
        norm_attention=_norm(layer.input_layernorm, family),
        project=_joined(projected, precision),
        out=_joined([_weights(attention.o_proj, factor)], precision),
        norm_mlp=_norm(layer.pre_feedforward_layernorm if gemma2 else layer.post_attention_layernorm, family),
        mlp=_feed_forward(mlp, factor, precision),
        head_norm=head_norm,
        after_attention=_norm(layer.post_attention_layernorm, family) if gemma2 else None,
        after_mlp=_norm(layer.post_feedforward_layernorm, family) if gemma2 else None,
        rotation=rotation,
        window=_window(place, config, family),
        softcap=getattr(config, _SCORES) if _SCORES in family.heeds else None,
    )


def _window(place: int, config: Any, family: Family) -> int | None:
    if family.window == "none" or (family.window == "by layer" and config.layer_types[place] != "sliding_attention"):
        return None
    window: int | None = config.sliding_window
    return window


def _feed_forward(mlp: Any, factor: float, precision: WritingPrecision) -> Product:
    both = _joined([_weights(mlp.gate_proj), _weights(mlp.up_proj)], precision)
    down = _joined([_weights(mlp.down_proj, factor)], precision)
    activation = mlp.act_fn

    def feed_forward(states: Tensor) -> Tensor:
        gate, up = both(states).chunk(2, dim=-1)
        return down(activation(gate).mul_(up))

    return feed_forward


def _weights(layer: nn.Linear, factor: float = 1.0) -> tuple[Tensor, Tensor | None]:
    """Return a layer's matrix and bias, times a factor."""
    bias = layer.bias
    return layer.weight.detach().float() * factor, None if bias is None else bias.detach().float() * factor


def _by_head(layer: nn.Linear, heads: int, order: Tensor, factor: float = 1.0) -> tuple[Tensor, Tensor | None]:
    """Return a layer's matrix and bias, with the outputs of each head in this order."""
    weight, bias = _weights(layer, factor)
    rows = (torch.arange(heads)[:, None] * len(order) + order).flatten()
    return weight[rows], None if bias is None else bias[rows]


def _joined(layers: Sequence[tuple[Tensor, Tensor | None]], precision: WritingPrecision) -> Product:
    """Return one product for several, whose outputs are side by side."""
    weight = torch.cat([weight for weight, _ in layers])
    if all(bias is None for _, bias in layers):
        return product(weight, None, precision)
    biases = [torch.zeros(len(weight)) if bias is None else bias for weight, bias in layers]
    return product(weight, torch.cat(biases), precision)


def _norm(norm: Any, family: Family) -> Norm:
    """Return an RMS norm (Zhang and Sennrich 2019, eq. 4), in fewer operations than torch's own on a CPU."""
    root = norm.weight.numel() ** 0.5
    weight, least = _weight(norm, family) * root, torch.tensor(root * _eps(norm) ** 0.5)

    def normalize(states: Tensor) -> Tensor:
        states = states.float()
        length = torch.linalg.vector_norm(states, dim=-1, keepdim=True)
        normalized: Tensor = (states * weight).div_(torch.hypot(length, least))
        return normalized

    return normalize


def _normalize_heads(weight: Tensor, eps: float, states: Tensor) -> Tensor:
    normalized: Tensor = functional.rms_norm(states.float(), weight.shape[-1:], None, eps)
    return normalized * weight


def _weight(norm: Any, family: Family) -> Tensor:
    weight: Tensor = norm.weight.detach().float() + family.norm_offset
    return weight


def _eps(norm: Any) -> float:
    return float(norm.eps if hasattr(norm, "eps") else norm.variance_epsilon)
