"""`gpt-tasks evaluate`: what a run scores on labelled data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gpt_tasks.cli.arguments import Column, Device, Json, Precision, RunPath
from gpt_tasks.cli.flags import pairs
from gpt_tasks.cli.output import answering

app = typer.Typer(name="evaluate", rich_markup_mode=None, add_completion=False)


@app.command("evaluate")
def evaluate_run(
    *,
    run: RunPath,
    data: Annotated[
        str, typer.Option(help="Labelled data: a file, a folder, or hf:OWNER/NAME.", metavar="SRC", show_default=False)
    ],
    split: Annotated[
        str | None, typer.Option(help="Which split of a source that has several. Default: test.", metavar="SPLIT")
    ] = None,
    by: Annotated[
        str | None, typer.Option(help="Evaluate every value of this column by itself, too.", metavar="COLUMN")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="A folder for the report, the predictions and the plots.", metavar="DIR")
    ] = None,
    column: Column = None,
    device: Device = "auto",
    precision: Precision = "auto",
    as_json: Json = False,
) -> None:
    """Evaluate a run on labelled data, beside its baselines."""
    from gpt_tasks.evaluation.tables import print_report
    from gpt_tasks.training.run import load

    with answering(as_json) as answer:
        loaded = load(run, device=device, precision=precision)
        report = loaded.evaluate(data, split=split, by=by, column=pairs(column or [], "--column"), output=output)
        answer({**report.to_json(), "run": str(run)})
    if not as_json:
        print_report(report)
