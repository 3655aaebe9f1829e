"""The learner of words' numbers, by their squared error on each word's last token, and its head."""

import json
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate

import numpy as np
from torch import Tensor, nn

from gpt_tasks import IGNORE_INDEX, Example, Features, Learner, encode_with_offsets


class WordHead(nn.Module):
    """A separate layer between each token's hidden state and its numbers."""

    def __init__(self, hidden_size: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(hidden_size, hidden_size), nn.GELU(), nn.Linear(hidden_size, outputs))

    def forward(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        """Return numbers `[batch, length, outputs]` for hidden states `[batch, length, hidden]`."""
        return self.layers(hidden)


class TokenRegressionLearner(Learner[list[float]]):
    """A number for each word, in deviations from the training data's mean."""

    per_token = True
    outputs = 1

    def encode(self, examples: Sequence[Example]) -> list[Features]:
        """Encode texts, long ones in parts; each word's last token has its number."""
        found, length = [], self.settings.max_length
        for example in examples:
            ids, ends = self._tokens(example)
            labels = [float(IGNORE_INDEX)] * len(ids)
            for end, score in zip(ends, [] if example.target is None else json.loads(example.target), strict=False):
                labels[end] = (score - self.task.mean) / self.task.std
            parts = [ids[start : start + length] for start in range(0, len(ids), length)]
            found.append(Features(parts, token_labels=labels, windows=len(parts)))
        return found

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        learned = labels != IGNORE_INDEX
        return (logits[..., 0][learned] - labels[learned]).square().sum()

    def decode(self, examples: Iterable[Example], outputs: Sequence[np.ndarray]) -> list[list[float]]:
        """Return the numbers on the words' last tokens."""
        found = []
        for example, rows in zip(examples, outputs, strict=True):
            _, ends = self._tokens(example)
            found.append((rows[ends, 0].astype(np.float64) * self.task.std + self.task.mean).tolist())
        return found

    def baselines(self, examples: Sequence[Example]) -> Mapping[str, Sequence[list[float]]]:
        return {"mean": [[self.task.mean] * len(each.inputs["tokens"].split()) for each in examples]}

    def _tokens(self, example: Example) -> tuple[list[int], list[int]]:
        """Return a text's tokens, and the place of the last one of each word."""
        text = example.inputs["tokens"]
        ids, offsets = encode_with_offsets(self.backbone.tokenizer, [text])[0]
        starts = [start for start, _ in offsets]
        ends = accumulate(len(word) + 1 for word in text.split())
        return ids, [bisect_left(starts, end - 1) - 1 for end in ends]
