"""`gpt-tasks mistakes RUN`: what a run got wrong on its test split."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from gpt_tasks import UsageError, hookimpl

GPT_TASKS_HOOKS = 1
app = typer.Typer(name="mistakes")


@app.command()
def show_mistakes(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    most: Annotated[int, typer.Option(help="The number of mistakes to show.", min=1)] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
):
    """Show the examples that a run got wrong, those first of which it was most certain."""
    # Imported here: no --help waits for what only the command needs.
    from gpt_tasks import load

    report = load(run).report
    if report.answers != "label":
        raise UsageError(f"The run in {run} has no single labels", f"Its answers are in {run / 'predictions.jsonl'}.")
    shown = report.mistakes[:most]
    if as_json:
        print(json.dumps({"mistakes": [asdict(mistake) for mistake in shown]}, ensure_ascii=False))
        return
    for mistake in shown:
        texts = " / ".join(mistake.inputs.values())
        print(f"{mistake.predicted} ({mistake.probability:.0%}), not {mistake.label}: {texts}")


@hookimpl
def register_commands():
    return [app]
