"""`gpt-tasks list`: what there is of each kind, and which plugin provides it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from gpt_tasks.cli.arguments import Json
from gpt_tasks.cli.output import answering
from gpt_tasks.plugins import installed_plugins
from gpt_tasks.shown import print_table

Kind = Literal[
    "tasks", "backbones", "commands", "heads", "learners", "methods", "metrics", "responders", "sources", "suites"
]

app = typer.Typer(name="list", rich_markup_mode=None, add_completion=False)


@app.command("list")
def list_names(
    kind: Annotated[
        Kind,
        typer.Argument(
            help="tasks, backbones, commands, heads, learners, methods, metrics, responders, sources or suites.",
            metavar="KIND",
        ),
    ],
    as_json: Json = False,
) -> None:
    """List what there is of a kind, and which plugin provides it."""
    table = getattr(installed_plugins().registry, kind)
    entries = [
        {"name": name, "description": _description(table[name]), "plugin": table.owner(name)} for name in sorted(table)
    ]
    with answering(as_json) as answer:
        answer({kind: entries})
    if not as_json:
        rows = [tuple(entry.values()) for entry in entries]
        print_table(("name", "description", "plugin"), rows, texts=("description",))


def _description(thing: Any) -> str:
    """Return what a thing is; of a command the first line of its help."""
    return str(thing.description if hasattr(thing, "description") else (thing.help or "").split("\n")[0])
