"""A GPT-2 that writes on a CPU: its weights laid out for that, keys and values cached, one pass for each token."""

from __future__ import annotations

from collections.abc import Sequence
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
from gpt_tasks.generation.linear_kernels import Product, product


def can_pack(model: Any) -> bool:
    """Whether `PackedGPT2` computes what this model's own forward would.

    True for a GPT-2 on a CPU of transformers' own modules only, by their exact classes, without hooks.
    """
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


# Keys and values are read in so many columns at a time.
_COLUMNS = 16


class KVCache:
    """The keys and values of a batch, whose rows all end in the same column: padding is on the left.

    For each layer `keys` hold `[rows, heads, head_dim, columns]` and `values` `[rows, heads, columns, head_dim]`; the
    first `length` columns are filled. `positions` `[rows]` are those of the next tokens.
    """

    def __init__(self, kept: Tensor, room: int, layers: int, heads: int, head_dim: int, dtype: torch.dtype) -> None:
        rows, width = kept.shape
        columns = -(-(width + room) // _COLUMNS) * _COLUMNS
        self.keys = [torch.zeros(rows, heads, head_dim, columns, dtype=dtype) for _ in range(layers)]
        self.values = [torch.zeros(rows, heads, columns, head_dim, dtype=dtype) for _ in range(layers)]
        self.length = 0
        self.positions = kept.sum(dim=-1)
        self._padded = not bool(kept.all())
        # Added to the scores: nothing attends to padding, or to columns that are not filled yet.
        self._bias = torch.full((rows, 1, 1, columns), float("-inf"))
        self._bias[:, 0, 0, :width].masked_fill_(kept, 0)

    def visible(self, new: int) -> Tensor:
        """Return what is added to the scores of so many new columns: of one of them, for some columns too many, so that
        the kernels see few sizes.
        """
        if new == 1:
            self._bias[..., self.length] = 0
            return self._bias[..., : (self.length // _COLUMNS + 1) * _COLUMNS]
        later = torch.full((new, new), float("-inf")).triu(1)
        if not self._padded:
            return later
        # Padding attends to itself, so that its states are finite; they are not used.
        return (later + self._bias[..., :new]).masked_fill(torch.eye(new, dtype=torch.bool), 0)

    def keep(self, rows: Sequence[int]) -> None:
        """Continue with these rows; one may appear several times."""
        chosen = torch.tensor(rows)
        self.keys = [keys[chosen] for keys in self.keys]
        self.values = [values[chosen] for values in self.values]
        self.positions, self._bias = self.positions[chosen], self._bias[chosen]


class PackedGPT2:
    """The products of a model that `can_pack`, in a precision, with its weights at construction.

    Embeddings and norms are the model's own, the matrices are copies. Keys and values are in bfloat16, unless the
    precision is float32; all else is in float32.
    """

    def __init__(self, model: GPT2LMHeadModel, precision: WritingPrecision) -> None:
        self._transformer: Any = model.transformer
        self._layers = [_Layer(block, precision) for block in self._transformer.h]
        self._norm = _norm(self._transformer.ln_f)
        self._dtype = torch.float32 if precision == "float32" else torch.bfloat16
        self._head = product(model.lm_head.weight.detach(), _detached(model.lm_head.bias), precision)

    def start(self, prompts: Sequence[Sequence[int]], room: int) -> tuple[KVCache, Tensor]:
        """Read prompts, with room for so many tokens after them; return also the next tokens' logits
        `[prompts, vocabulary]`.
        """
        width = max(map(len, prompts))
        kept = torch.arange(width) >= torch.tensor([width - len(prompt) for prompt in prompts])[:, None]
        ids = torch.zeros(kept.shape, dtype=torch.long)
        ids[kept] = torch.tensor([token for prompt in prompts for token in prompt])
        memory = self._memory(kept, room)
        positions = (kept.cumsum(dim=-1) - 1).clamp(min=0)
        return memory, self._logits(self._read(ids, positions, memory)[:, -1])

    def step(self, tokens: Tensor, memory: KVCache) -> Tensor:
        """Read one more token of each row, `[rows]`; return the logits of the next `[rows, vocabulary]`."""
        # A row that is done may be past the last position by now.
        positions = memory.positions.clamp(max=self._transformer.wpe.num_embeddings - 1)
        memory.positions = memory.positions + 1
        return self._logits(self._read(tokens[:, None], positions[:, None], memory)[:, 0])

    def logits(self, tokens: Sequence[int]) -> Tensor:
        """Return the logits `[tokens, vocabulary]` of what comes after each token of one text."""
        ids = torch.tensor([list(tokens)])
        memory = self._memory(torch.ones_like(ids, dtype=torch.bool), 0)
        return self._logits(self._read(ids, torch.arange(len(tokens))[None], memory)[0])

    def _memory(self, kept: Tensor, room: int) -> KVCache:
        first = self._layers[0]
        return KVCache(kept, room, len(self._layers), first.heads, first.head_dim, self._dtype)

    def _read(self, ids: Tensor, positions: Tensor, memory: KVCache) -> Tensor:
        """Return the last hidden states `[rows, new, hidden]`."""
        rows, new = ids.shape
        hidden: Tensor = (self._transformer.wte(ids).float() + self._transformer.wpe(positions).float()).flatten(0, 1)
        visible, start = memory.visible(new), memory.length
        for layer, keys, values in zip(self._layers, memory.keys, memory.values, strict=True):
            hidden = layer(hidden, keys, values, start, visible)
        memory.length += new
        return hidden.view(rows, new, -1)

    def _logits(self, hidden: Tensor) -> Tensor:
        weight, bias, eps = self._norm
        return self._head(functional.layer_norm(hidden, hidden.shape[-1:], weight, bias, eps)).float()


class _Layer:
    """One block: states `[rows * new, hidden]` to states; keys and values of the new columns are added."""

    def __init__(self, block: Any, precision: WritingPrecision) -> None:
        attention, mlp = block.attn, block.mlp
        self.heads, self.head_dim, self._scale = attention.num_heads, attention.head_dim, attention.scaling
        self._norms = [_norm(norm) for norm in (block.ln_1, block.ln_2)]
        gelu = type(mlp.act) in (NewGELUActivation, GELUTanh)
        self._project, self._out, self._down = (
            _product(layer, precision) for layer in (attention.c_attn, attention.c_proj, mlp.c_proj)
        )
        self._up = _product(mlp.c_fc, precision, gelu=gelu)
        self._activation: Product = nn.Identity() if gelu else mlp.act

    def __call__(self, hidden: Tensor, keys: Tensor, values: Tensor, start: int, visible: Tensor) -> Tensor:
        (weight, bias, eps), (weight_2, bias_2, eps_2) = self._norms
        width = hidden.shape[-1:]
        projected = self._project(functional.layer_norm(hidden, width, weight, bias, eps))
        query, key, value = projected.view(len(keys), -1, 3, self.heads, self.head_dim).permute(2, 0, 3, 1, 4)
        end = start + query.shape[2]
        keys[..., start:end] = key.transpose(-1, -2)
        values[:, :, start:end] = value
        if start == 0:
            attended = functional.scaled_dot_product_attention(
                query.float(), key.float(), value.float(), attn_mask=visible[..., :end], scale=self._scale
            )
        else:
            # Plain products read the cache once; the fused kernel for CPUs takes twice as long.
            columns = visible.shape[-1]
            scores = (query.to(keys.dtype) @ keys[..., :columns]).float() * self._scale + visible
            attended = scores.softmax(-1).to(values.dtype) @ values[:, :, :columns]
        hidden = hidden + self._out(attended.transpose(1, 2).reshape(hidden.shape))
        inner = self._activation(self._up(functional.layer_norm(hidden, width, weight_2, bias_2, eps_2)))
        return hidden + self._down(inner)


def _product(layer: Conv1D, precision: WritingPrecision, *, gelu: bool = False) -> Product:
    return product(layer.weight.detach().t(), layer.bias.detach(), precision, gelu=gelu)


def _norm(norm: nn.LayerNorm) -> tuple[Tensor, Tensor, float]:
    return norm.weight.detach().float(), norm.bias.detach().float(), norm.eps


def _detached(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach()
