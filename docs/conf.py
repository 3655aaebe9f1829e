"""The documentation site: `sphinx-build -W -b html docs site`.

What the code itself says is written at the start into `generated/`: the commands' help, and which names are public.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import gpt_tasks
from gpt_tasks.plugins import installed_plugins

project = "gpt-tasks"
author = "the gpt-tasks authors"
release = version = gpt_tasks.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]
html_theme = "furo"
html_title = f"gpt-tasks {release}"
exclude_patterns = ["generated/.gitignore"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "description"
nitpicky = False

GENERATED = Path(__file__).parent / "generated"


def commands() -> str:
    """Return the help of every command of gpt-tasks itself, as it is printed."""
    plugins = installed_plugins()
    own = {plugin.name for plugin in plugins.plugins if plugin.distribution == "gpt-tasks"}
    names = [name for name in plugins.registry.commands if plugins.registry.commands.owner(name) in own]
    codes = "1 a bug, 2 usage, 3 a plugin, 4 data, 5 a model that cannot be loaded, 6 the machine, 130 interrupted"
    pages = ["# Commands", f"Exit codes: {codes}."]
    for name in names:
        pages += [f"## gpt-tasks {name}", f"```text\n{_help(name)}```"]
    pages += ["## gpt-tasks finetune sentiment", f"```text\n{_help('finetune', 'sentiment')}```"]
    return "\n\n".join(pages) + "\n"


def _help(*command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "gpt_tasks", *command, "--help"], check=True, capture_output=True, text=True
    )
    return done.stdout


def names(module: str, title: str) -> str:
    """Return a page that documents every public name of a module."""
    public = importlib.import_module(module)
    pages = [f"# {title}", str(public.__doc__)]
    for name in sorted(public.__all__):
        thing = getattr(public, name)
        kind = "class" if isinstance(thing, type) else "function" if callable(thing) else "data"
        members = "\n   :members:" if kind == "class" else ""
        pages.append(f"```{{eval-rst}}\n.. auto{kind}:: {module}.{name}{members}\n```")
    return "\n\n".join(pages) + "\n"


def write_generated() -> None:
    """Write the pages that follow from the code."""
    GENERATED.mkdir(exist_ok=True)
    hooks = "# Hook reference\n\n```{eval-rst}\n.. automodule:: gpt_tasks.hookspecs\n   :members:\n```\n"
    pages = {
        "commands.md": commands(),
        "api.md": names("gpt_tasks", "What plugins and programs import"),
        "testing.md": names("gpt_tasks.testing", "What tests of plugins import"),
        "hooks.md": hooks,
    }
    for name, text in pages.items():
        (GENERATED / name).write_text(text, encoding="utf-8")


write_generated()
