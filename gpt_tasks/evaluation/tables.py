"""The report as tables for the terminal; they read as well in a file or a pipe."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TextIO

from rich.text import Text

from gpt_tasks.evaluation.report import Report, Slices
from gpt_tasks.shown import escaped, print_table, sentence, terminal
from gpt_tasks.types import Score
from gpt_tasks.words import shortened, shortened_apart

# Other baselines are called as their names say.
_BASELINE_NAMES = {
    "majority": "majority class",
    "tfidf_logistic_regression": "TF-IDF + log. regr.",
    "tfidf_ridge_regression": "TF-IDF + ridge regr.",
    "longest": "longest choice",
    "longest_shared": "longest shared span",
    "copy": "the text itself",
    "most_frequent": "most frequent answer",
}
MOST_LABELS = 30
SHOWN_SAMPLES = 2
LONGEST_TEXT = 300
LONGEST_ASKED = 1_000


def print_report(report: Report, file: TextIO | None = None) -> None:
    """Print scores, labels, slices and notes to stdout or to `file`."""
    console = terminal(file)
    console.print(Text(escaped(f"{report.task}: {report.split}, {examples(report.n)}"), style="bold"))
    if report.how_asked:
        console.print(Text(escaped(shortened(f"Asked: {report.how_asked}", LONGEST_ASKED))))
    _print_scores(report, file)
    if 0 < len(report.labels) <= MOST_LABELS:
        console.print()
        _print_labels(report, file)
    for sample in report.samples[:SHOWN_SAMPLES]:
        asked = escaped(shortened("\n".join(sample.inputs.values()), LONGEST_TEXT))
        answers = [*map(escaped, shortened_apart(sample.predicted, sample.references[0], LONGEST_TEXT))]
        console.print(Text(f"\n{asked}"))
        console.print(Text(f"  answer: {answers[0]}\n  right:  {answers[1]}"))
    if report.slices is not None:
        console.print()
        _print_slices(report.slices, list(report.metrics), file)
    for note in report.notes:
        console.print(Text(sentence(note)))


def _print_scores(report: Report, file: TextIO | None) -> None:
    """A row for each metric: its value, its interval, and each baseline's value."""
    columns = ["metric", "value", "95 % interval", *map(baseline_name, report.baselines)]
    rows = []
    for name, figure in report.metrics.items():
        theirs = [number(scores[name].value) if name in scores else "" for scores in report.baselines.values()]
        rows.append([name, number(figure.value), interval(figure), *theirs])
    print_table(columns, rows, figures=True, file=file)


def _print_labels(report: Report, file: TextIO | None) -> None:
    """A row for each label: precision, recall and F1 with their intervals, and its support."""
    rows = []
    for label, scores in report.per_label.items():
        figures = [with_interval(it) for it in (scores.precision, scores.recall, scores.f1)]
        rows.append([label, *figures, f"{scores.recall.n:,}"])
    print_table(["label", "precision", "recall", "F1", "n"], rows, figures=True, file=file)


def _print_slices(slices: Slices, names: Sequence[str], file: TextIO | None) -> None:
    """A row for each value of the column that the report is sliced by: n and the metrics."""
    rows = [
        [value, f"{next(iter(scores.values())).n:,}", *(_sliced(scores, name, at) for at, name in enumerate(names))]
        for value, scores in slices.metrics.items()
    ]
    print_table([slices.by, "n", *names], rows, figures=True, file=file)


def number(value: float) -> str:
    """Write a figure with three decimals, a dash where there is none."""
    return f"{value:.3f}" if math.isfinite(value) else "-"


def with_interval(score: Score) -> str:
    """Write a figure with its interval, a dash where there is none."""
    return f"{number(score.value)} {interval(score)}" if math.isfinite(score.value) else "-"


def baseline_name(name: str) -> str:
    """Return how a baseline is called in a table."""
    return _BASELINE_NAMES.get(name, name.replace("_", " "))


def interval(figure: Score) -> str:
    """Write a figure's interval."""
    return f"[{number(figure.low)}, {number(figure.high)}]"


def examples(n: int) -> str:
    """Write a number of examples."""
    return f"{n:,} example{'' if n == 1 else 's'}"


def _sliced(scores: Mapping[str, Score], name: str, place: int) -> str:
    # The first metric says how far to trust a small slice; one interval a row is what a line holds.
    return number(scores[name].value) + (f" {interval(scores[name])}" if place == 0 else "")
