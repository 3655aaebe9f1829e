"""One layer of a decoder, GPT-2's or Llama's: norms, attention with cached keys and values, a feed-forward part."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from gpt_tasks.generation.linear_kernels import Product

Norm = Callable[[Tensor], Tensor]
"""Normalizes states `[..., features]`, in float32."""


@dataclass(frozen=True, slots=True)
class Columns:
    """What is the same for many layers while new columns are computed, `[rows, new]`, of which the first is `start`.

    `masks` are what is added to scores, by the layer's window; `rotations` `[rows * new, heads, head_dim / 2]` are
    complex numbers, by the layer's kind of rotary positions, for the heads of queries, keys and values.
    """

    rows: int
    new: int
    start: int
    masks: Mapping[int | None, Tensor | None]
    rotations: Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Block:
    """What one layer computes; `project` gives queries, keys and values of all heads, the queries scaled.

    `head_norm` is for queries and keys, `after_attention` and `after_mlp` for what is added to the states. Of rotated
    heads a pair of features is one complex number.
    """

    heads: int
    key_heads: int
    head_dim: int
    norm_attention: Norm
    project: Product
    out: Product
    norm_mlp: Norm
    mlp: Product
    head_norm: Norm | None = None
    after_attention: Norm | None = None
    after_mlp: Norm | None = None
    rotation: str | None = None
    window: int | None = None
    softcap: float | None = None

    def __call__(self, hidden: Tensor, keys: Tensor, values: Tensor, at: Columns) -> Tensor:
        """Return the next states `[rows * new, hidden]` of states; fill in the new columns of keys and values."""
        attended = self.out(self._attention(self.project(self.norm_attention(hidden)), keys, values, at))
        hidden = hidden + (attended if self.after_attention is None else self.after_attention(attended))
        inner = self.mlp(self.norm_mlp(hidden))
        return hidden + (inner if self.after_mlp is None else self.after_mlp(inner))

    def _attention(self, projected: Tensor, keys: Tensor, values: Tensor, at: Columns) -> Tensor:
        states = projected.view(len(projected), -1, self.head_dim)
        if self.head_norm is not None:
            states = torch.cat([self.head_norm(states[:, : -self.key_heads]), states[:, -self.key_heads :]], dim=1)
        if self.rotation is not None:
            pairs = torch.view_as_complex(states.float().unflatten(-1, (-1, 2)))
            states = torch.view_as_real(pairs * at.rotations[self.rotation])
        query, key, value = states.view(at.rows, at.new, -1, self.head_dim).split(
            [self.heads, self.key_heads, self.key_heads], dim=2
        )
        end = at.start + at.new
        keys[..., at.start : end] = key.permute(0, 2, 3, 1)
        values[:, :, at.start : end] = value.transpose(1, 2)
        query, mask = query.to(keys.dtype), at.masks[self.window]
        if at.new == 1 and mask is not None:
            # The queries that share keys are rows of one product. The fused kernel for CPUs takes twice as long.
            columns = mask.shape[-1]
            grouped = query.reshape(at.rows, self.key_heads, -1, self.head_dim)
            attended = self._weighed(grouped, keys[..., :columns], values[:, :, :columns], mask)
            return attended.reshape(len(projected), -1)
        query, keys, values = query.transpose(1, 2), keys[..., :end], values[:, :, :end]
        if self.softcap is None:
            seen = None if mask is None else mask.to(query.dtype)
            attended = functional.scaled_dot_product_attention(
                query,
                keys.transpose(-1, -2),
                values,
                attn_mask=seen,
                is_causal=mask is None,
                scale=1.0,
                enable_gqa=True,
            )
        else:
            groups = self.heads // self.key_heads
            keys, values = (each.repeat_interleave(groups, dim=1) for each in (keys, values))
            attended = self._weighed(query, keys, values, mask)
        return attended.transpose(1, 2).reshape(len(projected), -1)

    def _weighed(self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """Attention by plain products, `[rows, heads, queries, head_dim]`."""
        scores = (query @ keys).float()
        if self.softcap is not None:
            scores = (scores / self.softcap).tanh_().mul_(self.softcap)
        if mask is None:
            mask = torch.full(scores.shape[-2:], float("-inf")).triu(1)
        return scores.add_(mask).softmax(-1).to(values.dtype) @ values


@dataclass(frozen=True, slots=True)
class Decoder:
    """A whole language model; all its functions take the tokens of all rows one after the other, `[n, ...]`.

    `embed` gives states `[n, hidden]` of token ids and positions, `head` logits `[n, vocabulary]` of the last states.
    `rotations` give, for each kind of rotary positions, the complex numbers `[n, heads, head_dim / 2]` of positions.
    """

    embed: Callable[[Tensor, Tensor], Tensor]
    blocks: Sequence[Block]
    head: Product
    rotations: Mapping[str, Callable[[Tensor], Tensor]]
