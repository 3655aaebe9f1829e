"""The plots are real pictures of a sensible size for any labels, and leave no other files."""

from __future__ import annotations

import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure

from gpt_tasks.evaluation import plots
from gpt_tasks.evaluation.card import model_card
from gpt_tasks.evaluation.plots import plot_confusion_matrix, plot_learning_curve, undrawn
from gpt_tasks.evaluation.report import Report
from gpt_tasks.plugins import installed_plugins
from gpt_tasks.types import Score

HISTORY = [
    {"loss": 0.8, "learning_rate": 1e-3, "step": 10},
    {"loss": 0.5, "learning_rate": 5e-4, "step": 20},
    {"eval_loss": 0.6, "eval_accuracy": 0.7, "step": 20},
    {"loss": float("nan"), "step": 30},
    {"train_runtime": 3.0, "step": 30},
]


def report(labels: list[str], diagonal: int = 40) -> Report:
    counts = np.full((len(labels), len(labels)), 1) + np.eye(len(labels), dtype=int) * diagonal
    figure = Score(0.9, 0.85, 0.93, int(counts.sum()))
    matrix = tuple(tuple(row) for row in counts.tolist())
    return Report("intents", "test", figure.n, tuple(labels), {"accuracy": figure}, {}, matrix)


@pytest.mark.parametrize("number", [2, 3, 12, 30, 80, 400])
def test_confusion_matrices_of_few_and_many_labels(number: int, tmp_path: Path) -> None:
    path = tmp_path / "confusion_matrix.png"
    plot_confusion_matrix(report([f"label number {place}" for place in range(number)]), path)
    height, width, _ = matplotlib.image.imread(path).shape
    assert 400 < height < 2400
    assert 400 < width < 2400
    assert [found.name for found in tmp_path.iterdir()] == ["confusion_matrix.png"]


def test_labels_that_no_font_has_and_formulas_draw_without_a_warning(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plot_confusion_matrix(report(["负面", "$\\frac{", "x" * 300, "नमस्ते"]), tmp_path / "c.png")


def texts_of(figure: Figure) -> dict[str, Any]:
    """The texts of a figure and where they are drawn, in parts of it."""
    from matplotlib.text import Text

    figure.draw_without_rendering()  # by which the layout is settled
    found = {}
    for text in figure.findobj(Text):
        if text.get_text().strip():
            found[text.get_text()] = text.get_window_extent().transformed(figure.transFigure.inverted())
    return found


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved."""
    found: list[Figure] = []
    monkeypatch.setattr(plots, "_save", lambda figure, path: found.append(figure))
    return found


def test_titles_are_within_the_figure(drawn: list[Figure], tmp_path: Path) -> None:
    long = "a-task-of-a-plugin-with-a-long-name-" * 3
    for labels in (["a", "b"], ["a label that is long, and longer", "another one, of like length"]):
        plot_confusion_matrix(replace(report(labels), task=long), tmp_path / "c.png")
    plot_learning_curve([{"eval_loss": 0.6, f"eval_{long}": 0.7, "step": 20}], long, tmp_path / "l.png")
    for figure in drawn:
        titles = {text: box for text, box in texts_of(figure).items() if "-of-a-plugin-" in text}
        assert titles
        for text, box in titles.items():
            assert len(text.splitlines()) > 2
            assert 0 <= box.x0 < box.x1 <= 1
            assert 0 <= box.y0 < box.y1 <= 1


def test_labels_that_no_font_has_have_a_key(drawn: list[Figure], tmp_path: Path) -> None:
    # Of a private use area, so that no font has it.
    labels = ["plain", "\uf8f0\uf8f1 a", "$x", "\uf8f2" * 40]
    assert undrawn(labels) == {"label 1": labels[1], "label 3": labels[3]}
    assert undrawn(labels[::2]) == {}
    plot_confusion_matrix(report(labels), tmp_path / "c.png")
    assert {"plain", "label 1", r"\$x", "label 3"} <= set(texts_of(drawn[0]))
    assert any("places from 0 among the labels" in text for text in texts_of(drawn[0]))
    card = model_card(
        report(labels), task=installed_plugins().registry.tasks["classification"], run="r", backbone="tiny",
        method="full", rows={}, settings={}, plots=["confusion_matrix.png"],
    )  # fmt: skip
    assert f"In the confusion matrix label 1 is {labels[1]}, label 3 is {labels[3]}: no installed font" in card
    plain = model_card(
        report(labels[:1]), task=installed_plugins().registry.tasks["classification"], run="r", backbone="tiny",
        method="full", rows={}, settings={}, plots=["confusion_matrix.png"],
    )  # fmt: skip
    assert "no installed font" not in plain


def test_of_many_labels_one_in_so_many_is_named(drawn: list[Figure], tmp_path: Path) -> None:
    plot_confusion_matrix(report([f"number {place}" for place in range(1000)]), tmp_path / "c.png")
    shown = texts_of(drawn[0])
    assert {"number 0", "number 9", "predicted label (one in 9 is named)"} <= set(shown)
    assert "number 1" not in shown


def test_right_answers_are_highlighted(tmp_path: Path) -> None:
    plot_confusion_matrix(report(["a", "b"], diagonal=1000), tmp_path / "right.png")
    plot_confusion_matrix(report(["a", "b"], diagonal=0), tmp_path / "random.png")
    dark = [
        np.mean(matplotlib.image.imread(tmp_path / name)[..., :3].sum(-1) < 1) for name in ("right.png", "random.png")
    ]
    assert dark[0] > 2 * dark[1]


def test_the_learning_curve_has_a_panel_for_the_metric_where_there_is_one(tmp_path: Path) -> None:
    plot_learning_curve(HISTORY, "accuracy", tmp_path / "both.png")
    plot_learning_curve(HISTORY[:2], "accuracy", tmp_path / "loss.png")
    both, loss = (matplotlib.image.imread(tmp_path / name).shape for name in ("both.png", "loss.png"))
    assert both[0] == loss[0]
    assert both[1] > 1.5 * loss[1]


def test_a_history_without_figures_draws_nothing(tmp_path: Path) -> None:
    plot_learning_curve(HISTORY[3:], "accuracy", tmp_path / "curve.png")
    assert list(tmp_path.iterdir()) == []


def test_drawing_needs_no_screen_and_no_pyplot(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from gpt_tasks.evaluation.plots import plot_learning_curve as plot;"
        f"plot([{{'loss': 1.0, 'step': 1}}], 'accuracy', Path({str(tmp_path / 'a.png')!r}));"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[2])
    assert (tmp_path / "a.png").exists()
