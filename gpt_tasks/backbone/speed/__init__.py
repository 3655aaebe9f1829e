"""Compute a model on a CPU faster than transformers does: the same mathematics, without outputs that are not used."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from torch import Tensor, nn

from gpt_tasks.backbone.speed import gpt2, llama
from gpt_tasks.backbone.speed.dropout import drop as drop
from gpt_tasks.backbone.speed.memory import keep_freed_memory as keep_freed_memory
from gpt_tasks.backbone.speed.spread import Spread
from gpt_tasks.backbone.speed.used_rows import UsedRows as UsedRows
from gpt_tasks.backbone.speed.used_rows import training_used_rows as training_used_rows


def can_run(transformer: nn.Module) -> bool:
    """Whether `hidden_states` computes what this transformer's own forward would.

    That is a GPT-2 or a model of Llama's shape on a CPU, with or without LoRA inside, unless something else depends on
    its own forward: FSDP on the layers, activation checkpointing.
    """
    return _shape_of(transformer) is not None


def hidden_states(transformer: Any, input_ids: Tensor, attention_mask: Tensor, *, last: bool = False) -> Tensor:
    """Return the last hidden states `[batch, length, hidden]`, zero where the mask is, for a model that `can_run`.

    With `last` only those of each row's last token, `[batch, 1, hidden]`: the last layer computes no others. Positions
    are counted by the mask. Padding is left out of everything but the attention, where it is on the right.
    """
    shape = _shape_of(transformer)
    assert shape is not None
    kept = attention_mask != 0
    rows, columns = kept.nonzero(as_tuple=True)
    lengths = kept.sum(dim=-1)
    width = int(lengths.max())
    positions = (kept.cumsum(dim=-1) - 1)[rows, columns]
    spread = Spread(slots=rows * width + positions, lengths=lengths, width=width)
    hidden: Tensor = shape.states(transformer, input_ids[rows, columns], positions, spread, last=last)
    if last:
        return hidden.unsqueeze(1)
    everywhere = hidden.new_zeros(*input_ids.shape, hidden.shape[-1])
    return everywhere.index_put((rows, columns), hidden)


def _shape_of(transformer: Any) -> ModuleType | None:
    """Return the module that computes this transformer, if there is one."""
    shape = next((each for each in (gpt2, llama) if each.can_run(transformer)), None)
    if shape is None or transformer.get_input_embeddings().weight.device.type != "cpu":
        return None
    return None if transformer.is_activation_checkpointing else shape
