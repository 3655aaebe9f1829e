"""`gpt-tasks finetune TASK`: every task is a command, its flags made from the settings and from the task's options."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand

from gpt_tasks.backbone.methods import option_owners
from gpt_tasks.cli.flags import flag, flags, given, taking
from gpt_tasks.cli.output import answering, first_process
from gpt_tasks.cli.strict import StrictGroup
from gpt_tasks.errors import PluginError, UsageError
from gpt_tasks.plugins import installed_plugins
from gpt_tasks.registry import Registries
from gpt_tasks.shown import print_table, quoted, tell
from gpt_tasks.tasks.base import Task
from gpt_tasks.tasks.options import useless_options

if TYPE_CHECKING:
    from gpt_tasks.training.run import Run

SHOWN = 3
SIZES = {"tiny, 9M": 9_000_000, "gpt2, 124M": 124_000_000, "gpt2-medium, 355M": 355_000_000}


class TaskGroup(StrictGroup):
    """One command for every task there is, made when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all tasks."""
        return sorted(name for name, task in installed_plugins().registry.tasks.items() if task.learner is not None)

    def get_command(self, ctx: Any, cmd_name: str) -> TyperCommand:
        """Make a task's command. Raises UsageError for an unknown task, PluginError for one whose plugin failed."""
        registry = installed_plugins().registry
        task = registry.tasks[cmd_name]
        if task.learner is None:
            raise UsageError(
                f"Task '{cmd_name}' trains nothing",
                f"Evaluate a model zero-shot: gpt-tasks evaluate MODEL --task {cmd_name}",
            )
        return _task_command(cmd_name, task, registry)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the tasks without making their commands."""
        tasks = installed_plugins().registry.tasks
        rows = [(name, tasks[name].description) for name in self.list_commands(ctx)]
        with formatter.section("Tasks"):
            formatter.write_dl(rows or [("-", "No task could be loaded: see gpt-tasks plugins.")])


app = typer.Typer(
    name="finetune",
    cls=TaskGroup,
    help="Fine-tune a backbone to a task, and evaluate the result.",
    subcommand_metavar="TASK [FLAGS]",
    invoke_without_command=True,
    rich_markup_mode=None,
    add_completion=False,
)


@app.callback()
def _group(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        tasks = ", ".join(
            sorted(name for name, task in installed_plugins().registry.tasks.items() if task.learner is not None)
        )
        raise UsageError("finetune: no task is named", f"There are: {tasks}. See gpt-tasks finetune --help")


def _task_command(name: str, task: Task, registry: Registries) -> TyperCommand:
    from gpt_tasks.training.config import FinetuneConfig, settings_of_files

    settled = {name for method in registry.methods.values() for name in method.defaults(SIZES["tiny, 9M"])}
    words = {**dict.fromkeys(settled, "by method, see below"), "best_by": task.best_metric}
    parameters = [
        *flags(FinetuneConfig, omit=("options", "method_options"), defaults=words),
        *(each for method in registry.methods.values() for each in flags(method.options)),
        *flags(task.Options, omit=useless_options(task.Options, "trained")),
        flag("config", Path | None, "A YAML file of settings, see below; flags win over it.", metavar="FILE"),
        flag("output", Path | None, "The run's folder. [default: runs/TASK-TIME]", metavar="DIR"),
        flag("resume", bool, "Continue the unfinished run in --output.", "--resume", default=False),
        flag("json", bool, "Print one JSON object on stdout, and nothing else there.", "--json", default=False),
    ]
    names = [parameter.name for parameter in parameters]
    taken = sorted({name for name in names if names.count(name) > 1})
    owners = option_owners(registry.methods.values())
    if taken and taken[0] in owners:
        method = owners[taken[0]].name
        raise PluginError(
            f"Method '{method}' of plugin '{registry.methods.owner(method)}' has an option '{taken[0]}', which is a "
            f"setting of every task, an option of another method, or of task '{task.name}'",
            "The plugin must give its option another name.",
        )
    if taken:
        raise PluginError(
            f"Task '{task.name}' of plugin '{registry.tasks.owner(task.name)}' has an option '{taken[0]}', "
            "which is a setting of every task",
            "The plugin must give its option another name.",
        )
    single = typer.Typer(rich_markup_mode=None, add_completion=False)
    single.command(task.name, cls=TaskCommand, help=task.description)(taking(_finetuning(name, task), parameters))
    command = typer.main.get_command(single)
    assert isinstance(command, TaskCommand)
    command.settings = settings_of_files(task.Options, owners)
    command.defaults = {
        (method.name, size): {**method.defaults(parameters), **task.defaults(method.name, parameters)}
        for method in registry.methods.values()
        if task.head is not None or not (method.frozen or method.saved_separately)
        for size, parameters in SIZES.items()
    }
    return command


def _finetuning(name: str, task: Task) -> Callable[..., None]:
    def command(**values: Any) -> None:
        from gpt_tasks.training.config import FinetuneConfig
        from gpt_tasks.training.finetune import finetune

        settings = given(FinetuneConfig, values)
        options = given(task.Options, values)
        if options:
            settings["options"] = options
        for method in installed_plugins().registry.methods.values():
            settings |= given(method.options, values)
        with answering(values["json"]) as answer:
            run = finetune(name, config=values["config"], output=values["output"], resume=values["resume"], **settings)
            answer({**run.report.to_json(), "run": str(run.path)})
        if first_process() and not values["json"]:
            _show(run)

    return command


def _show(run: Run) -> None:
    from gpt_tasks.evaluation.tables import print_report

    print_report(run.report)
    with (run.path / "predictions.jsonl").open(encoding="utf-8") as file:
        lines = [json.loads(line) for line in islice(file, SHOWN)]
    asked = run.report.fields
    if all({"label", "probabilities", *asked} <= line.keys() for line in lines):
        print("\nSome texts of the test split:")
        rows = [_cells(line, asked) for line in lines]
        print_table(("label", "probability", "text"), rows, texts=("text",))
    command = installed_plugins().registry.tasks[run.report.task].command
    text = ' "Your own text."' if command == "generate" or len(asked) == 1 else " --input FILE"
    text = "" if command == "chat" else text
    print()
    tell(f"The run is in {run.path}. Continue with: gpt-tasks {command} {quoted(run.path)}{text}", sys.stdout)
    if run.report.verdict:
        tell(run.report.verdict, sys.stdout)


def _cells(line: Mapping[str, Any], asked: Sequence[str]) -> tuple[str, str, str]:
    predicted = line["predicted"]
    return predicted, f"{line['probabilities'][predicted]:.1%}", " / ".join(line[field] for field in asked)


class TaskCommand(TyperCommand):
    """A task's command, whose help ends with the settings of --config and the defaults of each method."""

    defaults: Mapping[tuple[str, str], Mapping[str, float | int]] = {}
    settings: Sequence[str] = ()

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the settings of a file, and the methods' defaults as a table."""
        with formatter.section("Settings of --config, one 'name: value' a line"):
            formatter.write_text(", ".join(self.settings))
            formatter.write_text(
                "column and options are mappings; the task's own may also stand below options, the method's below "
                "method_options."
            )
        names = list(dict.fromkeys(name for settings in self.defaults.values() for name in settings))
        with formatter.section("Defaults by method and size of the backbone"):
            formatter.write(_line("method", "backbone", [name.replace("_", "-") for name in names]))
            for (method, size), settings in self.defaults.items():
                cells = [f"{settings[name]:g}" if name in settings else "-" for name in names]
                formatter.write(_line(method, size, cells))


def _line(method: str, size: str, cells: Sequence[str]) -> str:
    return f"  {method:7} {size:19}{''.join(f'{cell:>14}' for cell in cells)}\n"
