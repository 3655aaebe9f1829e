"""Evaluate predictions of any task: figures with intervals, baselines, and the files that show them."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from gpt_tasks.data.examples import chunks, text_length
from gpt_tasks.data.oddities import untested_labels, very_long
from gpt_tasks.errors import DataError
from gpt_tasks.evaluation.label_scores import LabelCounts
from gpt_tasks.evaluation.plots import plot_confusion_matrix
from gpt_tasks.evaluation.private import private_views
from gpt_tasks.evaluation.report import (
    MOST_MISTAKES,
    MOST_SAMPLES,
    MOST_SLICES,
    Mistake,
    Report,
    Sample,
    Slices,
)
from gpt_tasks.evaluation.statistics import Tally, write_lines, write_statistics
from gpt_tasks.evaluation.tables import examples as examples_in_words
from gpt_tasks.evaluation.verdict import verdict
from gpt_tasks.extensions import Metric
from gpt_tasks.files import write_json
from gpt_tasks.metrics.aggregate import signatures_of
from gpt_tasks.metrics.clusters import Clustering
from gpt_tasks.progress import counting, progress
from gpt_tasks.shown import tell
from gpt_tasks.tasks.base import Task
from gpt_tasks.tasks.card import Display
from gpt_tasks.types import Example, Score

FEW_EXAMPLES = 20
"""With fewer than this the interval of a share of one half is wider than 0.4."""
BEFORE = "before"
"""The baseline that is the backbone before it was trained."""


class Predictor(Protocol):
    """What can be evaluated: a fine-tuned model, or one that is prompted without training."""

    @property
    def task(self) -> Task:
        """The task, fitted."""
        ...

    @property
    def chunk(self) -> int:
        """How many examples are answered at a time."""
        ...

    def predict(self, examples: Sequence[Example], *, scored: bool = False) -> Sequence[Any]:
        """Answer examples; with `scored`, predictions hold all that metrics read."""
        ...

    def baselines(self, examples: Sequence[Example]) -> Mapping[str, Sequence[Any]]:
        """Return the baselines' predictions, by baseline."""
        ...

    def notes(self) -> Sequence[str]:
        """Return what users should know of the figures."""
        ...


def evaluate(
    predictor: Predictor,
    examples: Iterable[Example],
    *,
    split: str,
    metrics: Sequence[Metric],
    by: str | None = None,
    cluster: str | None = None,
    training: Mapping[str, float | int | str | None] | None = None,
    asked: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
    output: Path | None = None,
    private: bool = False,
    show_progress: bool = False,
) -> Report:
    """Return the report, computed a chunk of examples at a time. `asked` says how a model was prompted.

    `by` names one of the examples' extra columns, whose most frequent values are also evaluated separately. `cluster`
    names an extra column, or a field, whose equal values belong together: errors and intervals go by it (Miller 2024,
    arXiv 2411.00640, section 2.2). By default it is the task's own, if it has one. With
    `output` metrics.json, predictions.jsonl and parts.parquet are written there, and the confusion matrix where the
    task has one; `private`, they and the report hold no text of the examples. Raises DataError where there is no
    example, PluginError where a metric fails. `show_progress` says on stderr how many examples are answered.
    """
    task = predictor.task
    tally = Tally(task, metrics)
    baselines: dict[str, Tally] = {}
    clustering = Clustering(cluster or task.cluster or None, asked=cluster is not None)
    decisions = LabelCounts()
    mistakes: list[tuple[float, int, Mistake]] = []
    samples: list[Sample] = []
    where: list[str] = []
    slices: list[str] = []
    references: set[int] = set()
    fields: dict[str, None] = {}
    display, line = private_views(task) if private else (task.display, task.line)

    def lines(step: Callable[[], None]) -> Iterator[Mapping[str, Any]]:
        for chunk in chunks(examples, predictor.chunk, text_length):
            predictions = _predicted(predictor, chunk, step)
            tally.add(chunk, predictions)
            for name, others in predictor.baselines(chunk).items():
                baselines.setdefault(name, Tally(task, metrics)).add(chunk, others)
            for example, prediction in zip(chunk, predictions, strict=True):
                pairs = list(task.decisions(example, prediction))
                decisions.add(pairs, clustering.add(example))
                probability = task.probability(prediction)
                if probability is None:
                    shown = display(example, prediction) if len(samples) < MOST_SAMPLES else None
                    if shown is not None:
                        samples.append(Sample(example.where, *shown))
                elif any(right != given for right, given in pairs):
                    _keep_worst(mistakes, display, example, prediction, probability, len(where))
                references.add(len(example.references))
                fields.update(dict.fromkeys(task.record(example)))
                where.append(f"{split}:{len(where) + 1}" if private else example.where)
                if by is not None:
                    slices.append(example.extra[by])
                yield {"where": where[-1], **line(example, prediction)}

    with progress("examples", len(examples) if isinstance(examples, Sized) else None, show=show_progress) as step:
        write_lines(output, lines(step))
    if not where:
        raise DataError(f"The {split} split is empty", "Give rows to evaluate on.")
    clusters = clustering.numbers
    sliced, more = (None, []) if by is None else _slices(by, slices, tally, clusters)
    figures = tally.scores(clusters=clusters)
    compared = {name: theirs.scores(clusters=clusters) for name, theirs in baselines.items()}
    signatures, worse = _signatures(metrics, references), _worse_than_before(metrics, figures, compared)
    per_label = decisions.scores(task.labels, clustered=clusters is not None)
    more += [*_few_examples(len(where)), *_of_intervals(figures, clustering)]
    more += untested_labels(per_label, [label for label, scores in per_label.items() if scores.recall.n], split)
    report = Report(
        task=task.name,
        split=split,
        n=len(where),
        labels=tuple(task.labels),
        metrics=figures,
        per_label=per_label,
        confusion_matrix=decisions.matrix(decisions.names(task.labels)) if task.has_confusion_matrix else (),
        baselines=compared,
        slices=sliced,
        mistakes=tuple(mistake for _, _, mistake in sorted(mistakes, key=lambda each: (-each[0], -each[1]))),
        samples=tuple(samples),
        training=dict(training or {}),
        # What was said of the data before a training may be said of the figures, too.
        notes=tuple(dict.fromkeys((*notes, *predictor.notes(), *more, *signatures, *worse))),
        answers=task.card().answers,
        directions={metric.name: metric.better for metric in metrics},
        fields=tuple(fields),
        cluster=clustering.cluster or "",
        asked=dict(asked or {}),
        verdict=verdict(tally, figures, baselines, compared, clusters, training or {}),
    )
    if output is not None:
        write_statistics(output, where, tally.statistics(), clusters)
        if report.confusion_matrix:
            plot_confusion_matrix(report, output / "confusion_matrix.png")
        write_json(output / "metrics.json", report.to_json())
    return report


def _predicted(predictor: Predictor, chunk: Sequence[Example], step: Callable[[], None]) -> Sequence[Any]:
    """Return predictions for a metric's use, and say of each example that it is answered, once."""
    done = 0
    for note in very_long(chunk):
        tell(note)

    def count(number: int) -> None:
        nonlocal done
        # An example may be computed in parts, and twice.
        for _ in range(min(number, len(chunk) - done)):
            done += 1
            step()

    with counting(count):
        predictions = predictor.predict(chunk, scored=True)
    count(len(chunk))
    return predictions


def _keep_worst(
    mistakes: list[tuple[float, int, Mistake]],
    display: Callable[[Example, Any], Display | None],
    example: Example,
    prediction: Any,
    probability: float,
    place: int,
) -> None:
    """Keep the mistakes of the highest probability; of equal ones, those of earlier examples."""
    if len(mistakes) == MOST_MISTAKES and (probability, -place) < mistakes[0][:2]:
        return
    shown = display(example, prediction)
    if shown is None:
        return
    inputs, right, given = shown
    mistake = Mistake(example.where, dict(inputs), right[0], given, probability)
    keep = heapq.heappush if len(mistakes) < MOST_MISTAKES else heapq.heapreplace
    keep(mistakes, (probability, -place, mistake))


def _slices(by: str, values: Sequence[str], tally: Tally, clusters: np.ndarray | None) -> tuple[Slices, list[str]]:
    """Return the figures of each value of a column, the most frequent first, and a note where some are left out."""
    frequent = sorted(Counter(values).items(), key=lambda item: (-item[1], item[0]))
    column = np.asarray(values, dtype=object)
    notes = []
    if len(frequent) > MOST_SLICES:
        notes.append(f"Column '{by}' has {len(frequent)} values; the {MOST_SLICES} most frequent are shown.")
    shown = [value for value, _ in frequent[:MOST_SLICES]]
    found = {value: tally.scores(np.flatnonzero(column == value), clusters=clusters) for value in shown}
    return Slices(by, found), notes


def _signatures(metrics: Sequence[Metric], references: set[int]) -> list[str]:
    """Return how metrics are computed, a note for all of those that are computed alike."""
    signed: dict[str, list[str]] = {}
    for name, signature in signatures_of(metrics, references).items():
        signed.setdefault(signature, []).append(name)
    return [f"{', '.join(names)}: {signature}" for signature, names in signed.items()]


def _few_examples(n: int) -> list[str]:
    """Say that a split is too small to judge a model by."""
    if n >= FEW_EXAMPLES:
        return []
    said = f"{examples_in_words(n)}: too few to judge a model by, as the intervals show."
    return [f"{said} Give more rows, or a larger test file."]


def _of_intervals(figures: Mapping[str, Score], clustering: Clustering) -> list[str]:
    """Say what the intervals go by, and of which figures there are none."""
    note = clustering.note("To count them together: gpt-tasks evaluate ... --cluster {field}.")
    without = [
        name for name, score in figures.items() if math.isfinite(score.value) and math.isnan(score.low + score.high)
    ]
    if not without:
        return [] if note is None else [note]
    return [
        *([] if note is None else [note]),
        f"{', '.join(without)}: no interval, as so few examples, clusters or rows of a label do not show how much it "
        "varies.",
    ]


def _worse_than_before(
    metrics: Sequence[Metric], figures: Mapping[str, Score], baselines: Mapping[str, Mapping[str, Score]]
) -> list[str]:
    """Return a note where a model is worse than the backbone was before it was trained, by the first metric."""
    if BEFORE not in baselines:
        return []
    first = metrics[0]
    now, before = figures[first.name].value, baselines[BEFORE][first.name].value
    if not (now > before if first.better == "lower" else now < before):
        return []
    return ["The model is worse than the backbone was before: lower --learning-rate, or take fewer --epochs."]
