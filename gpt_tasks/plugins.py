"""Find plugins, load them one by one, keep a failing one from hurting the others, and say who raised."""

from __future__ import annotations

import functools
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from types import TracebackType

import pluggy

from gpt_tasks import hookspecs
from gpt_tasks.errors import GptTasksError, PluginError, Terminated
from gpt_tasks.files import machine_errors
from gpt_tasks.offers import Offer, checked_offers, refuse_clashes
from gpt_tasks.registry import Registry
from gpt_tasks.types import Event

GROUP = "gpt_tasks"
OWN_DISTRIBUTION = "gpt-tasks"


@dataclass(frozen=True)
class Plugin:
    """A plugin as it was found: its entry point, where it comes from, what it brought, and why it failed if it did."""

    name: str
    module: str
    distribution: str
    version: str
    brings: tuple[str, ...] = ()
    error: str = ""

    @property
    def source(self) -> str:
        """The distribution and its version, as in `gpt-tasks 0.1.0`."""
        return f"{self.distribution} {self.version}".strip()

    @property
    def package(self) -> str:
        """The modules whose code is this plugin's: for a foreign one, everything in its top-level package."""
        return self.module if self.distribution == OWN_DISTRIBUTION else self.module.partition(".")[0]


@dataclass
class Plugins:
    """All plugins, what they registered, and the observers among them."""

    registry: Registry = field(default_factory=Registry)
    plugins: list[Plugin] = field(default_factory=list)
    observers: dict[str, Callable[[Event], object]] = field(default_factory=dict)

    def failures(self) -> list[Plugin]:
        """Return the plugins that could not be loaded."""
        return [plugin for plugin in self.plugins if plugin.error]

    def find(self, name: str) -> Plugin:
        """Return the plugin that was found under `name`."""
        return next(plugin for plugin in self.plugins if plugin.name == name)

    def notify(self, observers: dict[str, Callable[[Event], object]], event: Event) -> None:
        """Tell `observers` of an event. One that raises is reported and taken out of `observers`."""
        for name, observe in list(observers.items()):
            try:
                observe(event)
            except Terminated:
                raise
            except (Exception, SystemExit) as error:
                del observers[name]
                plugin = self.find(name)
                _say(
                    f"Plugin '{name}' ({plugin.source}) raised at '{event.kind}' and is left out for the rest of the "
                    f"run: {_cause(error)}"
                )

    @contextmanager
    def blaming(self, *, may_exit: bool = False) -> Iterator[None]:
        """Turn what a plugin's code raises into a PluginError that names it, and what the machine refuses into
        MachineError; let everything else through. A plugin that ends the interpreter fails too, unless it `may_exit`,
        as its commands may.
        """
        try:
            with machine_errors():
                yield
        except (GptTasksError, Terminated):
            raise
        except (Exception, SystemExit) as error:
            if may_exit and isinstance(error, SystemExit):
                raise
            for link in _chain(error):
                plugin = self._culprit(link.__traceback__)
                if plugin is not None:
                    raise PluginError(
                        f"Plugin '{plugin.name}' ({plugin.source}) failed: {_cause(link)}",
                        "Mend or upgrade the plugin; --trace shows where it failed.",
                    ) from error
            raise

    def _culprit(self, traceback: TracebackType | None) -> Plugin | None:
        found = None
        while traceback is not None:
            module = traceback.tb_frame.f_globals.get("__name__", "")
            for plugin in self.plugins:
                if module.split(".")[0] == GROUP and plugin.distribution == OWN_DISTRIBUTION:
                    continue
                if module == plugin.package or module.startswith(plugin.package + "."):
                    found = plugin
            traceback = traceback.tb_next
        return found


@functools.cache
def installed_plugins() -> Plugins:
    """Load every installed plugin, once in a process. Each failure is said in one line on stderr."""
    plugins = load_plugins(metadata.entry_points(group=GROUP))
    for plugin in plugins.failures():
        _say(f"Plugin '{plugin.name}' ({plugin.source}) is left out: {plugin.error}")
    return plugins


def load_plugins(entry_points: Iterable[metadata.EntryPoint]) -> Plugins:
    """Load the plugins behind `entry_points`, gpt-tasks' own first and the others in sorted order."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    plugins = Plugins()
    unique = {(point.name, point.value): point for point in entry_points}
    for point in sorted(unique.values(), key=_order):
        plugins.plugins.append(_load(point, manager, plugins))
    return plugins


def _order(point: metadata.EntryPoint) -> tuple[bool, str, str]:
    distribution, _ = _origin(point.dist)
    return distribution != OWN_DISTRIBUTION, distribution, point.name


@functools.cache
def _origin(distribution: metadata.Distribution | None) -> tuple[str, str]:
    if distribution is None:
        return "", ""
    return re.sub(r"[-_.]+", "-", distribution.metadata["Name"]).lower(), distribution.version


def _load(point: metadata.EntryPoint, manager: pluggy.PluginManager, plugins: Plugins) -> Plugin:
    found = functools.partial(Plugin, point.name, point.module, *_origin(point.dist))
    offers: list[Offer] = []
    try:
        if manager.has_plugin(point.name):
            raise ValueError(f"there is already a plugin called '{point.name}'")
        implementation = point.load()
        manager.register(implementation, name=point.name)
        manager.check_pending()
        for hook, implementation in _implementations(manager, point.name):
            if hook == "observe":
                plugins.observers[point.name] = _observer(implementation)
            else:
                offers.extend(checked_offers(hook, implementation.function(), plugins.registry))
        refuse_clashes(offers)
        for offer in offers:
            offer.table.add(offer.name, offer.thing, point.name)
    except Terminated:
        raise
    # SystemExit too: a plugin that ends the interpreter on import must not end the command.
    except (Exception, SystemExit) as error:
        if manager.has_plugin(point.name) and not any(plugin.name == point.name for plugin in plugins.plugins):
            manager.unregister(name=point.name)
            plugins.observers.pop(point.name, None)
        cause = _cause(error)
        # A plugin that failed on import offered nothing yet; by custom it is called as the task it brings.
        for table, name in [(plugins.registry.tasks, point.name), *((offer.table, offer.name) for offer in offers)]:
            table.lose(name, f"plugin '{point.name}' ({found().source}) failed to load: {cause}")
        return found(error=cause)
    return found(brings=tuple(f"{offer.table.kind} {offer.name}" for offer in offers))


def _implementations(manager: pluggy.PluginManager, name: str) -> Iterator[tuple[str, pluggy.HookImpl]]:
    for caller in manager.get_hookcallers(manager.get_plugin(name)) or ():
        for implementation in caller.get_hookimpls():
            if implementation.plugin_name == name:
                if implementation.wrapper or implementation.hookwrapper:
                    raise TypeError(f"{caller.name} is a wrapper; implement it as a plain function")
                yield caller.name, implementation


def _observer(implementation: pluggy.HookImpl) -> Callable[[Event], object]:
    takes_event = "event" in implementation.argnames
    return lambda event: implementation.function(event) if takes_event else implementation.function()


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, what it was raised from, and so on: libraries wrap what the code they call raises."""
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


def _cause(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _say(line: str) -> None:
    """Speak on stderr; of several processes of one run only the first does."""
    if os.environ.get("RANK", "0") == "0":
        print(line, file=sys.stderr)
