"""A backbone with a head: the module that is trained."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from gpt_tasks.backbone import speed
from gpt_tasks.data.encoded import IGNORE_INDEX
from gpt_tasks.errors import UsageError
from gpt_tasks.heads.lm import text_loss
from gpt_tasks.heads.parts import in_parts

Loss = Callable[..., Tensor]
"""From logits and labels, and the examples' `values` where they have some, to the loss summed over examples."""


class HeadModel(nn.Module):
    """A transformer without its language model head, and a task's head on its last hidden states.

    `backbone` is the base model (`causal_lm.base_model`), wrapped by a tuning method or not; `loss` is the learner's.
    With `lm_weight` the texts' own language-modelling loss, by the output matrix `[vocabulary, hidden]`, is added with
    that weight. The sequences of a single example are computed in parts of at most `part_tokens`, so that a long text
    takes no more memory than a batch; in training the parts are computed again in the backward pass.
    """

    # Trainer then passes `num_items_in_batch`, the number of labels of an accumulated batch on all ranks.
    accepts_loss_kwargs = True

    def __init__(
        self,
        backbone: nn.Module,
        head: nn.Module,
        loss: Loss | None = None,
        *,
        output_matrix: Tensor | None = None,
        lm_weight: float = 0.0,
        part_tokens: int | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.loss = loss
        # In a tuple, so that it is not part of this module's state: the backbone's own, or a frozen one.
        self._output_matrix = (output_matrix,)
        self.lm_weight = lm_weight
        self.part_tokens = part_tokens

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        labels: Tensor | None = None,
        choices: Tensor | None = None,
        values: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
    ) -> dict[str, Tensor]:
        """Return `logits`, and with `labels` the `loss`.

        `input_ids` and `attention_mask` are `[batch, length]`; or `[batch, sequences, length]`, where a sequence whose
        mask is 0 all over is not there. Of a head for a whole text the logits are `[batch, outputs]`, the mean of those
        of the sequences. With `choices` `[batch, sequences]`, which say which choice a sequence is about, they are
        `[batch, choices, outputs]`, minus infinity for one that is not there, and without their last dimension where
        there is one output. Of a head for tokens they are in the shape of `input_ids`, with the outputs last. Labels
        of -100 do not count. The loss is summed and divided by `num_items_in_batch`, or else by the number of labels.
        """
        there = attention_mask.any(dim=-1) if input_ids.dim() == 3 else None
        ids, mask = (input_ids, attention_mask) if there is None else (input_ids[there], attention_mask[there])
        with_texts = labels is not None and self.lm_weight > 0
        counts = None
        if with_texts and labels is not None:
            counts = labels.reshape(len(input_ids), -1)[:, 0] != IGNORE_INDEX
            counts = counts if there is None else counts[there.nonzero()[:, 0]]
        one = there is not None and len(input_ids) == 1
        logits, of_texts = (self._in_parts if one else self._read)(ids, mask, counts)
        if there is not None:
            logits = _joined(logits, there, choices)
        if labels is None:
            return {"logits": logits}
        if self.loss is None:
            raise ValueError("this model was built without a loss")
        total = self.loss(logits.float(), labels) if values is None else self.loss(logits.float(), labels, values)
        if num_items_in_batch is None:
            num_items_in_batch = (labels != IGNORE_INDEX).sum().clamp(min=1)
        if of_texts is not None:
            total = total + self.lm_weight * of_texts
        return {"loss": total / num_items_in_batch, "logits": logits}

    def _in_parts(self, ids: Tensor, mask: Tensor, counts: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return the logits of sequences `[n, length]`, and the loss of the texts of those that count, if asked for."""
        rows = len(ids) if self.part_tokens is None else max(1, self.part_tokens // ids.shape[1])
        if rows >= len(ids):
            return self._read(ids, mask, counts)

        def read(part: int) -> tuple[Tensor, ...]:
            which = slice(part * rows, (part + 1) * rows)
            logits, loss = self._read(ids[which], mask[which], None if counts is None else counts[which])
            return (logits,) if loss is None else (logits, loss)

        logits, *losses = in_parts(read, -(-len(ids) // rows), self)
        return logits, losses[0] if losses else None

    def _read(self, ids: Tensor, mask: Tensor, counts: Tensor | None) -> tuple[Tensor, Tensor | None]:
        last_only = getattr(self.head, "reads_last_token_only", False) and counts is None
        hidden, hidden_mask = last_hidden_state(self.backbone, ids, mask, last_only=last_only)
        logits = self.head(hidden, hidden_mask)
        if counts is None:
            return logits, None
        (matrix,) = self._output_matrix
        assert matrix is not None
        return logits, text_loss(hidden[counts], matrix, ids[counts], mask[counts])

    def activation_checkpointing_enable(self, **settings: Any) -> None:
        """Recompute activations in the backward pass instead of storing them; Trainer calls this.

        Raises UsageError for an architecture that cannot.
        """
        recompute_activations(self.backbone, **settings)


def _joined(logits: Tensor, there: Tensor, choices: Tensor | None) -> Tensor:
    """Return the logits of examples, of those of their sequences; `there` `[batch, sequences]` says which there are."""
    owners, examples = there.nonzero()[:, 0], len(there)
    if logits.dim() == 3:
        # Of tokens: each sequence has its own.
        whole = logits.new_zeros(*there.shape, *logits.shape[1:])
        whole[there] = logits
        return whole
    if choices is None:
        return _means(logits, owners, examples)
    width = int(choices.max()) + 1
    of_choice = owners * width + choices[there]
    missing = torch.bincount(of_choice, minlength=examples * width) == 0
    scores = _means(logits, of_choice, examples * width).masked_fill(missing[:, None], -math.inf)
    scores = scores.reshape(examples, width, -1)
    return scores[..., 0] if scores.shape[-1] == 1 else scores


def _means(rows: Tensor, owners: Tensor, examples: int) -> Tensor:
    """Return the means `[examples, outputs]` of the rows `[n, outputs]` of each owner, of whom `owners` is `[n]`."""
    sums = rows.new_zeros(examples, rows.shape[1]).index_add(0, owners, rows)
    return sums / torch.bincount(owners, minlength=examples).to(rows.dtype)[:, None]


def recompute_activations(backbone: nn.Module, **settings: Any) -> None:
    """Have a transformer, wrapped or not, recompute activations. Raises UsageError where it cannot."""
    try:
        _base(backbone).activation_checkpointing_enable(**settings)
    except ValueError as error:
        raise UsageError(f"--gradient-checkpointing: {error}", "Lower --batch-tokens instead.") from error


def last_hidden_state(
    backbone: nn.Module, input_ids: Tensor, attention_mask: Tensor, *, last_only: bool = False
) -> tuple[Tensor, Tensor]:
    """Return the hidden states `[batch, length, hidden]` after the last layer, and the attention mask that fits them.

    They are the same on either padding side: positions are counted by the attention mask; models that have no use for
    them (ALiBi) are not given any. With `last_only` it may be each row's last token alone, `[batch, 1, hidden]`.
    """
    base = _base(backbone)
    if speed.can_run(base):
        hidden = speed.hidden_states(base, input_ids, attention_mask, last=last_only)
        return hidden, attention_mask.amax(dim=-1, keepdim=True) if last_only else attention_mask
    positions = {}
    if "position_ids" in inspect.signature(base.forward).parameters:
        positions["position_ids"] = (attention_mask.long().cumsum(dim=-1) - 1).clamp(min=0)
    outputs = backbone(input_ids=input_ids, attention_mask=attention_mask, use_cache=False, **positions)
    return outputs.last_hidden_state, attention_mask


def _base(backbone: Any) -> Any:
    """Return the transformer itself, without peft's wrapper."""
    return backbone.get_base_model() if hasattr(backbone, "get_base_model") else backbone
