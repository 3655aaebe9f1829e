"""A causal language model as scoring needs it: hidden states over a cache and a mask, and logits of single tokens."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel
from transformers.activations import NewGELUActivation

# Logits are computed for this many numbers at a time: 64 MiB in float32.
_LOGITS = 1 << 24


class ScoredModel:
    """A model in evaluation mode, on its device and in its precision, by its two parts: backbone and output matrix."""

    def __init__(self, model: PreTrainedModel) -> None:
        _fuse_gelu(model)
        self.model: Any = model.eval()
        self.device = model.device
        self.dtype = next(model.parameters()).dtype
        self.keeps_logits = "logits_to_keep" in inspect.signature(model.forward).parameters
        self.vocabulary = int(self.model.get_input_embeddings().weight.shape[0])

    def hidden(self, ids: Tensor, positions: Tensor, visible: Tensor | None, cache: DynamicCache | None) -> Tensor:
        """Return the last hidden states `[rows, length, width]` of `ids` `[rows, length]`.

        `visible` `[rows, 1, length, cached + length]` is True where a token may look; None: every earlier token. What
        is forwarded is added to `cache`, where one is given.
        """
        mask = None
        if visible is not None:
            mask = torch.zeros(visible.shape, dtype=self.dtype, device=self.device)
            mask.masked_fill_(~visible, torch.finfo(self.dtype).min)
        outputs = self.model.base_model(
            input_ids=ids,
            position_ids=positions,
            attention_mask=mask,
            past_key_values=cache,
            use_cache=cache is not None,
        )
        states: Tensor = outputs.last_hidden_state
        return states

    def target_log_probs(self, hidden: Tensor, rows: Sequence[int], targets: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return the log-probability of each target, and whether it is the likeliest token; both `[targets]`.

        `hidden` `[n, width]`; target `i` is predicted by the state at `rows[i]`. Each state's logits are computed once.
        """
        places, inverse = torch.unique(torch.tensor(rows), return_inverse=True)
        order = inverse.argsort(stable=True)
        wanted = torch.tensor(targets)[order].to(self.device)
        inverse = inverse[order]
        values = torch.empty(len(wanted), device=self.device)
        greedy = torch.empty(len(wanted), dtype=torch.bool, device=self.device)
        step = max(1, _LOGITS // self.vocabulary)
        for start in range(0, len(places), step):
            logits = self.logits(hidden[places[start : start + step].to(self.device)])
            low, high = torch.searchsorted(inverse, torch.tensor([start, start + step])).tolist()
            local, ids = (inverse[low:high] - start).to(self.device), wanted[low:high]
            normalizer = logits.logsumexp(-1)
            values[low:high] = logits[local, ids] - normalizer[local]
            greedy[low:high] = logits.argmax(-1)[local] == ids
        back = order.argsort()
        return values.cpu()[back], greedy.cpu()[back]

    def logits(self, hidden: Tensor) -> Tensor:
        """Return the logits `[n, vocabulary]` of hidden states `[n, width]`, in float32."""
        logits: Tensor = self.model.get_output_embeddings()(hidden)
        return logits.float()


def _fuse_gelu(model: PreTrainedModel) -> None:
    """Let GPT-2's activation be computed in one operation instead of eight: it is the same function."""
    for module in model.modules():
        for name, child in list(module.named_children()):
            if isinstance(child, NewGELUActivation):
                setattr(module, name, nn.GELU(approximate="tanh"))


def repeated(cache: DynamicCache, rows: int) -> DynamicCache:
    """Return a separate cache for `rows` rows that begin with the one row of `cache`; nothing is copied yet."""
    layers: Any = cache.layers
    return DynamicCache(
        [(layer.keys.expand(rows, -1, -1, -1), layer.values.expand(rows, -1, -1, -1)) for layer in layers]
    )
