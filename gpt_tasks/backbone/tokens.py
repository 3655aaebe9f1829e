"""Tokens that a backbone is given for a task, and those at which it ends a text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import AddedToken
    from transformers import PreTrainedTokenizerBase


def add_tokens(model: Any, tokenizer: PreTrainedTokenizerBase, tokens: Sequence[str]) -> list[str]:
    """Add the missing tokens to the tokenizer, and a row for each to the model's embedding; return the missing ones.

    A new row starts as a copy of the end of text's, which also separates texts, or where there is none as the mean of
    all: on a frozen backbone, a random row would carry no information.
    """
    import torch

    known = tokenizer.get_vocab() if tokens else {}
    lacking = [token for token in tokens if token not in known]
    if not lacking:
        return []
    added: list[str | AddedToken] = [*lacking]
    tokenizer.add_tokens(added, special_tokens=True)
    rows, end = model.get_input_embeddings().weight.shape[0], tokenizer.eos_token_id
    # A vocabulary may have gaps, so that its largest id says how many rows it needs.
    needed = 1 + max(tokenizer.get_vocab().values())
    if needed > rows:
        model.resize_token_embeddings(needed, mean_resizing=False)
    with torch.no_grad():
        for module in (model.get_input_embeddings(), model.get_output_embeddings()):
            start = module.weight[:rows].mean(dim=0) if end is None else module.weight[end].clone()
            for token in lacking:
                module.weight[tokenizer.convert_tokens_to_ids(token)] = start
    return lacking


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
