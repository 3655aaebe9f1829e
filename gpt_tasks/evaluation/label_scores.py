"""Precision, recall and F1 of each label, with intervals, and the confusion matrix."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from gpt_tasks.evaluation.report import LabelScores
from gpt_tasks.metrics.intervals import clustered_proportion, f1_of_share, proportion

Pair = tuple[str | None, str | None]
"""A right label and the one that was given; None where there is none."""


class LabelCounts:
    """Counts how often which label was right and which was given, in all and by cluster."""

    def __init__(self) -> None:
        self.counts: Counter[Pair] = Counter()
        self._by_cluster: Counter[tuple[int, str | None, str | None]] = Counter()
        self._clusters = 0

    def add(self, pairs: Iterable[Pair], cluster: int | None) -> None:
        """Count the pairs of one example, which is of this cluster, if there are any."""
        pairs = list(pairs)
        self.counts.update(pairs)
        if cluster is not None:
            self._clusters = max(self._clusters, cluster + 1)
            self._by_cluster.update((cluster, right, given) for right, given in pairs)

    def names(self, labels: Sequence[str]) -> list[str | None]:
        """Return the labels of a confusion matrix; None at the end where something has no label."""
        return [*labels, *([None] if any(None in pair for pair in self.counts) else [])]

    def matrix(self, labels: Sequence[str | None]) -> tuple[tuple[int, ...], ...]:
        """Return the confusion matrix: right labels by rows, given ones by columns."""
        return tuple(tuple(self.counts[right, given] for given in labels) for right in labels)

    def scores(self, labels: Sequence[str], *, clustered: bool = False) -> dict[str, LabelScores]:
        """Return precision, recall and F1 of each label, by clusters if `clustered`; none where nothing was counted."""
        of = self._clustered if clustered else self._counted
        return {label: of(label) for label in labels} if self.counts else {}

    def _counted(self, label: str) -> LabelScores:
        right = self.counts[label, label]
        given = sum(count for (_, answer), count in self.counts.items() if answer == label)
        support = sum(count for (reference, _), count in self.counts.items() if reference == label)
        return LabelScores(
            precision=proportion(right, given),
            recall=proportion(right, support),
            f1=f1_of_share(proportion(right, support + given - right), support),
        )

    def _clustered(self, label: str) -> LabelScores:
        right, given, support = np.zeros((3, self._clusters), dtype=np.int64)
        for (cluster, reference, answer), count in self._by_cluster.items():
            right[cluster] += count * (label == reference == answer)
            given[cluster] += count * (answer == label)
            support[cluster] += count * (reference == label)
        return LabelScores(
            precision=clustered_proportion(right, given),
            recall=clustered_proportion(right, support),
            f1=f1_of_share(clustered_proportion(right, support + given - right), int(support.sum())),
        )
