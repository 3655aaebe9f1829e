"""The report as tables for the terminal; they read as well in a file or a pipe."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gpt_tasks.evaluation.report import Report
from gpt_tasks.types import Score
from gpt_tasks.words import isolated, shortened, shortened_apart

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

_PIPE_WIDTH = 100


def print_report(report: Report, file: TextIO | None = None) -> None:
    """Print scores, labels, slices and notes to stdout or to `file`; a file or a pipe is taken as 100 columns wide."""
    console = Console(file=file, highlight=False)
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    console.print(Text(f"{report.task}: {report.split}, {examples(report.n)}", style="bold"))
    console.print(score_table(report))
    if 0 < len(report.labels) <= MOST_LABELS:
        console.print()
        console.print(label_table(report))
    for sample in report.samples[:SHOWN_SAMPLES]:
        asked = "\n".join(sample.inputs.values())
        answers = shortened_apart(sample.predicted, sample.references[0], LONGEST_TEXT)
        console.print(Text(f"\n{shortened(asked, LONGEST_TEXT)}"))
        console.print(Text(f"  answer: {answers[0]}\n  right:  {answers[1]}"))
    if report.slices is not None:
        console.print()
        console.print(slice_table(report))
    for note in report.notes:
        console.print(Text(note))


def score_table(report: Report) -> Table:
    """Return one row for each metric: its value, its interval, and each baseline's value."""
    table = _table("metric", ["value", "95 % interval", *map(baseline_name, report.baselines)])
    for name, figure in report.metrics.items():
        theirs = [number(scores[name].value) if name in scores else "" for scores in report.baselines.values()]
        _row(table, [name, number(figure.value), interval(figure), *theirs])
    return table


def label_table(report: Report) -> Table:
    """Return one row for each label: precision, recall and F1 with their intervals, and its support."""
    table = _table("label", ["precision", "recall", "F1", "n"])
    for label, scores in report.per_label.items():
        figures = [with_interval(it) for it in (scores.precision, scores.recall, scores.f1)]
        _row(table, [label, *figures, f"{scores.recall.n:,}"])
    return table


def slice_table(report: Report) -> Table:
    """Return one row for each value of the column that the report is sliced by: n and the metrics."""
    if report.slices is None:
        raise ValueError("this report has no slices")
    names = list(report.metrics)
    table = _table(report.slices.by, ["n", *names])
    for value, scores in report.slices.metrics.items():
        cells = [_sliced(scores, name, place) for place, name in enumerate(names)]
        _row(table, [value, f"{next(iter(scores.values())).n:,}", *cells])
    return table


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


def _table(first: str, others: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column(Text(first), overflow="fold")
    for name in others:
        table.add_column(Text(name), justify="right", no_wrap=True)
    return table


def _row(table: Table, cells: Sequence[str]) -> None:
    table.add_row(*(Text(isolated(cell)) for cell in cells))
