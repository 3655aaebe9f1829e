"""A trial on a few rows (`--limit`): how much of a source is read for it, and how many rows of a split it takes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from gpt_tasks.tasks.base import Task
from gpt_tasks.types import Example

LEAST_READ = 20_000
READ_FOR_ONE = 20
"""So many rows are read for each that is drawn, and `LEAST_READ` at least."""
# Rows whose labels are mixed look more sorted than this one time in a thousand.
SORTED = 0.001


class Reading:
    """The first examples of a split: no more than a trial needs. `stopped` is whether there were others.

    The rows must look like all of them: where labels keep their shares, reading continues until each of the task's
    labels was met and the first half of the rows has the labels of the second. Where only the data know the labels, it
    continues to the end, unless these rows are the `only` ones: other splits could hold labels that would be missed.
    """

    def __init__(self, examples: Iterable[Example], task: Task, limit: int | None, *, only: bool = False) -> None:
        self._examples = examples
        self._task = task
        self._only = only
        self._enough = None if limit is None else max(LEAST_READ, READ_FOR_ONE * limit)
        self.stopped = False

    def __iter__(self) -> Iterator[Example]:
        targets: list[str | None] = []
        for example in self._examples:
            if self._enough is not None and len(targets) == self._enough:
                self.stopped = self._is_mixed(targets)
                if self.stopped:
                    return
                self._enough *= 2
            if self._enough is not None:
                targets.append(example.target if self._task.is_stratified else None)
            yield example

    def _is_mixed(self, targets: Sequence[str | None]) -> bool:
        if not self._task.is_stratified:
            return True
        half = len(targets) // 2
        counts = [Counter(map(str, part)) for part in (targets[:half], targets[half:])]
        kinds = sorted(set().union(*counts))
        known = (
            len(kinds) >= len(self._task.labels) if self._task.labels else self._only and len(counts[0]) == len(kinds)
        )
        if len(kinds) < 2 or not known:
            return False
        from scipy.stats import chi2_contingency

        table = [[count[kind] for kind in kinds] for count in counts]
        return bool(chi2_contingency(table).pvalue > SORTED)


def in_proportion(rows: int, share: float, kinds: int) -> int:
    """Return how many of a split's rows a trial takes: the share that it takes of train, and one of each label."""
    return min(rows, max(math.ceil(rows * share), kinds))
