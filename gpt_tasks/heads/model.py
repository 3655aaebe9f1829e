"""A backbone with a head: the module that is trained."""

from __future__ import annotations

import inspect
import math
from typing import Any

import torch
from torch import Tensor, nn

from gpt_tasks.backbone import speed
from gpt_tasks.errors import UsageError
from gpt_tasks.heads.lm import text_loss
from gpt_tasks.heads.losses import LOSSES, UNLABELLED
from gpt_tasks.tasks.headed import Loss


class TaskModel(nn.Module):
    """A transformer without its language model head, and a task's head on its last hidden states.

    `backbone` is the base model (`causal_lm.base_model`), wrapped by a tuning method or not; `loss` says what the head
    learns by. `class_weights` `[outputs]` weigh the examples of each label in it; they should average 1 over the
    training data, because the loss is divided by the number of goals. With `lm_weight` the texts' own
    language-modelling loss, by the output matrix `[vocabulary, hidden]`, is added with that weight.
    """

    # Trainer then passes `num_items_in_batch`, the number of labelled examples of an accumulated batch on all ranks.
    accepts_loss_kwargs = True

    def __init__(
        self,
        backbone: nn.Module,
        head: nn.Module,
        class_weights: Tensor | None = None,
        *,
        loss: Loss = "cross_entropy",
        output_matrix: Tensor | None = None,
        lm_weight: float = 0.0,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.loss = loss
        self.class_weights: Tensor | None
        self.register_buffer("class_weights", class_weights, persistent=False)
        # In a tuple, so that it is no part of this module's state: the backbone's own, or none that moves.
        self._output_matrix = (output_matrix,)
        self.lm_weight = lm_weight

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        labels: Tensor | None = None,
        choices: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
    ) -> dict[str, Tensor]:
        """Return `logits` `[batch, outputs]`, and with `labels`, their goals, the `loss`.

        `input_ids` and `attention_mask` are `[batch, length]`; or `[batch, sequences, length]`, where a sequence whose
        mask is 0 all over is not there. The logits are the mean of those of the sequences; where these are choices,
        they are those of each choice, `[batch, choices]`, minus infinity for one that is not there; `choices`
        `[batch, sequences]` say which one a sequence is about. Goals are
        `[batch]` or `[batch, outputs]`, and those of -100 do not count. The loss is summed and divided by
        `num_items_in_batch`, or else by the number of goals.
        """
        owners, there, examples = None, None, len(input_ids)
        if input_ids.dim() == 3:
            there = attention_mask.any(dim=-1)
            owners, input_ids, attention_mask = there.nonzero()[:, 0], input_ids[there], attention_mask[there]
        with_texts = labels is not None and self.lm_weight > 0
        last_only = getattr(self.head, "reads_last_token_only", False) and not with_texts
        hidden, mask = last_hidden_state(self.backbone, input_ids, attention_mask, last_only=last_only)
        logits = self.head(hidden, mask)
        if self.loss == "choice":
            assert owners is not None
            assert choices is not None
            width = int(choices.max()) + 1
            of_choice = owners * width + choices[there]
            missing = torch.bincount(of_choice, minlength=examples * width) == 0
            scores = _means(logits, of_choice, examples * width)
            logits = scores[:, 0].masked_fill(missing, -math.inf).reshape(examples, width)
        elif owners is not None:
            logits = _means(logits, owners, examples)
        if labels is None:
            return {"logits": logits}
        total = LOSSES[self.loss](logits.float(), labels, self.class_weights)
        if num_items_in_batch is None:
            num_items_in_batch = (labels != UNLABELLED).sum().clamp(min=1)
        if with_texts:
            (matrix,) = self._output_matrix
            assert matrix is not None
            counts = labels.reshape(examples, -1)[:, 0] != UNLABELLED
            counts = counts if owners is None else counts[owners]
            total = total + self.lm_weight * text_loss(
                hidden[counts], matrix, input_ids[counts], attention_mask[counts]
            )
        return {"loss": total / num_items_in_batch, "logits": logits}

    def activation_checkpointing_enable(self, **settings: Any) -> None:
        """Recompute activations in the backward pass instead of keeping them; Trainer calls this.

        Raises UsageError for an architecture that cannot.
        """
        recompute_activations(self.backbone, **settings)


def _means(rows: Tensor, owners: Tensor, examples: int) -> Tensor:
    """Return the means `[examples, outputs]` of the rows `[n, outputs]` of each owner, of whom `owners` is `[n]`."""
    sums = rows.new_zeros(examples, rows.shape[1]).index_add(0, owners, rows)
    return sums / torch.bincount(owners, minlength=examples).to(rows.dtype)[:, None]


def recompute_activations(backbone: nn.Module, **settings: Any) -> None:
    """Have a transformer, wrapped or not, keep no activations. Raises UsageError for an architecture that cannot."""
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
