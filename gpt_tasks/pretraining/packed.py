"""A GPT-2 that trains on packed windows: attention as plain matrix products, and a loss that stores no logits."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface, GPT2Config, GPT2LMHeadModel
from transformers.modeling_outputs import CausalLMOutputWithCrossAttentions

from gpt_tasks.backbone.shapes import Shape
from gpt_tasks.heads.lm import linear_cross_entropy, product_type


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
        dtype = product_type(hidden)
        with torch.autocast(hidden.device.type, enabled=False):
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
