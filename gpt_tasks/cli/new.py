"""`gpt-tasks new`: write a project for a plugin."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from gpt_tasks.cli.arguments import Json
from gpt_tasks.cli.output import answering
from gpt_tasks.plugins import installed_plugins
from gpt_tasks.scaffold import KINDS, write_plugin
from gpt_tasks.shown import tell

app = typer.Typer(name="new", rich_markup_mode=None, add_completion=False)


@app.command("new")
def new(
    name: Annotated[str, typer.Argument(help="The name of the plugin and of what it adds.", metavar="NAME")],
    kind: Annotated[
        str, typer.Option("--kind", help=f"What the plugin adds: {', '.join(KINDS)}.", metavar="KIND")
    ] = "classification",
    output: Annotated[
        Path | None,
        typer.Option("--output", help="The new folder. Default: gpt-tasks-NAME.", metavar="FOLDER", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a small project for a plugin: module, samples, test, README, licence, and a workflow that publishes it."""
    with answering(as_json) as answer:
        made = write_plugin(name, kind, output, installed_plugins())
        answer({"folder": str(made.folder), "commands": list(made.commands)})
    if not as_json:
        tell(f"The plugin is in {made.folder}. Continue with:", sys.stdout)
        for command in made.commands:
            print(f"  {command}")
