"""A trained model with its task: from examples to logits and predictions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Generic, TypeVar

import numpy as np
from torch import nn
from transformers import PreTrainedTokenizerBase

from gpt_tasks.evaluation.logits import head_logits
from gpt_tasks.tasks.headed import HeadTask
from gpt_tasks.types import Example

CHUNK = 1024

TaskT = TypeVar("TaskT", bound=HeadTask)


@dataclass(frozen=True)
class Predictor(Generic[TaskT]):
    """Answers examples of one task in chunks, so that a file of any size passes through."""

    task: TaskT
    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    max_length: int
    batch_tokens: int
    precision: str

    def logits(self, examples: Iterable[Example]) -> np.ndarray:
        """Return the head's logits `[n, outputs]`."""
        encodings = (
            {"sequences": encoded.sequences, "choices": encoded.choices}
            for chunk in chunks(examples, CHUNK)
            for encoded in self.task.encode(chunk, self.tokenizer, self.max_length)
        )
        return head_logits(
            self.model,
            encodings,
            batch_tokens=self.batch_tokens,
            pad_token_id=self.tokenizer.pad_token_id,
            precision=self.precision,
        )

    def predict(self, examples: Iterable[Example]) -> Iterator[tuple[Example, Any]]:
        """Yield each example with what the task makes of its logits, in order, a chunk at a time."""
        for chunk in chunks(examples, CHUNK):
            yield from zip(chunk, self.task.decode(self.logits(chunk)), strict=True)


def chunks(examples: Iterable[Example], size: int) -> Iterator[list[Example]]:
    """Yield lists of at most `size` examples."""
    iterator = iter(examples)
    while chunk := list(islice(iterator, size)):
        yield chunk
