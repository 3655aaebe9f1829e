"""The plots as PNG: the confusion matrix and the learning curve of a run, and the differences of a comparison."""

from __future__ import annotations

import logging
import math
import textwrap
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gpt_tasks.evaluation.report import Report
from gpt_tasks.files import atomic_path
from gpt_tasks.types import Score
from gpt_tasks.words import shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from gpt_tasks.evaluation.compare import Comparison, Contrast

DPI = 120
LONGEST_LABEL = 22
# What may be installed for labels in scripts that matplotlib's own font lacks, beside the other families of Noto Sans.
FONTS = ("Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC", "WenQuanYi Zen Hei", "PingFang SC", "SimHei")
_TITLE = 11.0
# The width of a letter in titles, in parts of their size: more than most have.
_LETTER = 0.65
MOST_COUNTED = 60
# Names of more would lie upon each other, and each takes its time.
MOST_NAMED = 120
NO_LABEL = "(none)"
"""The row and column of a confusion matrix for what has no label."""
BLUE, ORANGE, GREY = "#1f5fa8", "#d9742b", "#666666"
SIGNIFICANT = 0.05

# On its first use on a machine it logs about its font cache, in the middle of a run.
logging.getLogger("matplotlib").setLevel(logging.ERROR)


def plot_confusion_matrix(report: Report, path: Path) -> None:
    """Draw the confusion matrix: counts in the cells, up to 60 labels, coloured by the share of each right label.

    Of more than 120 labels one in so many is named.
    """
    from matplotlib.figure import Figure

    counts = np.array(report.confusion_matrix)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    labels = [*report.labels, *([NO_LABEL] if len(counts) > len(report.labels) else [])]
    many = len(labels)
    names = [_drawable(label, place) for place, label in enumerate(labels)]
    side = min(max(3.4, 0.62 * many), 15.0)
    figure = Figure(figsize=(side + 2.2, side + 1.5), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    size = min(11.0, 290 * side / 15 / many)
    steep = many > 6 or max(map(len, names)) * many > 40
    step = math.ceil(many / MOST_NAMED)
    places, shown = range(0, many, step), names[::step]
    axes.set_xticks(places, shown, fontsize=max(size, 6), rotation=90 if steep else 0, fontfamily=_fonts())
    axes.set_yticks(places, shown, fontsize=max(size, 6), fontfamily=_fonts())
    numbered = "\n(numbers: places from 0 among the labels in metrics.json)" if undrawn(report.labels) else ""
    some = f" (one in {step} is named)" if step > 1 else ""
    axes.set_xlabel(f"predicted label{some}{numbered}")
    axes.set_ylabel(f"right label{some}")
    # A long count would leave its cell.
    size *= min(1.0, 4 / len(f"{counts.max():,}")) if many > 3 else 1.0
    for row, column in zip(*np.nonzero(counts), strict=True) if many <= MOST_COUNTED else ():
        colour = "white" if shares[row, column] > 0.55 else "#222222"
        axes.text(column, row, f"{counts[row, column]:,}", ha="center", va="center", color=colour, fontsize=size)
    if step == 1:
        axes.set_xticks(np.arange(1, many) - 0.5, minor=True)
        axes.set_yticks(np.arange(1, many) - 0.5, minor=True)
        axes.grid(which="minor", color="white", linewidth=1.0 if many < 20 else 0.4)
    axes.tick_params(which="both", length=0)
    for spine in axes.spines.values():
        spine.set_color("#bbbbbb")
    bar = figure.colorbar(image, ax=axes, shrink=0.8, aspect=28, pad=0.02)
    bar.set_label("share of the right label", color=GREY)
    bar.outline.set_visible(False)
    # Over all of the figure: labels leave little of its width to the axes.
    figure.suptitle(_wrapped(_title(report), side + 2.0), fontsize=_TITLE, x=0.02, ha="left")
    _save(figure, path)


def plot_learning_curve(history: Sequence[Mapping[str, Any]], best_by: str, path: Path) -> None:
    """Draw the losses and the validation metric `best_by` by update, from the Trainer's log history.

    Entries with `loss` are of training, those with `eval_loss` and `eval_METRIC` of validation. A history without
    any draws nothing.
    """
    from matplotlib.figure import Figure

    curves = [_curve(history, name) for name in ("loss", "eval_loss", f"eval_{best_by}")]
    if not any(map(len, curves)):
        return
    training, validation, metric = curves
    figure = Figure(figsize=(9.6 if len(metric) else 5.2, 3.6), layout="constrained")
    losses, *others = figure.subplots(1, 2 if len(metric) else 1, squeeze=False, sharex=True)[0]
    if len(training):
        losses.plot(*training.T, color=BLUE, linewidth=1.5, marker=_marker(training), markersize=4, label="training")
    if len(validation):
        losses.plot(*validation.T, color=ORANGE, linewidth=1.5, marker="o", markersize=4, label="validation")
    losses.set_title("loss", loc="left", fontsize=_TITLE)
    losses.legend(frameon=False)
    for axes in others:
        axes.plot(*metric.T, color=ORANGE, linewidth=1.5, marker="o", markersize=4)
        axes.set_title(_wrapped(f"validation {best_by}", 4.0), loc="left", fontsize=_TITLE)
    for axes in (losses, *others):
        _tidy(axes)
    _save(figure, path)


def plot_comparison(comparison: Comparison, path: Path) -> None:
    """Draw every difference from the first folder with its 95 % interval, a panel for each metric.

    A filled point is one whose corrected p value is below 5 %.
    """
    from matplotlib.figure import Figure

    panels: dict[str, list[Contrast]] = {}
    for contrast in comparison.contrasts:
        panels.setdefault(contrast.metric, []).append(contrast)
    several = len(comparison.folders) > 2
    tasks = compared_tasks(comparison)
    rows = [len(contrasts) for contrasts in panels.values()]
    figure = Figure(figsize=(7.5, min(0.9 + sum(0.95 + 0.3 * row for row in rows), 40.0)), layout="constrained")
    drawn = figure.subplots(len(panels), 1, squeeze=False, height_ratios=[row + 1 for row in rows])[:, 0]
    for axes, (metric, contrasts) in zip(drawn, panels.items(), strict=True):
        names = []
        for place, it in enumerate(contrasts):
            name = _drawable(it.task, tasks.index(it.task), "task")
            names.append(name + (f": {it.name} - A" if several else ""))
            sure = it.corrected_p_value < SIGNIFICANT
            axes.plot([it.low, it.high], [place, place], color=BLUE, linewidth=1.6, solid_capstyle="butt")
            axes.plot(it.difference, place, "o", color=BLUE, markerfacecolor=BLUE if sure else "white", markersize=6)
        axes.axvline(0, color=GREY, linewidth=0.8)
        axes.set_yticks(range(len(names)), names, fontfamily=_fonts())
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.margins(x=0.08)
        axes.grid(axis="x", color="#e6e6e6", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(axis="y", length=0)
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        title = f"{metric}, {'difference from A' if several else 'B - A'}"
        axes.set_title(_wrapped(title, 4.5), fontsize=_TITLE, loc="left")
    said = [f"{it.name}: {_drawable(it.path.name, place, 'folder')}" for place, it in enumerate(comparison.folders)]
    figure.supxlabel(
        _wrapped("   ".join(said), 7.5) + "\n95 % intervals; filled: p < 0.05 after Holm's correction",
        color=GREY,
        fontsize=9,
    )
    _save(figure, path)


def _curve(history: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    values = [(entry["step"], entry[name]) for entry in history if entry.get(name) is not None]
    points = [(step, value) for step, value in values if math.isfinite(value)]
    return np.array(points, dtype=float).reshape(-1, 2)


def _marker(curve: np.ndarray) -> str:
    return "o" if len(curve) < 3 else ""


def _tidy(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel("update")
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.grid(color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _title(report: Report) -> str:
    name = "accuracy" if "accuracy" in report.metrics else next(iter(report.metrics))
    figure: Score = report.metrics[name]
    return (
        f"{report.task}, {report.split}, n = {report.n:,}\n"
        f"{name} {figure.value:.3f}, 95 % interval [{figure.low:.3f}, {figure.high:.3f}]"
    )


def _wrapped(title: str, width: float) -> str:
    """Return a title in lines that are no wider than so many inches."""
    letters = int(width * 72 / (_TITLE * _LETTER))
    return "\n".join(part for line in title.splitlines() for part in textwrap.wrap(line, letters))


def undrawn(labels: Sequence[str], kind: str = "label") -> dict[str, str]:
    """Return what stands in a plot for the labels that no installed font can write, and these labels."""
    shown = {_drawable(label, place, kind): label for place, label in enumerate(labels)}
    return {name: label for name, label in shown.items() if not _is_drawable(label)}


def compared_tasks(comparison: Comparison) -> list[str]:
    """Return the tasks of a comparison, by whose places the plot calls those that no font can write."""
    return list(dict.fromkeys(contrast.task for contrast in comparison.contrasts))


def _drawable(label: str, place: int, kind: str = "label") -> str:
    """Return a label as the plot can write it: shortened, or by its place where no font has its characters."""
    # A dollar sign would start a formula.
    return shortened(label, LONGEST_LABEL).replace("$", r"\$") if _is_drawable(label) else f"{kind} {place}"


def _is_drawable(label: str) -> bool:
    return {ord(character) for character in shortened(label, LONGEST_LABEL)} <= _glyphs()


@cache
def _fonts() -> list[str]:
    from matplotlib import font_manager

    installed = {font.name for font in font_manager.fontManager.ttflist}
    others = sorted(name for name in installed if name.startswith("Noto Sans") and name not in FONTS)
    return ["DejaVu Sans", *(name for name in FONTS if name in installed), *others]


@cache
def _glyphs() -> set[int]:
    from matplotlib import font_manager
    from matplotlib.ft2font import FT2Font

    return {code for name in _fonts() for code in FT2Font(font_manager.findfont(name)).get_charmap()}


def _save(figure: Figure, path: Path) -> None:
    """Write a figure under its name only once it is whole."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    # As `savefig` does, which draws it twice.
    figure.set_dpi(DPI)
    with atomic_path(path) as draft, draft.open("wb") as file:
        FigureCanvasAgg(figure).print_png(file)
