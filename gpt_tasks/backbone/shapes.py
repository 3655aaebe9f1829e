"""Shapes of the models that `gpt-tasks pretrain` trains from scratch."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Shape(BaseModel):
    """The size of a GPT-2-like model: blocks, attention heads, hidden width, vocabulary entries, tokens of context."""

    model_config = ConfigDict(frozen=True)

    layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    width: int = Field(ge=1)
    vocab_size: int = Field(ge=258)
    context: int = Field(ge=8)

    @property
    def parameters(self) -> int:
        """The number of parameters; the matrix of the output is that of the embedding."""
        block = 12 * self.width**2 + 13 * self.width
        return (self.vocab_size + self.context + 2) * self.width + self.layers * block


SHAPES = {
    "tiny": Shape(layers=6, heads=4, width=256, vocab_size=16384, context=256),
    "mini": Shape(layers=8, heads=8, width=512, vocab_size=16384, context=512),
    "gpt2": Shape(layers=12, heads=12, width=768, vocab_size=50257, context=1024),
}
