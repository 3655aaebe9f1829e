"""Tokens that a backbone is given for a task, and those at which it ends a text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from gpt_tasks.backbone.load import Backbone

if TYPE_CHECKING:
    from tokenizers import AddedToken
    from transformers import PreTrainedTokenizerBase


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
    # A vocabulary may have gaps, so that its largest id says how many rows it needs.
    needed = 1 + max(tokenizer.get_vocab().values())
    if needed > rows:
        whole.resize_token_embeddings(needed, mean_resizing=False)
    with torch.no_grad():
        for module in (whole.get_input_embeddings(), whole.get_output_embeddings()):
            start = module.weight[:rows].mean(dim=0) if end is None else module.weight[end].clone()
            for token in lacking:
                module.weight[tokenizer.convert_tokens_to_ids(str(token))] = start


def end_tokens(model: Any, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Return the tokens at which the model ends a text, by its own generation config and its tokenizer."""
    configured = model.generation_config.eos_token_id
    several = configured if isinstance(configured, list) else [configured]
    return frozenset(token for token in (*several, tokenizer.eos_token_id) if token is not None)


def end_also_at(model: Any, tokenizer: PreTrainedTokenizerBase, tokens: Iterable[int]) -> None:
    """Have a model, and whoever opens it once it is saved, end texts at these tokens too."""
    known = end_tokens(model, tokenizer)
    if not known.issuperset(tokens):
        model.generation_config.eos_token_id = sorted({*known, *tokens})
