"""Compute GPT-2 on a CPU faster than transformers does: the same mathematics, without outputs that are not used."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import GPT2Model
from transformers.activations import NewGELUActivation
from transformers.models.gpt2.modeling_gpt2 import GPT2Block

# glibc's numbers for mallopt (malloc.h), and the largest values that it takes.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST_TRIM, _LARGEST_MMAP = 2**31 - 1, 2**25


def can_run(transformer: nn.Module) -> bool:
    """Whether `hidden_states` computes what this transformer's own forward would.

    That is any GPT-2 on a CPU, with or without LoRA inside, unless something else depends on its own forward: FSDP on
    the blocks, activation checkpointing, cross-attention.
    """
    return (
        type(transformer) is GPT2Model
        and all(type(block) is GPT2Block for block in transformer.h)
        and transformer.wpe.weight.device.type == "cpu"
        and not transformer.is_activation_checkpointing
        and not transformer.config.add_cross_attention
    )


def hidden_states(transformer: Any, input_ids: Tensor, attention_mask: Tensor, *, last: bool = False) -> Tensor:
    """Return the last hidden states `[batch, length, hidden]`, zero where the mask is, for a model that `can_run`.

    With `last` only those of each row's last token, `[batch, 1, hidden]`: the last layer computes no others. Positions
    are counted by the mask. Padding is left out of everything but the attention, where it is on the right.
    """
    kept = attention_mask != 0
    rows, columns = kept.nonzero(as_tuple=True)
    lengths = kept.sum(dim=-1)
    width = int(lengths.max())
    positions = (kept.cumsum(dim=-1) - 1)[rows, columns]
    spread = _Spread(slots=rows * width + positions, lengths=lengths, width=width)
    dropout = transformer.drop.p if transformer.training else 0.0
    hidden: Tensor = drop(transformer.wte(input_ids[rows, columns]) + transformer.wpe(positions), dropout)
    *blocks, final = transformer.h
    for block in blocks:
        hidden = _block(block, hidden, spread, last=False)
    hidden = transformer.ln_f(_block(final, hidden, spread, last))
    if last:
        return hidden.unsqueeze(1)
    everywhere = hidden.new_zeros(*input_ids.shape, hidden.shape[-1])
    return everywhere.index_put((rows, columns), hidden)


class _Spread:
    """How the tokens `[n]` of a batch lie in its rows, which are padded on the right to the longest.

    `slots` `[n]` are the tokens' places in `[batch * width]`, `lengths` `[batch]` the tokens of each row.
    """

    def __init__(self, slots: Tensor, lengths: Tensor, width: int) -> None:
        self.slots, self.batch, self.width = slots, len(lengths), width
        # For a row without tokens, any position will do: the head decides how to handle it.
        self.last_places = (lengths - 1).clamp(min=0)
        self.last_tokens = (lengths.cumsum(dim=0) - 1).clamp(min=0)
        self.full = len(slots) == self.batch * width
        # Padding repeats the first token: any finite number will do where nothing attends.
        self.tokens = slots.new_zeros(self.batch * width)
        self.tokens[slots] = torch.arange(len(slots))

    def out(self, tokens: Tensor) -> Tensor:
        """`[n, features]` -> `[batch, width, features]`."""
        return (tokens if self.full else tokens.index_select(0, self.tokens)).view(self.batch, self.width, -1)

    def back(self, rows: Tensor) -> Tensor:
        """`[batch, width, features]` -> `[n, features]`."""
        rows = rows.flatten(0, 1)
        return rows if self.full else rows.index_select(0, self.slots)


def _block(block: Any, hidden: Tensor, spread: _Spread, last: bool) -> Tensor:
    """One layer, `[n, hidden]` -> `[n, hidden]`, or with `last` `[batch, hidden]`."""
    attention, mlp = block.attn, block.mlp
    dropout = attention.resid_dropout.p if block.training else 0.0
    attended = _attention(attention, attention.c_attn(block.ln_1(hidden)), spread, last)
    if last:
        hidden = hidden[spread.last_tokens]
    hidden = hidden + drop(attention.c_proj(attended), dropout)
    inner = mlp.c_fc(block.ln_2(hidden))
    inner = functional.gelu(inner, approximate="tanh") if isinstance(mlp.act, NewGELUActivation) else mlp.act(inner)
    return hidden + drop(mlp.c_proj(inner), dropout)


def _attention(attention: Any, projected: Tensor, spread: _Spread, last: bool) -> Tensor:
    """Causal attention over queries, keys and values `[n, 3 * hidden]` -> `[n, hidden]`, or `[batch, hidden]`."""
    rows = spread.out(projected).unflatten(-1, (3, attention.num_heads, attention.head_dim))
    query, key, value = rows.permute(2, 0, 3, 1, 4)  # each [batch, heads, width, head_dim]
    places = torch.arange(spread.width)
    asking = places
    if last:
        asking = spread.last_places.view(-1, 1, 1)
        query = query.take_along_dim(asking.unsqueeze(-1), dim=2)
    dropout = attention.attn_dropout.p if attention.training else 0.0
    visible = places <= asking.unsqueeze(-1)
    # Plain products: on short texts the fused kernel for CPUs takes several times as long, and it has no dropout.
    scores = (query @ key.transpose(-1, -2)).float() * attention.scaling
    weights = scores.masked_fill(~visible, float("-inf")).softmax(dim=-1).to(value.dtype)
    attended = drop(weights, dropout) @ value
    attended = attended.transpose(1, 2).flatten(2)
    return attended.squeeze(1) if last else spread.back(attended)


def drop(inputs: Tensor, probability: float) -> Tensor:
    """Dropout on a CPU, from torch's random numbers, six times as fast as torch's own."""
    return inputs if probability == 0 else _Dropout.apply(inputs, probability)  # type: ignore[no-untyped-call]


class _Dropout(torch.autograd.Function):
    """Dropout by 16 random bits for each element, where torch draws 32 with a costlier generator.

    The probability is thus rounded to 1/65536, and the scale is that of the rounded one: the mean is exact.
    """

    @staticmethod
    def forward(context: Any, inputs: Tensor, probability: float) -> Tensor:
        dropped = round(probability * 2**16)
        draws = torch.empty(-(-inputs.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        bits = draws.view(torch.int16)[: inputs.numel()].view(inputs.shape)
        context.scale = 1 / (1 - dropped / 2**16)
        # As numbers of the inputs' own kind, because a product with booleans takes six times as long.
        kept = torch.ge(bits, dropped - 2**15, out=torch.empty(inputs.shape, dtype=inputs.dtype))
        # Not as an attribute, which would keep it where activations are computed again.
        context.save_for_backward(kept)
        outputs: Tensor = (inputs * context.scale).mul_(kept)
        return outputs

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (kept,) = context.saved_tensors
        return (gradient * context.scale).mul_(kept), None


class UsedRows(nn.Module):
    """An embedding of which only the rows `used` are trained: the others have no gradient, so AdamW skips them.

    This saves their gradients and moments, most of the table for a small set of texts. Weight decay no longer reaches
    the rows that are not used.
    """

    def __init__(self, whole: nn.Embedding, used: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(whole.weight.detach()[used])
        self._used = used
        self._places = torch.full((whole.num_embeddings,), -1, device=used.device)
        self._places[used] = torch.arange(len(used), device=used.device)
        self._whole = (whole,)  # in a tuple, so that it is not part of the module's state

    def forward(self, input_ids: Tensor) -> Tensor:
        """Return the embeddings `[..., hidden]` of `input_ids` `[...]`, which need not be used ones."""
        places = self._places[input_ids]
        embedded = functional.embedding(places.clamp(min=0), self.weight)
        unused = places < 0
        if unused.any():
            embedded = torch.where(unused.unsqueeze(-1), self._whole[0](input_ids).detach(), embedded)
        return embedded

    @torch.no_grad()
    def merge(self) -> nn.Embedding:
        """Write the rows back and return the whole embedding."""
        self._whole[0].weight[self._used] = self.weight
        return self._whole[0]


@contextmanager
def training_used_rows(transformer: Any, used: Tensor) -> Iterator[None]:
    """Have only the rows `used` (sorted token ids) of the token embedding trained, if it is trained at all.

    For heads that do not read the embedding as well. The rows are a function of the training data, so that a checkpoint
    fits the run that resumes from it.
    """
    whole = transformer.get_input_embeddings()
    if type(whole) is not nn.Embedding or not whole.weight.requires_grad or whole.padding_idx is not None:
        yield
        return
    rows = UsedRows(whole, used)
    transformer.set_input_embeddings(rows)
    try:
        yield
    finally:
        transformer.set_input_embeddings(rows.merge())


def keep_freed_memory() -> None:
    """Have the C library keep freed memory for the next step, instead of requesting it from the kernel again.

    For the whole process, and with glibc only: elsewhere this does nothing.
    """
    if sys.platform != "linux":
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP)
        library.mallopt(_TRIM_THRESHOLD, _LARGEST_TRIM)
