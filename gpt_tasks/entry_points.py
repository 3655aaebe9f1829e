"""The entry points of what is installed: damaged distributions are named, and keep none of the others back."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import metadata
from typing import NamedTuple

from gpt_tasks.errors import said

_read: Callable[[metadata.Distribution], metadata.EntryPoints] = metadata.Distribution.entry_points.fget  # type: ignore[attr-defined]


class Damaged(NamedTuple):
    """An entry point that cannot be read, or a distribution: what it is called, where it stands, and the cause."""

    name: str
    source: str
    cause: str


def installed_entry_points(group: str) -> tuple[list[metadata.EntryPoint], list[Damaged]]:
    """Return the entry points of a group, and what of it is damaged. Of two distributions of one name the first counts.

    What is damaged in distributions without entry points of the group is of no interest.
    """
    points: list[metadata.EntryPoint] = []
    damaged: list[Damaged] = []
    seen = set[str]()
    for distribution in metadata.distributions():
        # The name of its folder, as its own may be what is damaged.
        source = getattr(getattr(distribution, "_path", None), "name", "unknown")
        try:
            if not re.search(rf"^\s*\[\s*{group}\s*\]", distribution.read_text("entry_points.txt") or "", re.M):
                continue
            name = _name(distribution)
            if name in seen:
                continue
            seen.add(name)
            found = [point for point in _read(distribution) if point.group == group]
        except Exception as error:
            damaged.append(Damaged(source.partition("-")[0], source, said(error) or type(error).__name__))
            continue
        for point in found:
            if metadata.EntryPoint.pattern.match(point.value):
                points.append(point)
            else:
                damaged.append(Damaged(point.name, name, f"its entry point '{point.value}' names no module"))
    return points, damaged


def hide_damaged() -> None:
    """Let libraries find no entry points in a distribution where they cannot be read.

    pydantic and torch ask for those of all distributions when they are imported, and one that is damaged stops both.
    """

    def entry_points(distribution: metadata.Distribution) -> metadata.EntryPoints:
        try:
            return _read(distribution)
        except Exception:
            return metadata.EntryPoints(())

    metadata.Distribution.entry_points = property(entry_points)  # type: ignore[assignment,method-assign]


def _name(distribution: metadata.Distribution) -> str:
    if not any(distribution.read_text(file) for file in ("METADATA", "PKG-INFO")):
        raise ValueError("the METADATA of its distribution is missing or empty")
    name, version = distribution.metadata["Name"], distribution.metadata["Version"]
    if not name or not version:
        raise ValueError(f"the METADATA of its distribution has no {'Version' if name else 'Name'}")
    return re.sub(r"[-_.]+", "-", name).lower()
