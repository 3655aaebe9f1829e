"""Evaluate a model on labelled examples: logits, metrics beside the baselines, and the files that show them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from scipy.special import softmax

from gpt_tasks.data.examples import Examples
from gpt_tasks.evaluation.baselines import Baselines
from gpt_tasks.evaluation.plots import plot_confusion_matrix
from gpt_tasks.evaluation.report import Report, build_report, write_predictions
from gpt_tasks.extensions import Metric
from gpt_tasks.files import write_json
from gpt_tasks.tasks.classification import ClassificationTask
from gpt_tasks.types import Example


class Answering(Protocol):
    """What can be evaluated: a task with its labels settled, and logits of examples for them."""

    @property
    def task(self) -> ClassificationTask:
        """The task."""
        ...

    def logits(self, examples: Examples, /) -> np.ndarray:
        """Return the logits `[n, labels]`, or log-likelihoods: what softmax turns into probabilities."""
        ...


def evaluate_examples(
    predictor: Answering,
    examples: Examples,
    *,
    split: str,
    metrics: Sequence[Metric],
    baselines: Baselines | None,
    by: str | None = None,
    training: Mapping[str, float | int | str | None] | None = None,
    notes: Sequence[str] = (),
    output: Path | None = None,
) -> Report:
    """Return the report; with `output` write metrics.json, predictions.jsonl and the confusion matrix there too.

    `examples` are labelled in the model's order of labels; `by` names one of their extra columns.
    """
    probabilities = softmax(predictor.logits(examples).astype("float64"), axis=-1)
    report = build_report(
        task=predictor.task.name,
        split=split,
        labels=predictor.task.labels,
        metrics=metrics,
        references=examples.labels,
        probabilities=probabilities,
        examples=examples,
        baselines=None if baselines is None else baselines.probabilities(plain_texts(examples)),
        by=by,
        values=None if by is None else [example.extra[by] for example in examples],
        training=training,
        notes=notes,
    )
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        write_predictions(output / "predictions.jsonl", examples, report.labels, probabilities)
        plot_confusion_matrix(report, output / "confusion_matrix.png")
        write_json(output / "metrics.json", report.to_json())
    return report


def plain_texts(examples: Iterable[Example]) -> Iterator[str]:
    """Yield what a baseline reads of each example: its texts, one below the other."""
    for example in examples:
        yield "\n".join(example.inputs.values())
