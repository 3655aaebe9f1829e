"""A room imports from its own level or a lower one, and no light room imports a heavy library."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LEVELS = {
    "errors": 0,
    "types": 0,
    "extensions": 0,
    "files": 0,
    "processes": 0,
    "hookspecs": 1,
    "tasks": 1,
    "plugins": 2,
    "registry": 2,
    "validation": 2,
    "metrics": 3,
    "data": 3,
    "backbone": 3,
    "heads": 3,
    "training": 4,
    "pretraining": 4,
    "scoring": 4,
    "evaluation": 4,
    "generation": 4,
    "cli": 5,
    "scaffold": 5,
    "testing": 5,
    "__main__": 5,
}
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
}
MODULES = sorted((ROOT / "gpt_tasks").rglob("*.py"))


def room_of(path: Path) -> str:
    """`gpt_tasks/data/splits.py` stands in the room `data`, `gpt_tasks/errors.py` in the room `errors`."""
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


def test_every_room_has_a_level() -> None:
    rooms = {room_of(path) for path in MODULES} - {"__init__"}
    assert rooms <= set(LEVELS)


# gpt_tasks/__init__.py offers the public names of all rooms, lazily.
@pytest.mark.parametrize(
    "path",
    [path for path in MODULES if path != ROOT / "gpt_tasks" / "__init__.py"],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_imports_go_down(path) -> None:
    level = LEVELS[room_of(path)]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        for name in imported(node):
            package, _, rest = name.partition(".")
            room = rest.partition(".")[0]
            assert package != "gpt_tasks_plugins", f"line {node.lineno}: the core knows no plugin by name"
            if package == "gpt_tasks":
                assert room in {*LEVELS, "", "__version__"}, f"line {node.lineno}: name the room that {room} stands in"
            if package == "gpt_tasks" and room in LEVELS:
                assert LEVELS[room] <= level, f"line {node.lineno}: {room_of(path)} imports {room}, which is above it"


@pytest.mark.parametrize(
    "path",
    [
        path
        for path in MODULES
        if LEVELS.get(room_of(path), 0) in (0, 1, 2, 5)
        or str(path.relative_to(ROOT / "gpt_tasks")) in LOADED_BY_EVERY_COMMAND
    ],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_light_rooms_import_no_heavy_library(path) -> None:
    for node in when_imported(ast.parse(path.read_text(encoding="utf-8"))):
        heavy = {name.partition(".")[0] for name in imported(node)} & HEAVY
        assert not heavy, f"line {node.lineno}: import {', '.join(heavy)} inside the function that needs it"


@pytest.mark.parametrize("path", sorted((ROOT / "plugins").rglob("*.py")), ids=lambda path: path.parent.name)
def test_built_in_plugins_use_what_is_public_only(path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        for name in imported(node):
            assert name.partition(".")[0] not in HEAVY
            assert not any(part.startswith("_") for part in name.split(".")) or name.startswith("__future__")
