"""A decoder that writes on a CPU: its weights laid out for that, keys and values cached, one pass for each token."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor

from gpt_tasks.backbone.precision import WritingPrecision
from gpt_tasks.generation import gpt2, llama
from gpt_tasks.generation.block import Columns
from gpt_tasks.generation.cache import KVCache, Shape

# A beginning that prompts share is read once where that saves so many tokens: a pass of its own costs about as much.
_SAVED = 64


def can_pack(model: Any) -> bool:
    """Whether `PackedDecoder` computes what this model's own forward would.

    True for GPT-2 and for Llama and its like (`llama.FAMILIES`), on a CPU, of transformers' own modules only, by their
    exact classes, without hooks.
    """
    return gpt2.can_pack(model) or llama.can_pack(model)


class PackedDecoder:
    """The products of a model that `can_pack`, in a precision, with its weights at construction.

    The embeddings are the model's own, the matrices are copies. Keys and values are in bfloat16, unless the precision
    is float32; states are in float32.
    """

    def __init__(self, model: Any, precision: WritingPrecision) -> None:
        described = gpt2.decoder if gpt2.can_pack(model) else llama.decoder
        self._decoder = described(model, precision)
        first = self._decoder.blocks[0]
        dtype = torch.float32 if precision == "float32" else torch.bfloat16
        self._shape = Shape(len(self._decoder.blocks), first.key_heads, first.head_dim, dtype)
        self._windows = {block.window for block in self._decoder.blocks}

    def start(self, prompts: Sequence[Sequence[int]], room: int) -> tuple[KVCache, Tensor]:
        """Read prompts, with room for so many tokens after them; return also the next tokens' logits
        `[prompts, vocabulary]`.

        A beginning that all prompts share is computed once.
        """
        shared = _shared(prompts)
        columns = max(map(len, prompts)) + room
        if shared * (len(prompts) - 1) < _SAVED:
            shared, memory = 0, KVCache(self._shape, len(prompts), columns)
        else:
            memory = KVCache(self._shape, 1, columns)
            self._read(torch.tensor([list(prompts[0][:shared])]), torch.ones(1, shared, dtype=torch.bool), memory)
            memory.keep([0] * len(prompts))
        rest = [prompt[shared:] for prompt in prompts]
        width = max(map(len, rest))
        kept = torch.arange(width) >= torch.tensor([width - len(tokens) for tokens in rest])[:, None]
        ids = torch.zeros(kept.shape, dtype=torch.long)
        ids[kept] = torch.tensor([token for tokens in rest for token in tokens])
        return memory, self._decoder.head(self._read(ids, kept, memory)[:, -1]).float()

    def step(self, tokens: Tensor, memory: KVCache) -> Tensor:
        """Read one more token of each row, `[rows]`; return the logits of the next `[rows, vocabulary]`."""
        kept = torch.ones(len(tokens), 1, dtype=torch.bool)
        return self._decoder.head(self._read(tokens[:, None], kept, memory)[:, 0]).float()

    def logits(self, tokens: Sequence[int]) -> Tensor:
        """Return the logits `[tokens, vocabulary]` of what comes after each token of one text."""
        ids = torch.tensor([list(tokens)])
        hidden = self._read(ids, torch.ones_like(ids, dtype=torch.bool), KVCache(self._shape, 1, len(tokens)))
        return self._decoder.head(hidden[0]).float()

    def _read(self, ids: Tensor, kept: Tensor, memory: KVCache) -> Tensor:
        """Return the last hidden states `[rows, new, hidden]`."""
        rows, new = ids.shape
        start = memory.length
        positions = memory.extend(kept).flatten()
        at = Columns(
            rows=rows,
            new=new,
            start=start,
            masks={window: memory.visible(new, window) for window in self._windows},
            rotations={kind: rotation(positions) for kind, rotation in self._decoder.rotations.items()},
        )
        hidden = self._decoder.embed(ids.flatten(), positions)
        for block, keys, values in zip(self._decoder.blocks, memory.keys, memory.values, strict=True):
            hidden = block(hidden, keys, values, at)
        return hidden.view(rows, new, -1)


def _shared(prompts: Sequence[Sequence[int]]) -> int:
    """Return how many tokens all prompts begin with alike, short of the last token of any."""
    alike = takewhile(lambda column: len(set(column)) == 1, zip(*prompts, strict=False))
    return min(sum(1 for _ in alike), min(map(len, prompts)) - 1)
