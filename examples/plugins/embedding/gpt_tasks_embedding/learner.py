"""The learner of vectors: an anchor is to be closer to its own positive than to those of the batch's others."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from zlib import crc32

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from gpt_tasks import Example, Features, Learner, pool_last, pool_mean
from gpt_tasks_embedding import Vector, counted_words


class Pooling(nn.Module):
    """A text's vector of its tokens' hidden states: their mean, or the last one. It has no weights."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.reads_last_token_only = way == "last"

    def forward(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        """Return vectors `[batch, hidden]` of hidden states `[batch, length, hidden]`."""
        return (pool_last if self.reads_last_token_only else pool_mean)(hidden, attention_mask)


class ContrastiveLearner(Learner[Vector]):
    """InfoNCE with the negatives of the batch (van den Oord et al. 2018)."""

    is_divisible = False

    @property
    def batch_examples(self) -> int:
        """As many pairs as the option says, independent of their lengths."""
        return self.task.batch_examples

    def join(self, transformer: nn.Module, head: nn.Module | None, **settings: Any) -> nn.Module:
        """Pool the hidden states: nothing except the backbone is trained or saved."""
        return super().join(transformer, Pooling(self.task.pooling), **settings)

    def encode(self, examples: Sequence[Example]) -> list[Features]:
        """Encode the anchor as choice 0, its positive as choice 1; the label identifies equal positives."""
        found = []
        for example in examples:
            texts = [*example.inputs.values(), *([] if example.target is None else [example.target])]
            asked = [Example({"anchor": text}, None, example.where) for text in texts]
            encoded = self.task.encode(asked, self.backbone.tokenizer, self.settings.max_length)
            sequences = [ids for each in encoded for ids in each.sequences]
            choices = tuple(choice for choice, each in enumerate(encoded) for _ in each.sequences)
            found.append(
                Features(
                    sequences,
                    labels=np.int64(crc32(texts[-1].encode())),
                    choices=choices,
                    truncated=sum(each.truncated for each in encoded),
                    windows=max(each.windows for each in encoded),
                )
            )
        return found

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the summed cross-entropy of each anchor's own positive among the batch's."""
        logits, labels = logits[labels != -100], labels[labels != -100]
        anchors, positives = functional.normalize(logits, dim=-1).unbind(dim=1)
        own = torch.arange(len(labels), device=labels.device)
        equal = (labels[:, None] == labels) & (own[:, None] != own)
        similarities = (anchors @ positives.T / self.task.temperature).masked_fill(equal, -torch.inf)
        return functional.cross_entropy(similarities, own, reduction="sum")

    def decode(self, examples: Iterable[Example], outputs: Sequence[np.ndarray]) -> list[Vector]:
        """Return the vectors, of length 1."""
        found = []
        for output in outputs:
            rows = np.atleast_2d(output).astype(np.float64)
            rows = (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)).tolist()
            found.append(Vector(rows[0], rows[1] if len(rows) > 1 else None))
        return found

    def baselines(self, examples: Sequence[Example]) -> Mapping[str, Sequence[Vector]]:
        """Return vectors of counted words."""
        both = [[counted_words(text) for text in (*each.inputs.values(), str(each.target))] for each in examples]
        return {"words": [Vector(*vectors) for vectors in both]}
