"""The tokens at which a model ends what it writes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from transformers import PreTrainedTokenizerBase


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
