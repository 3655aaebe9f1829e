"""Regression: a number for a text, or for a pair of texts."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

from gpt_tasks.errors import DataError
from gpt_tasks.tasks.headed import Loss, MeasuredTask
from gpt_tasks.tasks.measures import Measure, Part
from gpt_tasks.types import Example, Row

if TYPE_CHECKING:
    import numpy

SCORE = "score"


class RegressionTask(MeasuredTask):
    """A number for a text or a pair of texts.

    The head learns it as a deviation from the training data's mean (`centre`), in their standard deviations (`spread`),
    by its squared error.
    """

    columns: ClassVar[Mapping[str, str]] = {"text": "text", SCORE: SCORE}
    target: ClassVar[str] = SCORE
    loss: ClassVar[Loss] = "squared"
    centre: float = 0.0
    spread: float = 1.0
    metrics: ClassVar[Sequence[str]] = ("pearson", "spearman", "rmse")
    measures: ClassVar[Sequence[Measure]] = (
        Measure("pearson", form="correlation"),
        Measure("spearman", form="correlation", ranks=True),
        Measure("rmse", "lower", "root"),
    )
    best_by: ClassVar[str] = "pearson"

    @property
    def outputs(self) -> int:
        """One number."""
        return 1

    def read_target(self, row: Row, column: str) -> str:
        """Return the number as a text."""
        value: Any = row.values.get(column)
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise DataError(
                f"{row.where}: the {self.target} (column '{column}') is {str(value)[:60]!r}, which is no number",
                "Give every row a number, or leave the row out.",
            )
        return repr(number)

    def fitted(self, observed: Mapping[str, int], inputs: Sequence[str], where: str) -> tuple[Self, dict[str, str]]:
        """Settle mean and standard deviation of the training data."""
        task = copy.copy(self)
        task.inputs = tuple(inputs)
        total = sum(observed.values())
        task.centre = math.fsum(float(number) * count for number, count in observed.items()) / total
        squares = math.fsum((float(number) - task.centre) ** 2 * count for number, count in observed.items())
        task.spread = math.sqrt(squares / total)
        if not task.spread:
            raise DataError(
                f"{where}: every row has the {self.target} {task.centre:g}", "There must be something to learn."
            )
        return task, {}

    def canonical(self, target: str, where: str) -> str:
        """Return the number itself: any can be said."""
        return target

    def goals(self, targets: Sequence[str]) -> numpy.ndarray:
        """Return the deviations from the mean, in standard deviations, `[n]`."""
        import numpy

        numbers = numpy.array([float(target) for target in targets])
        return ((numbers - self.centre) / self.spread).astype(numpy.float32)

    def decode(self, logits: numpy.ndarray) -> list[float]:
        """Turn logits `[n, 1]` into numbers."""
        numbers: list[float] = (logits[:, 0].astype("float64") * self.spread + self.centre).tolist()
        return numbers

    def measure(self, example: Example, answer: float) -> Mapping[str, Part]:
        """Compare the number with the right one."""
        right = float(str(example.target))
        return {
            "pearson": Part((right, answer)),
            "spearman": Part((right, answer)),
            "rmse": Part((answer - right) ** 2),
        }

    def state(self) -> dict[str, Any]:
        """Keep the mean and the standard deviation."""
        return {"centre": self.centre, "spread": self.spread, **super().state()}
