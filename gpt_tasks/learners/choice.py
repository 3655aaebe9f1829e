"""The learner of choices: one score for each of an example's own answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import softmax
from torch import Tensor, nn
from torch.nn import functional

from gpt_tasks.data.encoded import IGNORE_INDEX, EncodedExamples
from gpt_tasks.data.examples import chunks
from gpt_tasks.heads.linear_probe import Probe, fit_choice_probe
from gpt_tasks.heads.model import HeadModel
from gpt_tasks.heads.sequence import Features as HeadFeatures
from gpt_tasks.heads.sequence import LinearHead
from gpt_tasks.learners.base import VALIDATION_CHUNK, stacked
from gpt_tasks.learners.sequence import SequenceLearner
from gpt_tasks.types import Example, Features, Prediction


class MultipleChoiceLearner(SequenceLearner[Prediction]):
    """One score for each choice, compared by cross-entropy."""

    @property
    def outputs(self) -> int:
        """One score for a choice."""
        return 1

    def label(self, target: str) -> Any:
        """Return the place of the right choice."""
        return np.int64(target)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the cross-entropy of scores `[n, choices]`, minus infinity where there is none, and places `[n]`."""
        return functional.cross_entropy(logits, labels, ignore_index=IGNORE_INDEX, reduction="sum")

    def decode(self, examples: Iterable[Example], outputs: Sequence[np.ndarray]) -> list[Prediction]:
        """Turn each example's scores into the place of the best and the probabilities of all."""
        if not len(outputs):
            return []
        return [
            Prediction(str(row.argmax()), {str(place): float(p) for place, p in enumerate(row) if p > 0})
            for row in softmax(stacked(outputs).astype(np.float64), axis=-1)
        ]

    def baselines(self, examples: Sequence[Example]) -> Mapping[str, Sequence[Prediction]]:
        """Return the longest choices: writers of questions put more care into the right one."""
        longest = [max(range(len(each.choices)), key=lambda place: len(each.choices[place])) for each in examples]
        return {"longest": [Prediction(str(place), {str(place): 1.0}) for place in longest]}

    def fit_probe(
        self, head: LinearHead, train: EncodedExamples, rows: np.ndarray, validation: EncodedExamples
    ) -> Probe:
        """Fit a conditional logit of the choices' features."""
        return fit_choice_probe(
            *self._choice_features(head, train, rows),
            train.labels[rows],
            *self._choice_features(head, validation, range(len(validation))),
            validation.labels,
        )

    def _choice_features(
        self, head: LinearHead, encoded: EncodedExamples, rows: Iterable[int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return what a linear head reads of every choice, `[choices, features]`, and where each example's begin."""
        examples = encoded.__getitems__([int(row) for row in rows])
        counts = np.array([max(each.choices) + 1 for each in examples])
        starts = np.cumsum(counts) - counts
        model: nn.Module = HeadModel(self.model.backbone, HeadFeatures(head))
        sequences = (Features([ids]) for each in examples for ids in each.sequences)
        read = np.stack(
            [array for some in chunks(sequences, VALIDATION_CHUNK) for array in self.outputs_of(some, model)]
        )
        # A linear head makes of a mean what is the mean of what it makes.
        of_choice = np.concatenate(
            [start + np.array(each.choices) for start, each in zip(starts, examples, strict=True)]
        )
        sums = np.zeros((counts.sum(), read.shape[1]), dtype=np.float32)
        np.add.at(sums, of_choice, read)
        return sums / np.bincount(of_choice)[:, None].astype(np.float32), starts
