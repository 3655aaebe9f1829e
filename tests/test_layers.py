"""A room imports from its own floor or a lower one, no family is named elsewhere, light rooms import nothing heavy."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import gpt_tasks

ROOT = Path(__file__).parents[1]
FLOORS = {
    "errors": 0,
    "types": 0,
    "extensions": 0,
    "files": 0,
    "signals": 0,
    "entry_points": 0,
    "paths": 0,
    "processes": 0,
    "threads": 0,
    "checksums": 0,
    "saved_json": 0,
    "strict_yaml": 0,
    "words": 0,
    "shown": 0,
    "limits": 0,
    "progress": 0,
    "hookspecs": 1,
    "metrics": 1,
    "tasks": 2,
    "registry": 3,
    "plugins": 3,
    "validation": 3,
    "events": 3,
    "data": 4,
    "backbone": 4,
    "heads": 4,
    "scoring": 5,
    "generation": 5,
    "evaluation": 6,
    "learners": 7,
    "training": 8,
    "pretraining": 9,
    "testing": 9,
    "cli": 10,
    "scaffold": 10,
    "__main__": 10,
}
# What an annotation alone names: a hook's signature says what it returns.
ANNOTATIONS = {("hookspecs", "tasks")}
# Modules of these rooms are imported by commands that compute nothing.
LIGHT = {room for room, floor in FLOORS.items() if floor in (0, 2, 3, 10)} | {"hookspecs"}
HEAVY = {
    "accelerate",
    "datasets",
    "evaluate",
    "matplotlib",
    "numpy",
    "pandas",
    "peft",
    "pyarrow",
    "scipy",
    "sklearn",
    "torch",
    "transformers",
}
# Named by the entry points, so that every command imports them.
LOADED_BY_EVERY_COMMAND = {
    "metrics/__init__.py",
    "heads/__init__.py",
    "backbone/presets.py",
    "backbone/methods.py",
    "data/hub.py",
    "data/sqlite.py",
    "learners/__init__.py",
}
MODULES = sorted((ROOT / "gpt_tasks").rglob("*.py"))


def room_of(path: Path) -> str:
    """`gpt_tasks/data/splits.py` is in the room `data`, `gpt_tasks/errors.py` in the room `errors`."""
    return path.relative_to(ROOT / "gpt_tasks").with_suffix("").parts[0]


def imported(node: ast.AST) -> list[str]:
    """The modules that a statement imports, with full names."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute"
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def when_imported(tree: ast.AST) -> Iterator[ast.AST]:
    """The statements that run when the module is imported: none in functions, none under TYPE_CHECKING."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            continue
        yield child
        yield from when_imported(child)


def rooms_imported(path: Path) -> Iterator[tuple[int, str]]:
    """Each room of gpt_tasks that a module imports from, anywhere in it, with the line."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        for name in imported(node):
            package, _, rest = name.partition(".")
            room = rest.partition(".")[0]
            assert package != "gpt_tasks_plugins", f"line {node.lineno}: the core knows no plugin by name"
            if package == "gpt_tasks" and room not in ("", "__version__"):
                assert room in FLOORS, f"line {node.lineno}: name the room that {room} is in"
                yield node.lineno, room


def test_every_room_has_a_floor() -> None:
    assert {room_of(path) for path in MODULES} - {"__init__"} == set(FLOORS)


# gpt_tasks/__init__.py offers the public names of all rooms, lazily.
INSIDE = [path for path in MODULES if path != ROOT / "gpt_tasks" / "__init__.py"]


@pytest.mark.parametrize("path", INSIDE, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down(path) -> None:
    own = room_of(path)
    for line, room in rooms_imported(path):
        if (own, room) not in ANNOTATIONS:
            assert FLOORS[room] <= FLOORS[own], f"line {line}: {own} imports {room}, which is above it"


def test_rooms_form_no_circle() -> None:
    below: dict[str, set[str]] = {room: set() for room in FLOORS}
    for path in INSIDE:
        own = room_of(path)
        below[own] |= {room for _, room in rooms_imported(path) if room != own and (own, room) not in ANNOTATIONS}
    TopologicalSorter(below).prepare()


FAMILIES = {
    name
    for folder in ("tasks", "learners")
    for path in (ROOT / "gpt_tasks" / folder).glob("*.py")
    if path.stem not in ("base", "fixtures", "inference")
    for node in ast.parse(path.read_text(encoding="utf-8")).body
    if isinstance(node, ast.ClassDef) and (name := node.name).endswith(("Task", "Learner"))
}


def test_families_are_found() -> None:
    assert {"ClassificationTask", "SpanTask", "TextToTextTask", "CausalLearner", "SpanLearner"} <= FAMILIES


@pytest.mark.parametrize(
    "path", [path for path in INSIDE if room_of(path) not in ("tasks", "learners")], ids=lambda path: str(path.name)
)
def test_no_family_is_named_outside_of_tasks_and_learners(path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else None
        names = {name, *(each.rpartition(".")[2] for each in imported(node))}
        assert not names & FAMILIES, f"line {node.lineno}: {names & FAMILIES}"


@pytest.mark.parametrize(
    "path",
    [
        path
        for path in MODULES
        if room_of(path) in LIGHT or str(path.relative_to(ROOT / "gpt_tasks")) in LOADED_BY_EVERY_COMMAND
    ],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_light_rooms_import_no_heavy_library(path) -> None:
    for node in when_imported(ast.parse(path.read_text(encoding="utf-8"))):
        heavy = {name.partition(".")[0] for name in imported(node)} & HEAVY
        assert not heavy, f"line {node.lineno}: import {', '.join(heavy)} inside the function that needs it"


BUILT_IN = sorted((ROOT / "plugins").rglob("*.py"))


@pytest.mark.parametrize("path", BUILT_IN, ids=lambda path: str(path.relative_to(ROOT / "plugins")))
def test_built_in_plugins_use_what_is_public_only(path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        for name in imported(node):
            if name.startswith("gpt_tasks."):
                assert name.removeprefix("gpt_tasks.") in gpt_tasks.__all__, f"line {node.lineno}: {name}"


@pytest.mark.parametrize(
    "path", [path for path in BUILT_IN if path.name == "__init__.py"], ids=lambda path: path.parent.name
)
def test_built_in_plugins_import_no_heavy_library_when_they_are_loaded(path) -> None:
    loaded, seen = [path], set()
    while loaded:
        seen.add(module := loaded.pop())
        for node in when_imported(ast.parse(module.read_text(encoding="utf-8"))):
            for name in imported(node):
                assert name.partition(".")[0] not in HEAVY, f"{module.name}, line {node.lineno}: {name}"
                place = (ROOT / "plugins" / name.rpartition(".")[0].replace(".", "/")).with_suffix(".py")
                if place.is_file() and place not in seen:
                    loaded.append(place)
