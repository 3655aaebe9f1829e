"""docs/settings.md lists every setting that a file of `--config` may hold, as the configuration and the tasks have it.

`python tests/test_settings_page.py` writes the page anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from gpt_tasks.backbone.methods import option_owners
from gpt_tasks.plugins import OWN_DISTRIBUTION, installed_plugins
from gpt_tasks.training.config import FLAGS_ALONE, FinetuneConfig, settings_of_files

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"
INTRODUCTION = """# Settings of a fine-tuning

Every setting is a flag of `gpt-tasks finetune TASK`, an argument of `gpt_tasks.finetune`, and a line of the YAML file
that is given as `--config`, with `_` or `-` in its name. `gpt-tasks finetune TASK --help` shows them too, with the
defaults of each method. In a file `column` is a mapping of fields to columns, and what can be given several times is a
list.
"""
OPTIONS = """## Options of the tasks

A task's own options stand in a file beside the other settings, or below `options`. From Python they are in `options`,
as in `options={"prompt": "..."}`.
"""
METHODS = """## Options of the methods

They are given where the method is, in the same ways: as `--lora-r 8`, as a line `lora_r: 8` of a file (or below
`method_options`), or as `lora_r=8` from Python. `run.json` records those of the training in
`settings.method_options`. A plugin's method has options likewise: [hooks.md](hooks.md#register_methods).
"""
FLAGS = """{} are flags alone: they say where one run is written and how it is
shown, and are refused in a file."""


def page() -> str:
    """Return the page."""
    plugins = installed_plugins()
    ours = {plugin.name for plugin in plugins.plugins if plugin.distribution == OWN_DISTRIBUTION}
    tasks = {name: task for name, task in plugins.registry.tasks.items() if plugins.registry.tasks.owner(name) in ours}
    own = {name: task.Options for name, task in sorted(tasks.items()) if task.learner is not None}
    having: dict[tuple[str, str], list[str]] = {}
    for task, options in own.items():
        for name, field in options.model_fields.items():
            having.setdefault((name, str(field.description)), []).append(task)
    rows = [[f"`{name}`", ", ".join(tasks), cell(said)] for (name, said), tasks in sorted(having.items())]
    methods = plugins.registry.methods
    mine = [method for name, method in methods.items() if methods.owner(name) in ours]
    of_methods = [row for method in mine for row in settings(method.options)]
    flags = ", ".join(f"`{name}`" for name in FLAGS_ALONE)
    parts = [
        INTRODUCTION,
        table(["setting", "default", "what it is"], settings(FinetuneConfig)),
        FLAGS.format(flags) + "\n",
        METHODS,
        table(["option", "default", "what it is"], of_methods),
        OPTIONS,
        table(["option", "tasks", "what it is"], rows),
    ]
    return "\n".join(parts)


def settings(model: type[BaseModel]) -> list[list[str]]:
    return [
        [f"`{name}`", default(field.default), cell(str(field.description))]
        for name, field in model.model_fields.items()
    ]


def default(value: Any) -> str:
    return "" if value is None or value is PydanticUndefined or value in ((), {}) else f"`{json.dumps(value)}`"


def cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [columns, ["---"] * len(list(columns)), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def test_the_page_lists_what_there_is() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "python tests/test_settings_page.py writes it anew"


def test_help_lists_the_settings_of_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    from gpt_tasks.cli.main import run

    assert run(["finetune", "ner", "--help"]) == 0
    said = capsys.readouterr().out
    listed = " ".join(said.partition("Settings of --config")[2].partition("column and options")[0].split())
    registry = installed_plugins().registry
    names = settings_of_files(registry.tasks["ner"].Options, option_owners(registry.methods.values()))
    assert listed.endswith(", ".join(names))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
