"""The kinds of head: modules on the backbone's hidden states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gpt_tasks.extensions import HeadKind
from gpt_tasks.hookspecs import hookimpl

if TYPE_CHECKING:
    from torch import nn


@hookimpl
def register_heads() -> Sequence[HeadKind]:
    """Bring the sequence head."""
    return [HeadKind("sequence", "One row of logits for a text, read off its last token.", _sequence)]


def _sequence(hidden_size: int, outputs: int) -> nn.Module:
    from gpt_tasks.heads.sequence import SequenceHead

    return SequenceHead(hidden_size, outputs)
