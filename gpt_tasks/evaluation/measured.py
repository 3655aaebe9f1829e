"""Evaluate answers whose figures follow from what each example brings to them, beside answers that cost little."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from gpt_tasks.errors import DataError
from gpt_tasks.evaluation.baselines import Baselines
from gpt_tasks.evaluation.evaluate import plain_texts
from gpt_tasks.evaluation.parts import Gathering, Parts, write_lines, write_parts
from gpt_tasks.evaluation.predictor import CHUNK, Predictor, chunks
from gpt_tasks.evaluation.report import AnswerKind, LabelScores, Report, Sample
from gpt_tasks.files import write_json
from gpt_tasks.metrics.intervals import label_f1, proportion
from gpt_tasks.tasks.answers import answer_as_json
from gpt_tasks.tasks.base import Task
from gpt_tasks.tasks.headed import Loss, MeasuredTask
from gpt_tasks.tasks.measures import Measure, Part
from gpt_tasks.tasks.multi_label import MultiLabelTask
from gpt_tasks.types import Example

MOST_SAMPLES = 10
Brought = Mapping[str, Part]
"""What an example brings to each measure, by its name."""
Given = TypeVar("Given")


class Answering(Protocol[Given]):
    """What can be evaluated: a model with its task, and what it answers."""

    @property
    def task(self) -> Task:
        """The task."""
        ...

    @property
    def kind(self) -> AnswerKind:
        """What the answers are."""
        ...

    @property
    def measures(self) -> Sequence[Measure]:
        """What is measured, in the order of the report."""
        ...

    def answers(self, examples: Sequence[Example]) -> Sequence[Given]:
        """Answer examples."""
        ...

    def parts(self, examples: Sequence[Example], answers: Sequence[Given]) -> Sequence[Brought]:
        """Return what examples bring to the measures, given their answers."""
        ...

    def cheap(self, examples: Sequence[Example]) -> Mapping[str, Sequence[Brought]]:
        """Return what answers that cost little would bring, by the names of their ways."""
        ...

    def line(self, example: Example, answer: Given) -> Mapping[str, Any]:
        """Return an example and its answer as JSON values."""
        ...

    def sample(self, example: Example, answer: Given) -> Sample:
        """Return an example and its answer to be shown."""
        ...

    def signed(self, references: Collection[int]) -> Sequence[str]:
        """Say how the figures were computed, given the numbers of right answers that examples have."""
        ...


def evaluate_measured(
    answering: Answering[Any],
    examples: Iterable[Example],
    *,
    split: str,
    training: Mapping[str, float | int | str | None] | None = None,
    notes: Sequence[str] = (),
    output: Path | None = None,
) -> Report:
    """Return the report, a chunk of examples at a time.

    With `output` write metrics.json, predictions.jsonl and parts.parquet there. Raises DataError where there is no
    example.
    """
    measures = list(answering.measures)
    where: list[str] = []
    found = Gathering(measures)
    cheap: dict[str, Gathering] = {}
    samples: list[Sample] = []
    references: set[int] = set()

    def lines() -> Iterator[Mapping[str, Any]]:
        for chunk in chunks(examples, CHUNK):
            answers = answering.answers(chunk)
            found.add(answering.parts(chunk, answers))
            for way, brought in answering.cheap(chunk).items():
                cheap.setdefault(way, Gathering(measures)).add(brought)
            for example, answer in zip(chunk, answers, strict=True):
                where.append(example.where)
                references.add(len(example.references))
                if len(samples) < MOST_SAMPLES:
                    samples.append(answering.sample(example, answer))
                yield {"where": example.where, **answering.line(example, answer)}

    write_lines(output, lines())
    if not where:
        raise DataError(f"The {split} split is empty", "Give rows to evaluate on.")
    parts = found.parts()
    labels = answering.task.labels if isinstance(answering.task, MultiLabelTask) else ()
    report = Report(
        task=answering.task.name,
        split=split,
        n=len(where),
        labels=labels,
        metrics=found.scores(),
        per_label=_per_label(labels, parts["macro_f1"]) if labels else {},
        confusion_matrix=(),
        baselines={way: theirs.scores() for way, theirs in cheap.items()},
        samples=tuple(samples),
        training=dict(training or {}),
        notes=(*notes, *answering.signed(references)),
        answers=answering.kind,
    )
    if output is not None:
        write_parts(output, where, parts)
        write_json(output / "metrics.json", report.to_json())
    return report


def _per_label(labels: Sequence[str], parts: Parts) -> dict[str, LabelScores]:
    """Return how well each label is told, by the counts that the macro F1 is made of."""
    counts = parts.values.sum(axis=0).astype(int).reshape(-1, 3)
    return {
        label: LabelScores(
            precision=proportion(right, right + surplus),
            recall=proportion(right, right + missing),
            f1=label_f1(np.array([[0, surplus], [missing, right]]), 1),
        )
        for label, (right, surplus, missing) in zip(labels, counts.tolist(), strict=True)
    }


@dataclass(frozen=True)
class HeadAnswers:
    """A model with a head, and the baselines that were fitted on the same rows, if words can be fitted."""

    predictor: Predictor[MeasuredTask]
    baselines: Baselines | None

    @property
    def task(self) -> MeasuredTask:
        """The task."""
        return self.predictor.task

    @property
    def kind(self) -> AnswerKind:
        """Several labels, a number, or one of the choices."""
        kinds: dict[Loss, AnswerKind] = {"binary": "labels", "squared": "number", "choice": "choice"}
        return kinds[self.task.loss]

    @property
    def measures(self) -> Sequence[Measure]:
        """The measures that the task names as its metrics."""
        return [measure for measure in self.task.measures if measure.name in self.task.metrics]

    def answers(self, examples: Sequence[Example]) -> Sequence[Any]:
        """Answer examples by what the head says of them."""
        return self.task.decode(self.predictor.logits(examples))

    def parts(self, examples: Sequence[Example], answers: Sequence[Any]) -> Sequence[Brought]:
        """Return what examples bring, given their answers."""
        return [self.task.measure(example, answer) for example, answer in zip(examples, answers, strict=True)]

    def cheap(self, examples: Sequence[Example]) -> Mapping[str, Sequence[Brought]]:
        """Return what the answers of the baselines, and those that need no training, bring."""
        fitted = {} if self.baselines is None else self.baselines.logits(plain_texts(examples))
        even = self.task.even()
        answers = {**{way: even.decode(logits) for way, logits in fitted.items()}, **self.task.naive(examples)}
        return {way: self.parts(examples, given) for way, given in answers.items()}

    def line(self, example: Example, answer: Any) -> Mapping[str, Any]:
        """Return the texts, the right answer, and the one given."""
        return {**self.task.record(example), "references": [example.target], **answer_as_json(answer)}

    def sample(self, example: Example, answer: Any) -> Sample:
        """Return the texts, the right answer, and the one given."""
        right, given = self.task.shown(example, answer)
        return Sample(example.where, dict(example.inputs), (right,), given)

    def signed(self, references: Collection[int]) -> Sequence[str]:
        """Nothing is left to be said."""
        return ()
