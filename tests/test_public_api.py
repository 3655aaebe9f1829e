"""What authors may import is unchanged, unless a change is intended and documented.

`python tests/test_public_api.py` writes the pinned signatures anew.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PINNED = Path(__file__).parent / "public_api.txt"
MODULES = ("gpt_tasks", "gpt_tasks.testing")
# The address of an object, and what a default is made of, are not part of the API.
_PLACES = re.compile(r" at 0x[0-9a-f]+")


def described() -> list[str]:
    """Every public name with its signature, a line each, and every public member of a class."""
    lines = []
    for module in map(importlib.import_module, MODULES):
        for name in sorted(module.__all__):
            lines += _lines(f"{module.__name__}.{name}", getattr(module, name))
    return lines


def _lines(name: str, thing: Any) -> Iterator[str]:
    if not inspect.isclass(thing):
        yield f"{name}{_signature(thing)}" if callable(thing) else f"{name}: {type(thing).__name__}"
        return
    bases = [base.__name__ for base in thing.__mro__[1:] if base.__module__.startswith("gpt_tasks")]
    # How pydantic writes a signature is its own affair.
    fields = ", ".join(getattr(thing, "model_fields", ()))
    yield f"class {name}{f'({fields})' if fields else _signature(thing)}" + (f" of {', '.join(bases)}" if bases else "")
    for member in sorted(vars(thing)):
        value = inspect.getattr_static(thing, member)
        if member.startswith("_") or member in ("model_config", "model_fields", "model_computed_fields"):
            continue
        if isinstance(value, staticmethod | classmethod):
            value = value.__func__
        yield f"    {member}{_signature(value)}" if inspect.isfunction(value) else f"    {member}"


def _signature(thing: Any) -> str:
    try:
        return _PLACES.sub("", str(inspect.signature(thing)))
    except (ValueError, TypeError):
        return ""


def test_names_and_signatures_are_those_that_are_pinned() -> None:
    pinned, found = PINNED.read_text(encoding="utf-8").splitlines(), described()
    changes = [
        line
        for line in difflib.unified_diff(pinned, found, lineterm="", n=0)
        if not line.startswith(("---", "+++", "@@"))
    ]
    if changes:
        told = "\n".join(f"- {'Removed' if line[0] == '-' else 'Added'}: `{line[1:].strip()}`" for line in changes)
        pytest.fail(
            f"The public API changed. If that is meant, write in CHANGELOG.md under the next version:\n{told}\n"
            "and pin it: python tests/test_public_api.py",
            pytrace=False,
        )


def test_a_change_fails_with_the_words_for_the_changelog(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pinned = PINNED.read_text(encoding="utf-8").replace("gpt_tasks.load(", "gpt_tasks.open(")
    (tmp_path / "pinned.txt").write_text(pinned, encoding="utf-8")
    monkeypatch.setattr(sys.modules[__name__], "PINNED", tmp_path / "pinned.txt")
    with pytest.raises(
        pytest.fail.Exception, match=r"(?s)CHANGELOG.md.*- Removed: `gpt_tasks.open\(.*- Added: `gpt_tasks.load\("
    ):
        test_names_and_signatures_are_those_that_are_pinned()


def test_every_public_name_says_what_it_is() -> None:
    for module in map(importlib.import_module, MODULES):
        for name in module.__all__:
            thing = getattr(module, name)
            assert inspect.getdoc(thing) or not (inspect.isclass(thing) or inspect.isfunction(thing)), name


def test_authors_are_shown_public_names_alone() -> None:
    shown = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").rglob("*.py")]
    shown += [*(ROOT / "plugins").rglob("*.py"), *(ROOT / "gpt_tasks" / "scaffold").rglob("*.txt")]
    imports = {
        (path.name, match)
        for path in shown
        for match in re.findall(
            r"^ *(?:from|import) (gpt_tasks(?:\.\w+)+)", path.read_text(encoding="utf-8"), flags=re.M
        )
    }
    assert {module for _, module in imports} <= {"gpt_tasks.testing"}, imports
    for path in shown:
        for line in re.findall(r"^ *from gpt_tasks import (.+)$", path.read_text(encoding="utf-8"), flags=re.M):
            assert set(re.findall(r"\w+", line)) <= set(importlib.import_module("gpt_tasks").__all__), path


if __name__ == "__main__":
    PINNED.write_text("\n".join(described()) + "\n", encoding="utf-8")
