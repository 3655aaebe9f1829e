"""Everything that plugins registered, by kind and name; an unknown name is met with "did you mean"."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Generic, TypeVar

from gpt_tasks.errors import PluginError, UsageError
from gpt_tasks.extensions import BackbonePreset, HeadSpec, Method, Metric, SourceScheme, Suite

if TYPE_CHECKING:
    from typer.core import TyperCommand, TyperGroup

    from gpt_tasks.tasks.base import Task

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """The things of one kind. Looks names up as a mapping does, but an unknown one raises UsageError."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._things: dict[str, T] = {}
        self._owners: dict[str, str] = {}
        self._lost: dict[str, tuple[str, str]] = {}

    def add(self, name: str, thing: T, owner: str) -> None:
        """Enter a thing under a free name; `owner` is the plugin that brings it."""
        if name in self._things:
            raise ValueError(f"the {self.kind} name '{name}' is taken by {self._owners[name]}")
        self._things[name] = thing
        self._owners[name] = owner

    def mark_unavailable(self, name: str, cause: str, hint: str) -> None:
        """Remember that `name` would be here, had its plugin been loaded; `hint` says how it can be."""
        self._lost.setdefault(name, (cause, hint))

    def owner(self, name: str) -> str:
        """Return the plugin that brought the thing called `name`."""
        self[name]
        return self._owners[name]

    def __getitem__(self, name: str) -> T:
        if name in self._things:
            return self._things[name]
        if name in self._lost:
            cause, hint = self._lost[name]
            raise PluginError(f"The {self.kind} '{name}' is not available: {cause}", hint)
        near = get_close_matches(name.lower(), self._things, n=1, cutoff=0.5)
        raise UsageError(
            f"There is no {self.kind} '{name}'",
            f"Did you mean '{near[0]}'?" if near else f"There are: {', '.join(sorted(self._things))}.",
        )

    def __contains__(self, name: object) -> bool:
        return name in self._things

    def __iter__(self) -> Iterator[str]:
        return iter(self._things)

    def __len__(self) -> int:
        return len(self._things)


class Registries:
    """One registry for each kind of thing that a plugin can bring."""

    def __init__(self) -> None:
        self.tasks: Registry[Task] = Registry("task")
        self.metrics: Registry[Metric] = Registry("metric")
        self.suites: Registry[Suite] = Registry("suite")
        self.backbones: Registry[BackbonePreset] = Registry("backbone")
        self.heads: Registry[HeadSpec] = Registry("head")
        self.methods: Registry[Method] = Registry("method")
        self.sources: Registry[SourceScheme] = Registry("source")
        self.commands: Registry[TyperCommand | TyperGroup] = Registry("command")
