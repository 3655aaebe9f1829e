"""Precision, recall and F1 of each label, with intervals, and the confusion matrix."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

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
        if not self.counts:
            return {}
        if not clustered:
            return self._counted(labels)
        return {label: _of_clusters(*columns) for label, columns in self._by_label(labels)}

    def _counted(self, labels: Sequence[str]) -> dict[str, LabelScores]:
        support: Counter[str | None] = Counter()
        given: Counter[str | None] = Counter()
        for (reference, answer), count in self.counts.items():
            support[reference] += count
            given[answer] += count
        found = {}
        for label in labels:
            right = self.counts[label, label]
            found[label] = LabelScores(
                precision=proportion(right, given[label]),
                recall=proportion(right, support[label]),
                f1=f1_of_share(proportion(right, support[label] + given[label] - right), support[label]),
            )
        return found

    def _by_label(self, labels: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
        """Yield of each label how often it was right, given and to be given in each cluster, `[3, clusters]`."""
        entries: dict[str, list[tuple[int, int, int]]] = {label: [] for label in labels}
        for (cluster, reference, answer), count in self._by_cluster.items():
            if reference in entries:
                entries[reference].append((2, cluster, count))
            if answer in entries:
                entries[answer].append((1, cluster, count))
                if reference == answer:
                    entries[answer].append((0, cluster, count))
        for label, each in entries.items():
            rows, clusters, counts = np.array(each, dtype=np.int64).reshape(-1, 3).T
            columns = np.zeros((3, self._clusters), dtype=np.int64)
            np.add.at(columns, (rows, clusters), counts)
            yield label, columns


def _of_clusters(right: np.ndarray, given: np.ndarray, support: np.ndarray) -> LabelScores:
    return LabelScores(
        precision=clustered_proportion(right, given),
        recall=clustered_proportion(right, support),
        f1=f1_of_share(clustered_proportion(right, support + given - right), int(support.sum())),
    )
