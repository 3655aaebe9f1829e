"""Models of Llama's shape without padding: RMSNorm, rotary positions, grouped queries, a gated MLP."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import LlamaModel, MistralModel, Qwen2Model, Qwen3Model
from transformers.models.llama.modeling_llama import LlamaDecoderLayer
from transformers.models.mistral.modeling_mistral import MistralDecoderLayer
from transformers.models.qwen2.modeling_qwen2 import Qwen2DecoderLayer
from transformers.models.qwen3.modeling_qwen3 import Qwen3DecoderLayer

from gpt_tasks.backbone.speed.spread import Spread, attend

_LAYERS = {
    LlamaModel: LlamaDecoderLayer,
    MistralModel: MistralDecoderLayer,
    Qwen2Model: Qwen2DecoderLayer,
    Qwen3Model: Qwen3DecoderLayer,
}


def can_run(transformer: nn.Module) -> bool:
    """Whether this is a model of the shape, whose layers nobody has replaced, without sliding windows."""
    layer, model = _LAYERS.get(type(transformer)), cast(Any, transformer)
    return (
        layer is not None
        and all(type(each) is layer for each in model.layers)
        and getattr(model.config, "sliding_window", None) is None
    )


def states(transformer: Any, tokens: Tensor, positions: Tensor, spread: Spread, *, last: bool) -> Tensor:
    """Return the hidden states `[n, hidden]` of tokens `[n]`, or with `last` those of each row's last."""
    hidden: Tensor = transformer.embed_tokens(tokens)
    cosines, sines = (each[0, :, None] for each in transformer.rotary_emb(hidden.float(), positions[None]))
    half = cosines.shape[-1] // 2
    turn = (cosines, torch.cat([-sines[..., :half], sines[..., half:]], dim=-1))
    *layers, final = transformer.layers
    for layer in layers:
        hidden = _layer(layer, hidden, turn, spread, last=False)
    return _normalized(transformer.norm, _layer(final, hidden, turn, spread, last), hidden.dtype)


def _layer(layer: Any, hidden: Tensor, turn: tuple[Tensor, Tensor], spread: Spread, last: bool) -> Tensor:
    """One layer, `[n, hidden]` -> `[n, hidden]`, or with `last` `[batch, hidden]`."""
    attention, mlp = layer.self_attn, layer.mlp
    read = _normalized(layer.input_layernorm, hidden)
    query, key, value = (
        project(read).unflatten(-1, (-1, attention.head_dim))
        for project in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    if hasattr(attention, "q_norm"):
        query, key = _normalized(attention.q_norm, query), _normalized(attention.k_norm, key)
    attended = attend(
        _turned(query, turn),
        _turned(key, turn),
        value,
        spread,
        scaling=attention.scaling,
        dropout=attention.attention_dropout if attention.training else 0.0,
        last=last,
    )
    if last:
        hidden = hidden[spread.last_tokens]
    hidden = hidden + attention.o_proj(attended)
    read = _normalized(layer.post_attention_layernorm, hidden)
    inner: Tensor = mlp.down_proj(mlp.act_fn(mlp.gate_proj(read)) * mlp.up_proj(read))
    return hidden + inner


def _normalized(norm: Any, hidden: Tensor, kind: torch.dtype | None = None) -> Tensor:
    """RMSNorm of the last dimension; in the type in which products are computed, unless another is asked for."""
    if kind is None:
        kind = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else hidden.dtype
    normalized: Tensor = _RMSNorm.apply(hidden, norm.weight, norm.variance_epsilon, kind)  # type: ignore[no-untyped-call]
    return normalized


class _RMSNorm(torch.autograd.Function):
    """Zhang and Sennrich (2019, https://arxiv.org/abs/1910.07467), in float32."""

    @staticmethod
    def forward(context: Any, hidden: Tensor, weight: Tensor, epsilon: float, kind: torch.dtype) -> Tensor:
        whole = hidden.float()
        scale = (whole.square().mean(dim=-1, keepdim=True) + epsilon).rsqrt_()
        context.save_for_backward(hidden, weight, scale)
        return (whole * scale).mul_(weight).to(kind)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, scale = context.saved_tensors
        gradient = gradient.float()
        normalized = hidden.float() * scale
        of_weight = None
        if context.needs_input_grad[1]:
            of_weight = (gradient * normalized).flatten(0, -2).sum(dim=0).to(weight.dtype)
        gradient = gradient * weight
        along = (gradient * normalized).mean(dim=-1, keepdim=True)
        of_hidden = gradient.sub_(normalized.mul_(along)).mul_(scale).to(hidden.dtype)
        return of_hidden, of_weight, None, None


def _turned(vectors: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """Turn vectors `[n, heads, head_dim]` by their positions (Su et al. 2021, https://arxiv.org/abs/2104.09864)."""
    turned: Tensor = _Turned.apply(vectors, *turn)  # type: ignore[no-untyped-call]
    return turned


class _Turned(torch.autograd.Function):
    """`x * cosines + halves of x exchanged * sines`, of which the first half is negative, in float32."""

    @staticmethod
    def forward(context: Any, vectors: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
        context.save_for_backward(cosines, sines)
        return (vectors * cosines).addcmul_(_exchanged(vectors), sines).to(vectors.dtype)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        cosines, sines = context.saved_tensors
        # Sines of the halves are each other's negatives, so that the transposed turn is the turn back.
        back = (gradient * cosines).sub_(_exchanged(gradient) * sines)
        return back.to(gradient.dtype), None, None


def _exchanged(vectors: Tensor) -> Tensor:
    half = vectors.shape[-1] // 2
    return torch.cat([vectors[..., half:], vectors[..., :half]], dim=-1)
