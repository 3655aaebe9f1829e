"""A causal language model that learns some tokens of its texts: the answers, and not the prompts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from gpt_tasks.backbone.isolation import evaluating
from gpt_tasks.data.encoded import IGNORE_INDEX
from gpt_tasks.heads.lm import linear_cross_entropy, product_type, token_losses
from gpt_tasks.heads.model import last_hidden_state, recompute_activations

# Number of tokens whose logits are compared with the plain product by the output matrix.
_TRIED = 8


class LanguageModel(nn.Module):
    """The backbone's own output matrix on its last hidden states.

    `backbone` is the base model (`causal_lm.base_model`), wrapped by a tuning method or not. An architecture that makes
    something else of the product with the matrix (a bias, a scale, a cap) is computed by its own forward.
    """

    # Trainer then passes `num_items_in_batch`, the number of tokens to be learned of an accumulated batch on all ranks.
    accepts_loss_kwargs = True

    def __init__(self, backbone: nn.Module, causal_lm: PreTrainedModel) -> None:
        super().__init__()
        whole: Any = causal_lm
        output = whole.get_output_embeddings()
        tied = output.weight is whole.get_input_embeddings().weight
        self.backbone = backbone
        # In a tuple, so that it is not part of this module's state: a tied matrix is the backbone's own.
        self._whole = (whole, output)
        self.output = None if tied else output
        self.plain = _is_plain(whole, output)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        labels: Tensor,
        num_items_in_batch: Tensor | int | None = None,
    ) -> dict[str, Tensor]:
        """Return as `loss` the cross-entropy, in nats, of the tokens to be learned, by their number in the update.

        `input_ids`, `attention_mask` and `labels` are `[batch, length]`; a label is the token itself, or -100.
        """
        learned = labels[:, 1:] != IGNORE_INDEX
        targets = labels[:, 1:][learned]
        divisor = learned.sum().clamp(min=1) if num_items_in_batch is None else num_items_in_batch
        states, matrix = self._states(input_ids, attention_mask, learned)
        if matrix is None:
            total = nn.functional.cross_entropy(states.float(), targets, reduction="sum")
        else:
            dtype, shares = product_type(states), torch.ones(len(targets), device=states.device)
            with torch.autocast(states.device.type, enabled=False):
                total = linear_cross_entropy(states, matrix, targets, dtype, shares)
        return {"loss": total / divisor}

    @torch.no_grad()
    def losses(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> Tensor:
        """Return the summed cross-entropy, in nats, of each text's tokens to be learned: `[batch]`, in float32."""
        learned = labels[:, 1:] != IGNORE_INDEX
        targets = labels[:, 1:][learned]
        states, matrix = self._states(input_ids, attention_mask, learned)
        if matrix is None:
            each = nn.functional.cross_entropy(states.float(), targets, reduction="none")
        else:
            dtype = product_type(states)
            with torch.autocast(states.device.type, enabled=False):
                each = token_losses(states, matrix, targets, dtype)
        return _by_row(each, learned)

    def log_probs(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> Tensor:
        """Return the log-probability of each text's labels, in nats, with its gradient: `[batch]`, in float32.

        `input_ids`, `attention_mask` and `labels` are `[batch, length]`; a label is the token itself, or -100. The
        logits of all labels are in memory at once.
        """
        learned = labels[:, 1:] != IGNORE_INDEX
        states, matrix = self._states(input_ids, attention_mask, learned)
        logits = states if matrix is None else states @ matrix.T
        each = nn.functional.cross_entropy(logits.float(), labels[:, 1:][learned], reduction="none")
        return -_by_row(each, learned)

    def _states(self, input_ids: Tensor, attention_mask: Tensor, learned: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return what predicts each token to be learned: its hidden state and the output matrix, or its logits."""
        whole, output = self._whole
        if self.plain:
            hidden, _ = last_hidden_state(self.backbone, input_ids, attention_mask)
            return hidden[:, :-1][learned], output.weight
        positions = (attention_mask.long().cumsum(dim=-1) - 1).clamp(min=0)
        logits = whole(input_ids=input_ids, attention_mask=attention_mask, position_ids=positions).logits
        return logits[:, :-1][learned], None

    def activation_checkpointing_enable(self, **settings: Any) -> None:
        """Recompute activations in the backward pass instead of storing them.

        Raises UsageError for an architecture that cannot.
        """
        recompute_activations(self.backbone, **settings)


def _by_row(each: Tensor, learned: Tensor) -> Tensor:
    """Sum values of tokens `[tokens]` over their rows; `learned` `[rows, length]` says where they are."""
    return torch.zeros(len(learned), device=each.device).index_add(0, learned.nonzero()[:, 0], each)


@torch.no_grad()
def _is_plain(whole: Any, output: Any) -> bool:
    """Return whether the logits are the last hidden states by the output matrix, and nothing else."""
    if getattr(output, "bias", None) is not None:
        return False
    ids = torch.arange(_TRIED, device=output.weight.device)[None]
    with evaluating(whole):
        hidden = whole.base_model(input_ids=ids).last_hidden_state
        if hidden.shape[-1] != output.weight.shape[1]:
            return False
        return torch.allclose(whole(input_ids=ids).logits, hidden @ output.weight.T, atol=1e-3, rtol=1e-3)
