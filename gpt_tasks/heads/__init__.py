"""The kinds of head: modules on the backbone's hidden states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gpt_tasks.extensions import HeadSpec
from gpt_tasks.hookspecs import hookimpl

if TYPE_CHECKING:
    from torch import nn


@hookimpl
def register_heads() -> Sequence[HeadSpec]:
    """Register the heads for a whole text, and the one for a span of it."""
    return [
        HeadSpec("sequence", "One row of logits for a text, read off its last token.", _sequence, frozen="pooled"),
        HeadSpec("span", "Two logits for every token: does it begin the answer, does it end it?", _span),
        HeadSpec("pooled", "One row of logits for a text, read off its last token and the mean of all.", _pooled),
    ]


def _sequence(hidden_size: int, outputs: int) -> nn.Module:
    from gpt_tasks.heads.sequence import SequenceHead

    return SequenceHead(hidden_size, outputs)


def _pooled(hidden_size: int, outputs: int) -> nn.Module:
    from gpt_tasks.heads.sequence import PooledHead

    return PooledHead(hidden_size, outputs)


def _span(hidden_size: int, outputs: int) -> nn.Module:
    from gpt_tasks.heads.span import SpanHead

    return SpanHead(hidden_size, outputs)
