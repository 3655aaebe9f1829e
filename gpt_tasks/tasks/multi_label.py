"""Classification of a text, or of a pair of texts, by all labels that are right: none, one or several."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import Field

from gpt_tasks.errors import DataError
from gpt_tasks.tasks.answers import answer_as_text
from gpt_tasks.tasks.base import TaskOptions
from gpt_tasks.tasks.classification import ClassificationOptions, by_value, label_text
from gpt_tasks.tasks.headed import Loss, MeasuredTask
from gpt_tasks.tasks.measures import Measure, Part
from gpt_tasks.types import Example, MultiLabelPrediction, Row

if TYPE_CHECKING:
    import numpy

LABELS = "labels"
EVEN = 0.5


class MultiLabelOptions(ClassificationOptions):
    """The options of every task of several labels."""

    threshold: float | None = Field(
        None, gt=0, lt=1, description="The probability from which a label is given. Default: chosen on validation."
    )


class MultiLabelTask(MeasuredTask):
    """All labels that are right for a text or a pair of texts, each decided for itself.

    A row's `labels` are a list of texts, which may be empty, or one text in which `|` parts them. `labels` of the task
    are the declared ones, in the model's order; left empty, the training data's own are taken, sorted. A label is given
    from `threshold` on, which is chosen on validation where it is not set: the one of the best micro F1.
    """

    columns: ClassVar[Mapping[str, str]] = {"text": "text", LABELS: LABELS}
    target: ClassVar[str] = LABELS
    loss: ClassVar[Loss] = "binary"
    labels: tuple[str, ...] = ()
    threshold: float | None = None
    metrics: ClassVar[Sequence[str]] = ("micro_f1", "macro_f1", "samples_f1", "lrap")
    measures: ClassVar[Sequence[Measure]] = (
        Measure("micro_f1", form="micro_f1", highest=1.0),
        Measure("macro_f1", form="macro_f1", highest=1.0),
        Measure("samples_f1", highest=1.0),
        Measure("lrap", highest=1.0),
    )
    best_by: ClassVar[str] = "micro_f1"
    Options: ClassVar[type[TaskOptions]] = MultiLabelOptions

    @property
    def outputs(self) -> int:
        """One logit for each label."""
        return len(self.labels)

    def hides(self, value: object) -> bool:
        """Nothing written is an answer: no label is right."""
        return value is None

    def read_target(self, row: Row, column: str) -> str:
        """Return the labels, sorted, as a JSON list."""
        value: Any = row.values.get(column)
        if isinstance(value, str):
            value = [part for part in value.split("|") if part.strip()]
        if not isinstance(value, list | tuple):
            raise DataError(
                f"{row.where}: the labels (column '{column}') are {value!r}",
                "Give a list of labels, which may be empty, or one text with | between them.",
            )
        return json.dumps(sorted({label_text(label, row.where, column) for label in value}), ensure_ascii=False)

    def fitted(self, observed: Mapping[str, int], inputs: Sequence[str], where: str) -> tuple[Self, dict[str, str]]:
        """Settle the labels: the declared ones, or those that the training data holds, sorted."""
        task = copy.copy(self)
        task.inputs = tuple(inputs)
        seen = {label for target in observed for label in json.loads(target)}
        if not seen:
            raise DataError(f"{where}: no row has any label", "There must be something to learn.")
        if not task.labels:
            task.labels = tuple(sorted(seen, key=by_value))
        return task, {}

    def canonical(self, target: str, where: str) -> str:
        """Return the labels themselves. Raises DataError for one that the model does not know."""
        for label in json.loads(target):
            if label not in self.labels:
                near = get_close_matches(label, self.labels, n=1)
                raise DataError(
                    f"{where}: label '{label}' is not one of {', '.join(self.labels)}",
                    f"Did you mean '{near[0]}'?" if near else "Fix the row, or declare it with --labels.",
                )
        return target

    def goals(self, targets: Sequence[str]) -> numpy.ndarray:
        """Return 1 for each label that is right, else 0: `[n, labels]`."""
        import numpy

        found = numpy.zeros((len(targets), len(self.labels)), dtype=numpy.float32)
        for row, target in enumerate(targets):
            found[row, [self.labels.index(label) for label in json.loads(target)]] = 1
        return found

    def tuned(self, logits: numpy.ndarray, goals: numpy.ndarray) -> Self:
        """Return this task with the threshold of the best micro F1 on these examples, unless one was set."""
        from scipy.special import expit

        if self.threshold is not None:
            return self
        task = copy.copy(self)
        task.threshold = float(expit(best_cut(logits, goals)))
        return task

    def decode(self, logits: numpy.ndarray) -> list[MultiLabelPrediction]:
        """Turn logits `[n, labels]` into labels and probabilities."""
        from scipy.special import expit

        threshold = EVEN if self.threshold is None else self.threshold
        return [
            MultiLabelPrediction(
                tuple(label for label, p in zip(self.labels, row, strict=True) if p >= threshold),
                dict(zip(self.labels, row, strict=True)),
            )
            for row in expit(logits.astype("float64")).tolist()
        ]

    def measure(self, example: Example, answer: MultiLabelPrediction) -> Mapping[str, Part]:
        """Compare the labels given with the right ones.

        `lrap` is label ranking average precision: over the right labels, the mean share of right ones among those that
        are at least as probable (Schapire and Singer 2000); 1 where no label is right, or every one.
        """
        right, given = set(json.loads(str(example.target))), set(answer.labels)
        each = [
            (float(label in right & given), float(label in given - right), float(label in right - given))
            for label in self.labels
        ]
        counts = tuple(map(sum, zip(*each, strict=True)))
        probable = answer.probabilities
        ranks = [
            sum(probable[other] >= probable[label] for other in right)
            / sum(p >= probable[label] for p in probable.values())
            for label in right
        ]
        whole = len(right) in (0, len(self.labels))
        return {
            "micro_f1": Part(counts),
            "macro_f1": Part(tuple(number for three in each for number in three)),
            "samples_f1": Part(2 * counts[0] / (len(right) + len(given)) if right or given else 1.0),
            "lrap": Part(1.0 if whole else sum(ranks) / len(ranks)),
        }

    def even(self) -> Self:
        """Return this task with a threshold of one half, for logits that already stand around their best cut."""
        task = copy.copy(self)
        task.threshold = EVEN
        return task

    def shown(self, example: Example, answer: MultiLabelPrediction) -> tuple[str, str]:
        """Return the right labels and those given, each as one text."""
        return ", ".join(json.loads(str(example.target))) or "-", answer_as_text(answer)

    def state(self) -> dict[str, Any]:
        """Keep the labels in the model's order, and the threshold."""
        return {"labels": list(self.labels), "threshold": self.threshold, **super().state()}


def best_cut(logits: numpy.ndarray, goals: numpy.ndarray) -> float:
    """Return the logit from which giving labels has the best micro F1; logits and goals are `[n, labels]`."""
    import numpy

    values = logits.astype("float64").ravel()
    order = numpy.argsort(-values, kind="stable")
    given, right = numpy.arange(1, len(order) + 1), numpy.cumsum(goals.ravel()[order])
    f1 = 2 * right / (given + goals.sum())
    # Labels of one probability are given together or not at all.
    last = numpy.append(numpy.diff(values[order]) != 0, True)
    best = int(numpy.argmax(numpy.where(last, f1, -1.0)))
    at = float(values[order][best])
    return (at + float(values[order][best + 1])) / 2 if best + 1 < len(order) else at - 1.0
