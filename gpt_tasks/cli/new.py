"""`gpt-tasks new`: a project for a plugin, right from the start."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gpt_tasks.cli.arguments import Json
from gpt_tasks.cli.output import answering
from gpt_tasks.plugins import installed_plugins
from gpt_tasks.scaffold import Kind, write_plugin

app = typer.Typer(name="new", rich_markup_mode=None, add_completion=False)


@app.command("new")
def new(
    name: Annotated[str, typer.Argument(help="What the plugin brings is called so.", metavar="NAME")],
    kind: Annotated[Kind, typer.Option("--kind", help="What the plugin brings.")] = "classification",
    output: Annotated[
        Path | None,
        typer.Option("--output", help="The new folder. Default: gpt-tasks-NAME.", metavar="FOLDER", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a small project for a plugin: task, samples, test, README, licence, and a workflow that publishes it."""
    with answering(as_json) as answer:
        made = write_plugin(name, kind, output, installed_plugins())
        answer({"folder": str(made.folder), "commands": list(made.commands)})
    if not as_json:
        print(f"The plugin is in {made.folder}. Go on with:")
        for command in made.commands:
            print(f"  {command}")
