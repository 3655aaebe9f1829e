"""`gpt-tasks lm-eval`: lm-evaluation-harness's own command, with our engine as its model `gpt-tasks`."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperCommand

app = typer.Typer(name="lm-eval", rich_markup_mode=None, add_completion=False)


class PassThrough(TyperCommand):
    """A command that reads none of its arguments, not even --help."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Leave all arguments unchanged."""
        ctx.args = list(args)
        return []


@app.command("lm-eval", cls=PassThrough, add_help_option=False)
def lm_eval(context: typer.Context) -> None:
    """Run lm-evaluation-harness's own command, with --model gpt-tasks.

    --model_args pretrained=MODEL says which model; the other arguments are as in gpt-tasks score.
    """
    from gpt_tasks.scoring.lm_eval import run_harness

    raise typer.Exit(run_harness(context.args))
