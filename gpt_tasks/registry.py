"""Everything that plugins registered, by kind and name; an unknown name is met with "did you mean"."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Generic, TypeVar

from gpt_tasks.errors import PluginError, UsageError
from gpt_tasks.extensions import BackbonePreset, HeadSpec, LearnerSpec, Method, Metric, Reader, ResponderSpec, Suite

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
        self._former: dict[str, str] = {}

    def add(self, name: str, thing: T, owner: str, former_names: Iterable[str] = ()) -> None:
        """Enter a thing under a free name; `owner` is the plugin that provides it. It is found by former names too."""
        if name in self._things:
            raise ValueError(f"the {self.kind} name '{name}' is taken by {self._owners[name]}")
        self._things[name] = thing
        self._owners[name] = owner
        self._former.update(dict.fromkeys(former_names, name))

    def mark_unavailable(self, name: str, cause: str, hint: str) -> None:
        """Remember that `name` would be here, had its plugin been loaded; `hint` says how it can be."""
        self._lost.setdefault(name, (cause, hint))

    def owner(self, name: str) -> str:
        """Return the plugin that registered the thing called `name`."""
        self[name]
        return self._owners[self.current_name(name)]

    def current_name(self, name: str) -> str:
        """Return the current name of a thing, where `name` may be a former one."""
        return name if name in self._things else self._former.get(name, name)

    def __getitem__(self, name: str) -> T:
        name = self.current_name(name)
        if name in self._things:
            return self._things[name]
        if name in self._lost:
            cause, hint = self._lost[name]
            raise PluginError(f"The {self.kind} '{name}' is not available: {cause}", hint)
        raise UsageError(f"There is no {self.kind} '{name}'", self.near(name))

    def near(self, name: str) -> str:
        """Return the hint for a name that nothing has: the name that was meant, or all there are."""
        near = get_close_matches(name.lower(), self._things, n=1, cutoff=0.5)
        if near:
            return f"Did you mean '{near[0]}'?"
        return f"There are: {', '.join(sorted(self._things))}." if self._things else "No installed plugin provides one."

    def offered(self) -> set[str]:
        """Return the names of all things, and of those that would be here, had their plugin been loaded."""
        return self._things.keys() | self._lost.keys() | self._former.keys()

    def __contains__(self, name: object) -> bool:
        return name in self._things

    def __iter__(self) -> Iterator[str]:
        return iter(self._things)

    def __len__(self) -> int:
        return len(self._things)


class Registries:
    """One registry for each kind of thing that a plugin can provide."""

    def __init__(self) -> None:
        self.tasks: Registry[Task] = Registry("task")
        self.metrics: Registry[Metric] = Registry("metric")
        self.suites: Registry[Suite] = Registry("suite")
        self.backbones: Registry[BackbonePreset] = Registry("backbone")
        self.heads: Registry[HeadSpec] = Registry("head")
        self.learners: Registry[LearnerSpec] = Registry("learner")
        self.methods: Registry[Method] = Registry("method")
        self.sources: Registry[Reader] = Registry("source")
        self.responders: Registry[ResponderSpec] = Registry("responder")
        self.commands: Registry[TyperCommand | TyperGroup] = Registry("command")

    def metrics_of(self, task: Task, names: Sequence[str] | None = None) -> list[Metric]:
        """Return a task's metrics, or those of other names: its own ones, registered ones, or `evaluate:` modules.

        Raises UsageError for a name that is none of them, and for one that is there already.
        """
        names = task.metrics if names is None else names
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise UsageError(f"--metric {twice[0]}: the report has this metric already", "Leave it out.")
        own = {metric.name: metric for metric in task.own_metrics}
        return [own.get(name) or self.metric(name) for name in names]

    def metric(self, name: str) -> Metric:
        """Return a registered metric, or by `evaluate:NAME_OR_FOLDER` a module of that library."""
        if name.startswith("evaluate:"):
            # Imported here: it imports the library.
            from gpt_tasks.metrics.from_evaluate import metric_of_module

            return metric_of_module(name)
        return self.metrics[name]
