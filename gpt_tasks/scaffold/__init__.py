"""A new plugin: a small project that is right from the start, made of the templates beside this file."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template
from typing import Literal

import gpt_tasks
from gpt_tasks.errors import UsageError
from gpt_tasks.files import machine_errors
from gpt_tasks.hookspecs import HOOKS_VERSION
from gpt_tasks.plugins import Plugins

Kind = Literal["classification", "choice", "span", "text-to-text", "language-modeling", "metric", "suite", "backbone"]
"""What a plugin brings: a task of one of five families, or something beside tasks."""

_NAME = re.compile(r"[a-z][a-z0-9]*([_-][a-z0-9]+)*")
_TASKS = "tasks"
# Where a kind that is no task is registered, and how it is put to use.
_BESIDE_TASKS = {
    "metric": ("metrics", "gpt-tasks list metrics"),
    "suite": ("suites", "gpt-tasks score tiny --suite $name"),
    "backbone": ("backbones", "gpt-tasks generate $name"),
}


@dataclass(frozen=True)
class NewPlugin:
    """A project that was written: its folder, and the commands to go on with."""

    folder: Path
    commands: tuple[str, ...]


def write_plugin(name: str, kind: Kind, folder: Path | None, plugins: Plugins) -> NewPlugin:
    """Write a project whose plugin brings something of a kind under `name`, by default to ./gpt-tasks-NAME.

    Raises UsageError for a name that is no identifier or is taken, and for a folder that is there already. It is
    written under another name and renamed when it is whole.
    """
    distribution = f"gpt-tasks-{name}"
    folder = folder or Path(distribution)
    table, use = _BESIDE_TASKS.get(kind, (_TASKS, "gpt-tasks finetune $name"))
    _check(name, table, folder, plugins)
    module = f"gpt_tasks_{name.replace('-', '_')}"
    words = {
        "name": name,
        "kind": "task" if table == _TASKS else kind,
        "distribution": distribution,
        "module": module,
        "class_name": "".join(part.capitalize() for part in re.split("[_-]", name)),
        "version": gpt_tasks.__version__,
        "hooks": str(HOOKS_VERSION),
        "year": str(date.today().year),
    }
    words["use"] = Template(use).substitute(words)
    written = folder.with_name(f".{folder.name}-new")
    with machine_errors():
        try:
            _write(_contents(kind, module, name), words, written)
            written.rename(folder)
        finally:
            shutil.rmtree(written, ignore_errors=True)
    check = [f"gpt-tasks plugins check {name}"] if table == _TASKS else []
    return NewPlugin(folder, (f"pip install -e {folder}", *check, words["use"]))


def _check(name: str, table: str, folder: Path, plugins: Plugins) -> None:
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"'{name}' is no name for a plugin",
            "A name begins with a letter and holds small letters, digits, and single - or _ between them.",
        )
    taken = {plugin.name: f"plugin '{plugin.name}' of {plugin.source}" for plugin in plugins.plugins}
    names = getattr(plugins.registry, table)
    taken |= {each: f"plugin '{names.owner(each)}'" for each in names}
    if name in taken:
        raise UsageError(f"'{name}' is taken by {taken[name]}", "Choose another name.")
    if folder.exists():
        raise UsageError(f"{folder} is there already", "Name another folder with --output, or move that one away.")


def _contents(kind: Kind, module: str, name: str) -> Mapping[str, Traversable]:
    """Return the files of a project: their places, and the templates that they are made of."""
    templates = files(__name__) / "templates"
    project, own = templates / "project", templates / kind
    test = own / "test.py.txt"
    contents = {
        "pyproject.toml": project / "pyproject.toml.txt",
        "README.md": project / "README.md",
        "LICENSE": project / "LICENSE",
        ".gitignore": project / "gitignore",
        ".github/workflows/ci.yml": project / "ci.yml",
        f"{module}/__init__.py": own / "module.py.txt",
        f"tests/test_{name.replace('-', '_')}.py": test if test.is_file() else project / "test_task.py.txt",
    }
    data = [file for file in own.iterdir() if file.name.endswith((".jsonl", ".yaml"))]
    contents |= {f"{module}/{file.name}": file for file in data}
    if (own / "samples").is_dir():
        contents |= {f"{module}/samples/{file.name}": file for file in (own / "samples").iterdir()}
    return contents


def _write(contents: Mapping[str, Traversable], words: Mapping[str, str], folder: Path) -> None:
    for place, template in contents.items():
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(Template(template.read_text(encoding="utf-8")).substitute(words), encoding="utf-8")
