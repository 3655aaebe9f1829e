"""A new plugin: a small project, written from the templates in this folder."""

from __future__ import annotations

import keyword
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from difflib import get_close_matches
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template

import gpt_tasks
from gpt_tasks.errors import UsageError
from gpt_tasks.files import machine_errors
from gpt_tasks.hookspecs import HOOKS_VERSION
from gpt_tasks.paths import check_place, user_path
from gpt_tasks.plugins import Plugins
from gpt_tasks.shown import quoted
from gpt_tasks.signals import uninterrupted
from gpt_tasks.validation import why_reserved


@dataclass(frozen=True)
class Kind:
    """A kind of plugin. Its templates are in the folder of its name.

    `adds` says what the plugin adds, `use` is a command that uses it, `registries` are those of `Registries` in which
    the plugin's name must be free.
    """

    adds: str
    use: str = "gpt-tasks finetune $name"
    registries: tuple[str, ...] = ("tasks",)


KINDS: Mapping[str, Kind] = {
    "classification": Kind("a task: one of several labels for a text"),
    "multi-label": Kind("a task: all labels of a text"),
    "regression": Kind("a task: a number for a text"),
    "multiple-choice": Kind("a task: one of several choices"),
    "cloze": Kind("a task: the ending of a text", "gpt-tasks evaluate tiny --task $name --data $package/samples"),
    "span": Kind("a task: the span of a context that answers a question"),
    "text-to-text": Kind("a task: a text for a text"),
    "language-modeling": Kind("a task: texts of one style"),
    "dialogue": Kind("a task: the answers of an assistant"),
    "family": Kind(
        "a new family of tasks: a task, its learner and its head", registries=("tasks", "learners", "heads")
    ),
    "metric": Kind("a metric", "gpt-tasks list metrics", ("metrics",)),
    "suite": Kind("a suite", "gpt-tasks score tiny --suite $name", ("suites",)),
    "backbone": Kind("a backbone", "gpt-tasks generate $name", ("backbones",)),
    "head": Kind("a head", "gpt-tasks list heads", ("heads",)),
    "method": Kind("a tuning method", "gpt-tasks finetune sentiment --method $name", ("methods",)),
    "source": Kind(
        "a format of data files",
        "gpt-tasks finetune classification --data $package/samples/example.records",
        ("sources",),
    ),
    "responder": Kind("a responder", "gpt-tasks score $name:uniform --suite starter", ("responders",)),
    "observer": Kind("an observer of runs", "gpt-tasks finetune sentiment", ()),
    "command": Kind("a command", "gpt-tasks $name --help", ("commands",)),
}
"""What `gpt-tasks new --kind` can write. A further kind is an entry here and a folder of templates."""

_NAME = re.compile(r"[a-z][a-z0-9]*([_-][a-z0-9]+)*")


@dataclass(frozen=True)
class NewPlugin:
    """A project that was written: its folder, and the commands to continue with."""

    folder: Path
    commands: tuple[str, ...]


def write_plugin(name: str, kind: str, folder: str | Path | None, plugins: Plugins) -> NewPlugin:
    """Write a project whose plugin adds something of a kind under `name`, by default to ./gpt-tasks-NAME.

    Raises UsageError for an unknown kind, for a name that is no identifier or is taken by one of the `plugins`, and for
    a folder that exists. The project is written under a temporary name and renamed when it is complete.
    """
    if kind not in KINDS:
        near = get_close_matches(kind, KINDS, n=1, cutoff=0.5)
        known = f"The kinds are {', '.join(KINDS)}."
        raise UsageError(f"There is no kind '{kind}'", f"Did you mean '{near[0]}'? {known}" if near else known)
    distribution, module = f"gpt-tasks-{name}", f"gpt_tasks_{name.replace('-', '_')}"
    folder = Path(distribution) if folder is None else user_path(folder, "--output")
    _check(name, kind, module, folder, plugins)
    words = {
        "name": name,
        "adds": KINDS[kind].adds,
        "distribution": distribution,
        "module": module,
        "package": module,
        "class_name": _class_name(name),
        "version": gpt_tasks.__version__,
        "hooks": str(HOOKS_VERSION),
        "year": str(date.today().year),
    }
    use = Template(KINDS[kind].use)
    words["use"] = use.substitute(words)
    written = folder.with_name(f".{folder.name}-new")
    with machine_errors():
        # A process that was killed may have left one.
        shutil.rmtree(written, ignore_errors=True)
        try:
            _write(_contents(kind, words), words, written)
            written.rename(folder)
        finally:
            with uninterrupted():
                shutil.rmtree(written, ignore_errors=True)
    check = [f"gpt-tasks plugins check {name}"] if "tasks" in KINDS[kind].registries else []
    used = use.substitute(words, package=quoted(folder / module))
    return NewPlugin(folder, (f"pip install -e {quoted(folder)}", *check, used))


def _check(name: str, kind: str, module: str, folder: Path, plugins: Plugins) -> None:
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"'{name}' cannot be the name of a plugin",
            "A name starts with a letter and has lower-case letters, digits, and single - or _ between them.",
        )
    taken = {plugin.name: f"plugin '{plugin.name}' of {plugin.source}" for plugin in plugins.plugins}
    for registry in (getattr(plugins.registry, each) for each in KINDS[kind].registries):
        taken |= {each: f"a {registry.kind} of plugin '{registry.owner(each)}'" for each in registry}
    modules = {plugin.module.partition(".")[0]: plugin.source for plugin in plugins.plugins}
    if name in taken:
        raise UsageError(f"'{name}' is taken by {taken[name]}", "Choose another name.")
    if module in modules:
        raise UsageError(f"'{name}' is taken: {modules[module]} has the module {module}", "Choose another name.")
    registry = plugins.registry
    tables = [registry.tasks, *(getattr(registry, each) for each in KINDS[kind].registries)]
    reserved = next(filter(None, (why_reserved(table, name, registry) for table in tables)), "")
    if reserved:
        raise UsageError(f"'{name}' cannot be the name of a plugin: {reserved}", "Choose another name.")
    if folder.exists():
        raise UsageError(f"{folder} exists already", "Name another folder with --output, or move that one away.")
    check_place(folder)


def _class_name(name: str) -> str:
    """Return the name of a class, which is no keyword and hides no name that a template imports."""
    joined = "".join(part.capitalize() for part in re.split("[_-]", name))
    return f"{joined}Task" if keyword.iskeyword(joined) or joined in gpt_tasks.__all__ else joined


def _contents(kind: str, words: Mapping[str, str]) -> Mapping[str, Traversable]:
    """Return the templates of a project by the paths of the files that they become."""
    templates = files(__name__) / "templates"
    project, own = templates / "project", templates / kind
    tests = f"tests/test_{words['name'].replace('-', '_')}.py"
    contents = {
        "pyproject.toml": project / "pyproject.toml.txt",
        "README.md": project / "README.md",
        "LICENSE": project / "LICENSE",
        ".gitignore": project / "gitignore",
        ".github/workflows/ci.yml": project / "ci.yml",
        tests: project / "test_task.py.txt",
    }
    for template in own.iterdir():
        parts = template.iterdir() if template.is_dir() else (template,)
        prefix = f"{template.name}/" if template.is_dir() else ""
        for part in parts:
            path = prefix + part.name.removesuffix(".txt")
            contents[tests if path == "test.py" else f"{words['module']}/{path}"] = part
    return contents


def _write(contents: Mapping[str, Traversable], words: Mapping[str, str], folder: Path) -> None:
    for name, template in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(Template(template.read_text(encoding="utf-8")).substitute(words), encoding="utf-8")
