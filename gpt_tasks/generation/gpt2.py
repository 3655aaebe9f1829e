"""GPT-2 as the layers of `block`: learned positions, norms with a mean, biases, no gate."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import GPT2LMHeadModel
from transformers.activations import GELUTanh, NewGELUActivation
from transformers.models.gpt2.modeling_gpt2 import GPT2MLP, GPT2Attention
from transformers.pytorch_utils import Conv1D

from gpt_tasks.backbone import speed
from gpt_tasks.backbone.precision import WritingPrecision
from gpt_tasks.generation.block import Block, Decoder, Norm
from gpt_tasks.generation.linear_kernels import Product, product


def can_pack(model: Any) -> bool:
    """Whether `decoder` describes this model: a GPT-2 of transformers' own modules, without hooks, on a CPU."""
    if type(model) is not GPT2LMHeadModel or not speed.can_run(model.transformer):
        return False
    transformer: Any = model.transformer
    parts: list[tuple[Any, type]] = [(model.lm_head, nn.Linear), (transformer.ln_f, nn.LayerNorm)]
    parts += [(transformer.wte, nn.Embedding), (transformer.wpe, nn.Embedding)]
    for block in transformer.h:
        parts += [(block.attn, GPT2Attention), (block.mlp, GPT2MLP), (block.ln_1, nn.LayerNorm)]
        parts += [(block.ln_2, nn.LayerNorm), (block.attn.c_attn, Conv1D), (block.attn.c_proj, Conv1D)]
        parts += [(block.mlp.c_fc, Conv1D), (block.mlp.c_proj, Conv1D)]
    return all(type(part) is kind for part, kind in parts) and not any(
        module._forward_hooks or module._forward_pre_hooks for module in model.modules()
    )


def decoder(model: GPT2LMHeadModel, precision: WritingPrecision) -> Decoder:
    """Describe a model that `can_pack`."""
    transformer: Any = model.transformer
    words, places = transformer.wte, transformer.wpe
    bias = None if model.lm_head.bias is None else model.lm_head.bias.detach()
    output, norm = product(model.lm_head.weight.detach(), bias, precision), _norm(transformer.ln_f)

    def embed(ids: Tensor, positions: Tensor) -> Tensor:
        # A row that is done may be past the last position by now.
        known = positions.clamp(max=places.num_embeddings - 1)
        return functional.embedding(ids, words.weight).float() + functional.embedding(known, places.weight).float()

    return Decoder(embed, [_block(block, precision) for block in transformer.h], lambda last: output(norm(last)), {})


def _block(block: Any, precision: WritingPrecision) -> Block:
    attention, mlp = block.attn, block.mlp
    heads, head_dim = attention.num_heads, attention.head_dim
    weight, bias = attention.c_attn.weight.detach().t().float(), attention.c_attn.bias.detach().float()
    scales = torch.ones(len(weight))
    scales[: heads * head_dim] = attention.scaling
    return Block(
        heads=heads,
        key_heads=heads,
        head_dim=head_dim,
        norm_attention=_norm(block.ln_1),
        project=product(weight * scales[:, None], bias * scales, precision),
        out=_product(attention.c_proj, precision),
        norm_mlp=_norm(block.ln_2),
        mlp=_feed_forward(mlp, precision),
    )


def _feed_forward(mlp: Any, precision: WritingPrecision) -> Product:
    gelu = type(mlp.act) in (NewGELUActivation, GELUTanh)
    up, down = _product(mlp.c_fc, precision, gelu=gelu), _product(mlp.c_proj, precision)
    if gelu:
        return lambda states: down(up(states))
    activation = mlp.act
    return lambda states: down(activation(up(states)))


def _product(layer: Conv1D, precision: WritingPrecision, *, gelu: bool = False) -> Product:
    return product(layer.weight.detach().t(), layer.bias.detach(), precision, gelu=gelu)


def _norm(norm: nn.LayerNorm) -> Norm:
    weight, bias = norm.weight.detach().float(), norm.bias.detach().float()
    return partial(
        functional.layer_norm, normalized_shape=norm.normalized_shape, weight=weight, bias=bias, eps=norm.eps
    )
