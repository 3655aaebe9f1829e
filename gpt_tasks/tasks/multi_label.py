"""Classification of a text, or of a pair of texts, by all labels that are right: none, one or several."""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import Any, ClassVar, Self

from pydantic import Field

from gpt_tasks.errors import DataError
from gpt_tasks.extensions import Metric
from gpt_tasks.shown import quoted
from gpt_tasks.tasks.base import TrainingExamples
from gpt_tasks.tasks.card import Display, TaskCard
from gpt_tasks.tasks.classification import ClassificationOptions
from gpt_tasks.tasks.fixtures import SENTENCES, Fixtures
from gpt_tasks.tasks.headed import HeadTask
from gpt_tasks.tasks.labels import by_value, known_label, label_text, most_frequent_spellings, refuse_two_readings
from gpt_tasks.tasks.options import READING, TaskOptions, option_advice
from gpt_tasks.tasks.probabilities import labels_to_json, most_probable
from gpt_tasks.tasks.prompts import prompt_fields
from gpt_tasks.tasks.reading import from_cell
from gpt_tasks.types import Example, MultiLabelPrediction, Row, Statistic

LABELS = "labels"
DEFAULT_THRESHOLD = 0.5
DEFAULT_SEPARATOR = "|"
_OTHER_SEPARATORS = (";", ",", "/", "#", "\t")


class MultiLabelOptions(ClassificationOptions):
    """The options of every task of several labels."""

    threshold: float | None = Field(
        None, gt=0, lt=1, description="The probability from which a label is given. Default: chosen on validation."
    )
    separator: str | None = Field(
        None, min_length=1, description="What separates the labels in a text. Default: |.", json_schema_extra=READING
    )


class MultiLabelTask(HeadTask):
    """All labels that are right for a text or a pair of texts, each decided independently.

    A row's `labels` are a list of texts, which may be empty, or one text in which `separator` (`|`) separates them, or
    which is a list as JSON or Python writes it. `labels` of the task are the declared ones, in the model's order; left
    empty, the training data's own are taken, sorted. A label is given from `threshold` on, which is chosen on
    validation where it is not set: the one of the best micro F1.
    """

    columns: ClassVar[Mapping[str, str]] = {"text": "text", LABELS: LABELS}
    target: ClassVar[str] = LABELS
    labels: tuple[str, ...] = ()
    threshold: float | None = None
    separator: str | None = None
    metrics: Sequence[str] = ("micro_f1", "macro_f1", "samples_f1", "lrap")
    own_metrics: Sequence[Metric] = (
        Metric("micro_f1", "F1 over all decisions together.", range=(0.0, 1.0), aggregate="micro_f1"),
        Metric("macro_f1", "Mean of the labels' F1.", range=(0.0, 1.0), aggregate="macro_f1"),
        Metric("samples_f1", "Mean of the examples' F1.", range=(0.0, 1.0)),
        Metric("lrap", "Label ranking average precision.", range=(0.0, 1.0)),
    )
    best_metric: str = "micro_f1"
    learner: ClassVar[str | None] = "multi-label"
    Options: ClassVar[type[TaskOptions]] = MultiLabelOptions

    def is_unlabelled(self, value: object) -> bool:
        """Nothing written is an answer: no label is right."""
        return value is None

    def read_target(self, row: Row, column: str) -> str:
        """Return the labels, sorted, as a JSON list."""
        value: Any = from_cell(row.values.get(column))
        if isinstance(value, str) and not value.strip().startswith("["):
            value = [part for part in value.split(self.separator or DEFAULT_SEPARATOR) if part.strip()]
        if not isinstance(value, list | tuple):
            raise DataError(
                f"{row.where}: the labels (column '{column}') are {repr(value)[:60]}",
                "Give a list of labels, which may be empty, or one text with | between them, or another separator: "
                f"{option_advice('separator', 'TEXT')}.",
            )
        return _as_target(label_text(label, row.where, column) for label in value)

    def fit(self, train: TrainingExamples, where: str) -> Self:
        """Take the labels: the declared ones, or those that the training data hold, sorted."""
        task = super().fit(train, where)
        counts: Counter[str] = Counter()
        for target, count in train.observed.items():
            counts.update(dict.fromkeys(self.labels_of(target), count))
        seen = set(most_frequent_spellings(counts, task.labels).values() if self.normalize_labels else counts)
        if not seen:
            raise DataError(f"{where}: no row has any label", "There must be something to learn.")
        if self.separator is None and not seen <= set(task.labels):
            _refuse_lists(train.observed, where)
        if not task.labels:
            refuse_two_readings(seen, where)
            task.labels = tuple(sorted(seen, key=by_value))
        return task

    def labels_of(self, target: str) -> tuple[str, ...]:
        """Return the labels."""
        return tuple(json.loads(target))

    def normalize_label(self, target: str, where: str) -> str:
        """Return the labels as the model knows them. Raises DataError for one that the model does not know."""
        found = []
        for label in json.loads(target):
            known = known_label(label, self.labels, normalized=self.normalize_labels)
            if known is None:
                near = get_close_matches(label, self.labels, n=1)
                raise DataError(
                    f"{where}: label '{label}' is not one of {', '.join(self.labels)}",
                    f"Did you mean '{near[0]}'?" if near else "Fix the row, or train with this label among --labels.",
                )
            found.append(known)
        return _as_target(found)

    def references(self, example: Example) -> Sequence[list[str]]:
        """Return the right labels, as one answer."""
        return (json.loads(str(example.target)),)

    def line(self, example: Example, prediction: MultiLabelPrediction) -> Mapping[str, Any]:
        """Return the texts, the right labels as JSON, those given, and the 100 highest probabilities."""
        said = most_probable(self.to_json(prediction))
        return {**self.record(example), "references": [example.target], **said}

    def plain(self, prediction: MultiLabelPrediction) -> list[str]:
        """Return the labels."""
        return list(prediction.labels)

    def score(self, example: Example, prediction: MultiLabelPrediction) -> Mapping[str, Statistic]:
        """Compare the labels given with the right ones.

        `lrap` is label ranking average precision: over the right labels, the mean share of right ones among those that
        are at least as probable (Schapire and Singer 2000); 1 where no label is right, or every one.
        """
        right, given = set(json.loads(str(example.target))), set(prediction.labels)
        each = [
            (float(label in right & given), float(label in given - right), float(label in right - given))
            for label in self.labels
        ]
        counts = tuple(map(sum, zip(*each, strict=True)))
        probable = prediction.probabilities
        ranks = [
            sum(probable[other] >= probable[label] for other in right)
            / sum(p >= probable[label] for p in probable.values())
            for label in right
        ]
        whole = len(right) in (0, len(self.labels))
        return {
            "micro_f1": Statistic(counts),
            "macro_f1": Statistic(tuple(number for three in each for number in three)),
            "samples_f1": Statistic(2 * counts[0] / (len(right) + len(given)) if right or given else 1.0),
            "lrap": Statistic(1.0 if whole else sum(ranks) / len(ranks)),
        }

    def decisions(self, example: Example, prediction: MultiLabelPrediction) -> Iterable[tuple[str | None, str | None]]:
        """Return each label that is right or given."""
        right, given = set(json.loads(str(example.target))), set(prediction.labels)
        for label in right | given:
            yield (label if label in right else None), (label if label in given else None)

    def confidence(self, prediction: MultiLabelPrediction) -> float | None:
        """Return the smallest of the probabilities of the decisions: of a label that is not given, 1 less its own."""
        return min(p if label in prediction.labels else 1 - p for label, p in prediction.probabilities.items())

    def to_json(self, prediction: MultiLabelPrediction) -> dict[str, Any]:
        """Return the labels and the probability of every one."""
        return labels_to_json(list(prediction.labels), prediction.probabilities)

    def pipeline_output(self, example: Example, prediction: MultiLabelPrediction) -> Any:
        """Return a mapping for each of the labels that are given."""
        return [{"label": label, "score": prediction.probabilities[label]} for label in prediction.labels]

    def to_text(self, prediction: MultiLabelPrediction) -> str:
        """Return the labels; a dash where there is none."""
        return ", ".join(prediction.labels) or "-"

    def display(self, example: Example, prediction: MultiLabelPrediction) -> Display:
        """Return the texts, the right labels and those given, each as one text."""
        right = ", ".join(json.loads(str(example.target))) or "-"
        return dict(example.inputs), (right,), self.to_text(prediction)

    def with_default_threshold(self) -> Self:
        """Return this task with a threshold of one half, for logits that were shifted to their best cut."""
        task = copy.copy(self)
        task.threshold = DEFAULT_THRESHOLD
        return task

    def card(self) -> TaskCard:
        """Return what a model card says of several labels."""
        return TaskCard(
            answers="labels",
            does=f"answers {{task}} with those that are right of {len(self.labels)} labels",
            limits=(
                f"It knows {len(self.labels)} labels and decides on each independently, with one threshold for all.",
            ),
            baselines="The baselines were trained on the same rows: one goes by how frequent the labels are, the other "
            "is a logistic regression on TF-IDF for each of them. ",
            saved="the head (`head.safetensors`) and the task with its labels",
        )

    def fixtures(self) -> Fixtures:
        """The right labels, and rows of made-up texts."""

        def gold(example: Example) -> MultiLabelPrediction:
            right = json.loads(str(example.target))
            return MultiLabelPrediction(tuple(right), {label: float(label in right) for label in self.labels})

        def row(number: int) -> Mapping[str, Any]:
            texts = dict.fromkeys(prompt_fields(self.prompt), SENTENCES[number % len(SENTENCES)][0])
            labels = self.labels or ("first", "second")
            values = {**texts, self.target: [labels[number % 4 % len(labels)]]}
            return {self.columns.get(field, field): value for field, value in values.items()}

        def target_labels(row: Row) -> set[str]:
            return set(json.loads(self.read_target(row, self.target_column({}))))

        return replace(super().fixtures(), gold=gold, row=row, target_labels=target_labels)


def _as_target(labels: Iterable[str]) -> str:
    return json.dumps(sorted(set(labels)), ensure_ascii=False)


def _refuse_lists(observed: Mapping[str, int], where: str) -> None:
    """Raise DataError where labels look like lists of each other, by another separator: that is not guessed.

    They do where the parts of one are, all of them, labels by themselves or parts of others.
    """
    labels = {label for target in observed for label in json.loads(target)}
    for separator in _OTHER_SEPARATORS:
        parted = {label: [part.strip() for part in label.split(separator)] for label in labels}
        counts = Counter(part for parts in parted.values() for part in set(parts))
        for label, parts in sorted(parted.items()):
            if len(parts) > 1 and all(part and counts[part] > 1 for part in parts):
                raise DataError(
                    f"{where}: the label {label[:60]!r} looks like a list of labels, with {separator!r} between them",
                    f"If it is, give {option_advice('separator', quoted(separator))}; if it is one label, "
                    f"the same with {quoted(DEFAULT_SEPARATOR)}.",
                )
