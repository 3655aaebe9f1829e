"""`gpt-tasks plugins`: every plugin that is installed, what it brings, and why it failed if it did."""

from __future__ import annotations

from dataclasses import asdict

import typer

from gpt_tasks.cli.arguments import Json
from gpt_tasks.cli.output import answering, show_table
from gpt_tasks.plugins import installed_plugins

app = typer.Typer(name="plugins", rich_markup_mode=None, add_completion=False)


@app.command("plugins")
def show_plugins(
    as_json: Json = False,
) -> None:
    """Show the installed plugins, and what each brings or why it failed."""
    plugins = installed_plugins().plugins
    with answering(as_json) as answer:
        answer({"plugins": [asdict(plugin) for plugin in plugins]})
    if not as_json:
        rows = [
            (
                plugin.name,
                plugin.source,
                ", ".join(plugin.brings),
                f"left out: {plugin.error}" if plugin.error else "ok",
            )
            for plugin in plugins
        ]
        show_table(("plugin", "distribution", "brings", "state"), rows)
