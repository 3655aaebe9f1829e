"""The plots are real pictures of a sensible size for any labels, and leave no other files."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from gpt_tasks.evaluation.plots import plot_confusion_matrix, plot_learning_curve
from gpt_tasks.evaluation.report import Report
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


@pytest.mark.parametrize("number", [2, 3, 12, 50, 80])
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
