"""An embedding of which only those rows are trained that the training data use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


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
        padding = -1 if whole.padding_idx is None else int(self._places[whole.padding_idx])
        self.padding_idx = None if padding < 0 else padding

    def forward(self, input_ids: Tensor) -> Tensor:
        """Return the embeddings `[..., hidden]` of `input_ids` `[...]`, which need not be used ones."""
        places = self._places[input_ids]
        embedded = functional.embedding(places.clamp(min=0), self.weight, self.padding_idx)
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
    if type(whole) is not nn.Embedding or not whole.weight.requires_grad:
        yield
        return
    rows = UsedRows(whole, used)
    transformer.set_input_embeddings(rows)
    try:
        yield
    finally:
        transformer.set_input_embeddings(rows.merge())
