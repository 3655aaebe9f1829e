"""`gpt-tasks plugins`: every installed plugin, its hooks, what it provides, and why it failed if it did."""

from __future__ import annotations

from dataclasses import asdict

import typer

from gpt_tasks.cli.arguments import Json
from gpt_tasks.cli.output import answering
from gpt_tasks.cli.plugins_check import check
from gpt_tasks.cli.strict import StrictGroup, refuse_given
from gpt_tasks.plugins import installed_plugins
from gpt_tasks.shown import print_table

app = typer.Typer(name="plugins", cls=StrictGroup, rich_markup_mode=None, add_completion=False)
app.command("check")(check)


@app.callback(invoke_without_command=True)
def show_plugins(
    context: typer.Context,
    as_json: Json = False,
) -> None:
    """Show the installed plugins: hooks, what each provides, how long it takes to load, or why it failed.

    GPT_TASKS_PLUGINS=a,b loads only these besides gpt-tasks' own; GPT_TASKS_STRICT=1 makes a failure an error.
    """
    if context.invoked_subcommand is not None:
        refuse_given(context, ["as_json"], "is for the list of plugins", "Write it behind the command.")
        return
    plugins = installed_plugins().plugins
    with answering(as_json) as answer:
        answer({"plugins": [{**asdict(plugin), "state": plugin.state} for plugin in plugins]})
    if not as_json:
        rows = [
            (
                plugin.name,
                plugin.source,
                ", ".join(plugin.hooks),
                ", ".join(plugin.brings),
                f"{1000 * plugin.seconds:.0f} ms" if plugin.selected else "",
                f"{plugin.state}: {plugin.error}" if plugin.error else plugin.state,
            )
            for plugin in plugins
        ]
        columns = ("plugin", "distribution", "hooks", "brings", "loads in", "state")
        print_table(columns, rows, texts=("hooks", "brings", "state"))
