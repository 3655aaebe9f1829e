"""Scores of many labels are read from their counts in one pass."""

from collections import Counter
from collections.abc import ItemsView
from typing import Any

import numpy as np
import pytest

from gpt_tasks.evaluation.label_scores import LabelCounts


class Watched(Counter[Any]):
    """Counts that count how often all of them are read."""

    passes = 0

    def items(self) -> ItemsView[Any, int]:
        self.passes += 1
        return super().items()


@pytest.mark.parametrize("clustered", [False, True])
def test_the_counts_of_a_thousand_labels_are_read_once(clustered: bool) -> None:
    random = np.random.default_rng(0)
    labels = [f"label{number}" for number in range(1000)]
    references, answers = random.integers(0, 1000, 3000), random.integers(0, 3, 3000)
    found = LabelCounts()
    found.counts, found._by_cluster = Watched(), Watched()
    for place, (right, given) in enumerate(zip(references, answers, strict=True)):
        found.add([(labels[right], labels[given])], place % 100)
    scores = found.scores(labels, clustered=clustered)
    assert found.counts.passes + found._by_cluster.passes == 1
    of = scores["label1"]
    hits = ((references == 1) & (answers == 1)).sum()
    assert (of.precision.n, of.recall.n) == ((answers == 1).sum(), (references == 1).sum())
    assert of.precision.value == pytest.approx(hits / (answers == 1).sum())
