"""Tokens that a backbone is given for a task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gpt_tasks.backbone.load import Backbone

if TYPE_CHECKING:
    from tokenizers import AddedToken


def add_tokens(backbone: Backbone, tokens: Sequence[str]) -> None:
    """Add the missing tokens to the tokenizer, and a row for each to the model's embedding.

    A new row starts as a copy of the end of text's, which also separates texts, or where there is none as the mean of
    all: on a frozen backbone, a random row would carry no information.
    """
    import torch

    tokenizer, model = backbone.tokenizer, backbone.model
    known = tokenizer.get_vocab() if tokens else {}
    lacking: list[str | AddedToken] = [token for token in tokens if token not in known]
    if not lacking:
        return
    tokenizer.add_tokens(lacking, special_tokens=True)
    whole: Any = model
    rows, end = whole.get_input_embeddings().weight.shape[0], tokenizer.eos_token_id
    if len(tokenizer) > rows:
        whole.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    with torch.no_grad():
        for module in (whole.get_input_embeddings(), whole.get_output_embeddings()):
            start = module.weight[:rows].mean(dim=0) if end is None else module.weight[end].clone()
            for token in lacking:
                module.weight[tokenizer.convert_tokens_to_ids(str(token))] = start
