"""A GPT-2 that trains on packed windows: attention as plain matrix products, and the loss without keeping its logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers import AttentionInterface, GPT2Config, GPT2LMHeadModel
from transformers.modeling_outputs import CausalLMOutputWithCrossAttentions

from gpt_tasks.backbone.shapes import Shape
from gpt_tasks.training.corpus import ValidationText, collate_windows

ROWS = 1024


def window_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention of a whole window over itself; query, key, value [batch, heads, length, size].

    `attention_mask` [batch, 1, length, length], True where a query may look; None: every earlier position. Without dropout.
    On a CPU the products of a short window are three times as fast by themselves as in the fused kernel (measured at 256 x 64).
    """
    batch, heads, length, size = query.shape
    scale = size**-0.5 if scaling is None else scaling
    if query.device.type != "cpu" or length > 512:
        mixed = F.scaled_dot_product_attention(
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


class LinearCrossEntropy(torch.autograd.Function):
    """The mean cross-entropy of `hidden @ weight.T` [rows, vocabulary], a thousand rows at a time.

    Only a slice of the logits exists at any moment, in float32; both gradients are taken while it does.
    """

    @staticmethod
    def forward(  # type: ignore[override]
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
    def backward(ctx: Any, grad_loss: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        grad_hidden, grad_weight = ctx.saved_tensors
        return grad_hidden * grad_loss, grad_weight * grad_loss, None, None


class PackedGPT2(GPT2LMHeadModel):
    """GPT-2 whose `forward` with labels [batch, length] (already shifted) returns the mean loss and no logits."""

    def __init__(self, config: GPT2Config) -> None:
        config._attn_implementation = "gpt_tasks_window"
        super().__init__(config)

    def forward(  # type: ignore[override]
        self,
        input_ids: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithCrossAttentions:
        hidden = self.transformer(
            input_ids=input_ids, position_ids=position_ids, attention_mask=attention_mask, use_cache=False
        ).last_hidden_state
        if labels is None:
            return CausalLMOutputWithCrossAttentions(logits=self.lm_head(hidden))
        device = hidden.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
        with torch.autocast(device, enabled=False):
            loss = LinearCrossEntropy.apply(hidden.flatten(0, 1), self.lm_head.weight, labels.flatten(), dtype)
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
            pad_token_id=end_of_text,
        )
    )


@torch.no_grad()
def bits_per_byte(
    model: Any,
    text: ValidationText,
    stride: int,
    precision: str = "float32",
    share: tuple[int, int] = (0, 1),
    total: Callable[[float], float] = float,
) -> float:
    """How many bits the model needs for one byte of the text: nats of all its tokens / ln 2 / UTF-8 bytes.

    Every token is scored once, the end-of-text tokens too (they add bits and no bytes), given at most the model's context and,
    away from a document's beginning, at least `context - stride` tokens of it: `stride` equal to the context means plain windows.
    `share` (rank, ranks) says which windows are scored here, `total` adds up what the ranks found.
    """
    context = model.config.n_positions
    targets = len(text) - 1
    starts = list(range(0, max(1, targets - context + stride), stride))[share[0] :: share[1]]
    device = model.device
    was_training = model.training
    model.eval()
    nats = 0.0
    for first in range(0, len(starts), 32):
        windows, scored = [], []
        for start in starts[first : first + 32]:
            window = np.full(context + 1, text.end_of_text)
            piece = text.tokens[start : start + context + 1]
            window[: len(piece)] = piece
            place = np.arange(context)
            windows.append(window)
            scored.append((place >= (context - stride if start else 0)) & (place < len(piece) - 1))
        batch = {name: tensor.to(device) for name, tensor in collate_windows(windows, text.end_of_text).items()}
        labels, keep = batch.pop("labels"), torch.from_numpy(np.stack(scored)).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            hidden = model.base_model(**batch, use_cache=False).last_hidden_state
        weight = model.get_output_embeddings().weight.detach()
        dtype = torch.bfloat16 if precision == "bf16" else weight.dtype
        mean = LinearCrossEntropy.apply(hidden[keep], weight, labels[keep], dtype)
        nats += float(mean) * int(keep.sum())
    model.train(was_training)
    return total(nats) / np.log(2) / text.bytes
