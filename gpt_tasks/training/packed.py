"""A GPT-2 that trains on packed windows: attention as plain matrix products, and a loss that keeps no logits."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface, GPT2Config, GPT2LMHeadModel
from transformers.modeling_outputs import CausalLMOutputWithCrossAttentions

from gpt_tasks.backbone.shapes import Shape

ROWS = 256


def window_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention of a whole window over itself; query, key, value [batch, heads, length, size].

    `attention_mask` [batch, 1, length, length], True where a query may look; None: every earlier position. There is no
    dropout. On a CPU, plain products take a third of the fused kernel's time in a short window (4 heads of 64, length
    256, forward and backward).
    """
    batch, heads, length, size = query.shape
    scale = size**-0.5 if scaling is None else scaling
    if query.device.type != "cpu" or length > 512:
        mixed = nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=attention_mask, is_causal=attention_mask is None, scale=scale
        )
        return mixed.transpose(1, 2).contiguous(), None
    if attention_mask is None:
        attention_mask = torch.ones(1, 1, length, length, dtype=torch.bool).tril()
    bias = torch.zeros(attention_mask.shape, dtype=query.dtype).masked_fill_(~attention_mask, float("-inf"))
    if len(bias) > 1:
        bias = bias.expand(batch, heads, length, length).reshape(batch * heads, length, length)
    query, key, value = (tensor.reshape(batch * heads, length, size) for tensor in (query, key, value))
    scores = torch.baddbmm(bias.view(-1, length, length), query, key.mT, alpha=scale)
    mixed = torch.bmm(scores.softmax(-1), value)
    return mixed.view(batch, heads, length, size).transpose(1, 2).contiguous(), None


AttentionInterface.register("gpt_tasks_window", window_attention)


def linear_cross_entropy(
    hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, dtype: torch.dtype
) -> torch.Tensor:
    """The mean cross-entropy, in nats, of the logits `hidden @ weight.T`; a scalar in float32.

    `hidden` [rows, width], `weight` [vocabulary, width], `labels` [rows]. Products are computed in `dtype`, 256
    rows at a time: only a slice of the logits exists at any moment, and both gradients are taken while it does.
    """
    loss: torch.Tensor = _LinearCrossEntropy.apply(hidden, weight, labels, dtype)  # type: ignore[no-untyped-call]
    return loss


class PackedGPT2(GPT2LMHeadModel):
    """GPT-2 whose `forward` with labels [batch, length] (already shifted) returns the mean loss and no logits."""

    def __init__(self, config: GPT2Config) -> None:
        config._attn_implementation = "gpt_tasks_window"
        super().__init__(config)

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        **_: Any,
    ) -> CausalLMOutputWithCrossAttentions:
        """Logits [batch, length, vocabulary] without labels, the mean loss with them."""
        hidden = self.transformer(
            input_ids=input_ids, position_ids=position_ids, attention_mask=attention_mask, use_cache=False
        ).last_hidden_state
        if labels is None:
            return CausalLMOutputWithCrossAttentions(logits=self.lm_head(hidden))
        device = hidden.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
        with torch.autocast(device, enabled=False):
            loss = linear_cross_entropy(hidden.flatten(0, 1), self.lm_head.weight, labels.flatten(), dtype)
        return CausalLMOutputWithCrossAttentions(loss=loss)


def build_gpt2(shape: Shape, end_of_text: int) -> PackedGPT2:
    """A GPT-2 of this shape with new weights, without dropout: text is seen about once."""
    return PackedGPT2(
        GPT2Config(
            vocab_size=shape.vocab_size,
            n_positions=shape.context,
            n_embd=shape.width,
            n_layer=shape.layers,
            n_head=shape.heads,
            # The same function as GPT-2's "gelu_new", computed in one operation instead of eight.
            activation_function="gelu_pytorch_tanh",
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=end_of_text,
            eos_token_id=end_of_text,
        )
    )


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, dtype: torch.dtype
    ) -> torch.Tensor:
        projection = weight.to(dtype)
        inputs = hidden.to(dtype)
        training = hidden.requires_grad or weight.requires_grad
        loss = torch.zeros((), dtype=torch.float32, device=hidden.device)
        grad_hidden = torch.empty_like(inputs) if training else None
        grad_weight = torch.zeros_like(weight) if training else None
        for rows in range(0, len(inputs), ROWS):
            part, target = inputs[rows : rows + ROWS], labels[rows : rows + ROWS, None]
            logits = (part @ projection.T).float()
            largest = logits.amax(1, keepdim=True)
            of_target = logits.gather(1, target)
            share = logits.sub_(largest).exp_()
            total = share.sum(1, keepdim=True)
            loss += (total.log() + largest - of_target).sum()
            if grad_hidden is not None and grad_weight is not None:
                share.div_(total).scatter_add_(1, target, share.new_full((1, 1), -1.0).expand_as(target))
                slope = share.div_(len(inputs)).to(dtype)
                torch.mm(slope, projection, out=grad_hidden[rows : rows + ROWS])
                grad_weight += slope.T @ part
        if grad_hidden is not None and grad_weight is not None:
            ctx.save_for_backward(grad_hidden.to(hidden.dtype), grad_weight)
        return loss / len(inputs)

    @staticmethod
    def backward(ctx: Any, grad_loss: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        grad_hidden, grad_weight = ctx.saved_tensors
        return grad_hidden * grad_loss, grad_weight * grad_loss, None, None
