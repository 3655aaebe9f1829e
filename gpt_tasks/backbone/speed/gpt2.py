"""GPT-2 without padding."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional
from transformers import GPT2Model
from transformers.activations import NewGELUActivation
from transformers.models.gpt2.modeling_gpt2 import GPT2Block

from gpt_tasks.backbone.speed.dropout import drop
from gpt_tasks.backbone.speed.spread import Spread, attend


def can_run(transformer: nn.Module) -> bool:
    """Whether this is a GPT-2 without cross-attention, whose blocks nobody has replaced."""
    return (
        type(transformer) is GPT2Model
        and all(type(block) is GPT2Block for block in transformer.h)
        and not transformer.config.add_cross_attention
    )


def states(transformer: Any, tokens: Tensor, positions: Tensor, spread: Spread, *, last: bool) -> Tensor:
    """Return the hidden states `[n, hidden]` of tokens `[n]`, or with `last` those of each row's last."""
    dropout = transformer.drop.p if transformer.training else 0.0
    hidden: Tensor = drop(transformer.wte(tokens) + transformer.wpe(positions), dropout)
    *blocks, final = transformer.h
    for block in blocks:
        hidden = _block(block, hidden, spread, last=False)
    normalized: Tensor = transformer.ln_f(_block(final, hidden, spread, last))
    return normalized


def _block(block: Any, hidden: Tensor, spread: Spread, last: bool) -> Tensor:
    """One layer, `[n, hidden]` -> `[n, hidden]`, or with `last` `[batch, hidden]`."""
    attention, mlp = block.attn, block.mlp
    dropout = attention.resid_dropout.p if block.training else 0.0
    query, key, value = attention.c_attn(block.ln_1(hidden)).unflatten(-1, (3, attention.num_heads, -1)).unbind(1)
    within = attention.attn_dropout.p if attention.training else 0.0
    attended = attend(query, key, value, spread, scaling=attention.scaling, dropout=within, last=last)
    if last:
        hidden = hidden[spread.last_tokens]
    hidden = hidden + drop(attention.c_proj(attended), dropout)
    inner = mlp.c_fc(block.ln_2(hidden))
    inner = functional.gelu(inner, approximate="tanh") if isinstance(mlp.act, NewGELUActivation) else mlp.act(inner)
    return hidden + drop(mlp.c_proj(inner), dropout)
