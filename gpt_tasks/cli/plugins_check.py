"""`gpt-tasks plugins check`: are the tasks of a plugin good citizens?"""

from __future__ import annotations

from dataclasses import asdict
from difflib import get_close_matches
from typing import Annotated

import typer

from gpt_tasks.cli.arguments import Json
from gpt_tasks.cli.output import answering
from gpt_tasks.errors import PluginError, UsageError
from gpt_tasks.plugins import Plugins, installed_plugins
from gpt_tasks.shown import print_table


def check(
    name: Annotated[str, typer.Argument(help="A plugin, or a task.", metavar="NAME", show_default=False)],
    as_json: Json = False,
) -> None:
    """Check the tasks of a plugin, or one task: each check, its result, and what to change."""
    plugins = installed_plugins()
    tasks = _tasks_of(name, plugins)
    # Imported here, because no --help should wait for it.
    from gpt_tasks.testing.rows import sample_rows
    from gpt_tasks.testing.running import check_task

    for task in tasks:
        # Files without a row are reported in one line, not as many checks that cannot be run.
        sample_rows(plugins.registry.tasks[task], plugins.registry.sources)
    with answering(as_json) as answer:
        found = {task: check_task(plugins.registry.tasks[task], plugins=plugins) for task in tasks}
        answer({"tasks": {task: [asdict(result) for result in results] for task, results in found.items()}})
    if not as_json:
        rows = [
            (task, result.name, result.status, result.message or result.reason)
            for task, results in found.items()
            for result in results
        ]
        print_table(("task", "check", "state", "result"), rows, texts=("result",))
    failed = [result.name for results in found.values() for result in results if result.status == "FAILED"]
    if failed:
        raise PluginError(
            f"'{name}' fails {len(failed)} of its checks: {', '.join(failed)}",
            "The message of each says what to change.",
        )


def _tasks_of(name: str, plugins: Plugins) -> list[str]:
    """Return the names of a plugin's tasks, or that of a task. Raises UsageError or PluginError where there is none."""
    tasks = plugins.registry.tasks
    plugin = next((plugin for plugin in plugins.plugins if plugin.name == name), None)
    if plugin is not None and plugin.error:
        raise PluginError(
            f"Plugin '{name}' ({plugin.source}) is left out: {plugin.error}", "Fix or upgrade it, then check it again."
        )
    if plugin is not None:
        own = [task for task in tasks if tasks.owner(task) == name]
        if own:
            return own
    if name in tasks:
        return [name]
    if plugin is not None:
        brings = ", ".join(plugin.brings) or "nothing"
        raise UsageError(f"Plugin '{name}' provides no task to check: it provides {brings}", "Name another plugin.")
    known = sorted({*tasks, *(plugin.name for plugin in plugins.plugins)})
    near = get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    installed = f"Installed are: {', '.join(known)}."
    raise UsageError(
        f"There is no plugin and no task '{name}'", f"Did you mean '{near[0]}'? {installed}" if near else installed
    )
