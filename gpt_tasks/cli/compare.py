"""`gpt-tasks compare`: is one model really better than another on the same examples?"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gpt_tasks.cli.arguments import Cluster, Json
from gpt_tasks.cli.output import answering, first_process, tell_undrawn
from gpt_tasks.paths import free_folder
from gpt_tasks.shown import print_table, tell

if TYPE_CHECKING:
    from gpt_tasks.evaluation.compare import Comparison, Contrast

app = typer.Typer(name="compare", rich_markup_mode=None, add_completion=False)
_TESTS = {"mcnemar": "McNemar", "bootstrap": "bootstrap"}


@app.command("compare")
def compare_folders(
    *,
    folders: Annotated[
        list[Path],
        typer.Argument(
            help="Two or more folders of score or of evaluate, or finished runs; the first is the reference.",
            metavar="A B",
            show_default=False,
        ),
    ],
    output: Annotated[Path | None, typer.Option(help="A folder for the comparison and a plot.", metavar="DIR")] = None,
    cluster: Cluster = None,
    seed: Annotated[int | None, typer.Option(help="Draws the resamples of the bootstrap. Default: 0.", min=0)] = None,
    as_json: Json = False,
) -> None:
    """Compare folders of scores or of reports with the first of them, example by example."""
    from gpt_tasks.evaluation.compare import compare, write_comparison

    with answering(as_json) as answer:
        output = free_folder(output, unfinished=True)
        comparison = compare(folders, cluster=cluster, seed=seed)
        if output is not None and first_process():
            write_comparison(output, comparison)
        answer(comparison.to_json())
    if as_json or not first_process():
        return
    _show(comparison)
    if output is not None:
        print()
        tell(f"The comparison is in {output}.", sys.stdout)
        from gpt_tasks.evaluation.compare import PLOT
        from gpt_tasks.evaluation.plots import compared_tasks, undrawn

        tell_undrawn(undrawn(compared_tasks(comparison), "task"), PLOT)
        tell_undrawn(undrawn([folder.path.name for folder in comparison.folders], "folder"), PLOT)


def _show(comparison: Comparison) -> None:
    for folder in comparison.folders:
        model = f" ({folder.model})" if folder.model else ""
        tell(f"{folder.name}: {folder.path}{model}", sys.stdout)
    for folder in comparison.folders[1:]:
        print()
        contrasts = [contrast for contrast in comparison.contrasts if contrast.name == folder.name]
        difference = f"{folder.name} - A"
        columns = ("task", "metric", "A", folder.name, difference, "95 % interval", "p", "corrected p", "detectable")
        print_table((*columns, "test", "n"), [_cells(contrast) for contrast in contrasts])
    if comparison.notes:
        print()
    for note in comparison.notes:
        tell(note, sys.stdout)


def _cells(contrast: Contrast) -> tuple[str, ...]:
    return (
        contrast.task,
        contrast.metric,
        _number(contrast.reference),
        _number(contrast.value),
        _number(contrast.difference, "+"),
        f"{_number(contrast.low, '+')} to {_number(contrast.high, '+')}",
        _p_value(contrast.p_value),
        _p_value(contrast.corrected_p_value),
        _number(contrast.detectable),
        _TESTS[contrast.test],
        f"{contrast.n:,}",
    )


def _number(value: float, sign: str = "") -> str:
    return f"{value:{sign}.4f}" if math.isfinite(value) else "-"


def _p_value(value: float) -> str:
    if not math.isfinite(value):
        return "-"
    return f"{value:.4f}" if value >= 0.0001 else "<0.0001"
