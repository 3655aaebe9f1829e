"""Find plugins, load them one by one, keep a failing one from hurting the others, and say who raised."""

from __future__ import annotations

import functools
import os
import re
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from importlib import metadata
from types import TracebackType

import pluggy

from gpt_tasks import hookspecs
from gpt_tasks.entry_points import installed_entry_points
from gpt_tasks.errors import GptTasksError, PluginError, Terminated, UsageError, said
from gpt_tasks.files import machine_errors
from gpt_tasks.registry import Registries
from gpt_tasks.shown import tell
from gpt_tasks.threads import once
from gpt_tasks.types import Event
from gpt_tasks.validation import (
    NAME,
    Offer,
    checked_offers,
    refuse_clashes,
    refuse_other_version,
    refuse_unknown_hooks,
)

GROUP = "gpt_tasks"
OWN_DISTRIBUTION = "gpt-tasks"
SELECTED = "GPT_TASKS_PLUGINS"
STRICT = "GPT_TASKS_STRICT"
_SWITCHES = {**dict.fromkeys(("1", "true", "yes"), True), **dict.fromkeys(("0", "false", "no", ""), False)}
PATIENCE = 10.0
"""After so many seconds of an import stderr says whose it is."""
_STRICT_HINT = f"Fix, upgrade or uninstall the plugin, or unset {STRICT}; --trace shows where it failed."


@dataclass(frozen=True)
class Plugin:
    """A plugin as it was found: its entry point, where it comes from, which hooks it implements and what it registers.

    `seconds` is how long it took to load, on the wall clock; what several plugins import counts for the first. `error`
    says why it failed, if it did.
    """

    name: str
    module: str
    distribution: str
    version: str
    hooks: tuple[str, ...] = ()
    brings: tuple[str, ...] = ()
    seconds: float = 0.0
    selected: bool = True
    error: str = ""

    @property
    def state(self) -> str:
        """`ok`, `left out` for one that failed, or `not selected`."""
        return "left out" if self.error else "ok" if self.selected else "not selected"

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
    """All plugins, what they registered, and the observers among them. If `strict`, a failure is an error at once."""

    registry: Registries = field(default_factory=Registries)
    plugins: list[Plugin] = field(default_factory=list)
    observers: dict[str, Callable[[Event], object]] = field(default_factory=dict)
    strict: bool = False

    def failures(self) -> list[Plugin]:
        """Return the plugins that could not be loaded."""
        return [plugin for plugin in self.plugins if plugin.error]

    def find(self, name: str) -> Plugin:
        """Return the plugin that was found under `name`."""
        return next(plugin for plugin in self.plugins if plugin.name == name)

    def notify(self, observers: dict[str, Callable[[Event], object]], event: Event) -> None:
        """Send an event to `observers`. One that raises is reported and taken out of `observers`, or if `strict` a
        PluginError.
        """
        for name, observe in list(observers.items()):
            try:
                observe(event)
            except Terminated:
                raise
            except (Exception, SystemExit) as error:
                del observers[name]
                told = f"Plugin '{name}' ({self.find(name).source}) raised at '{event.kind}'"
                if self.strict:
                    raise PluginError(f"{told}: {_cause(error)}", _STRICT_HINT) from error
                _say(f"{told} and is left out for the rest of the run: {_cause(error)}")

    @contextmanager
    def attribute_errors(self, *, may_exit: bool = False, suspect: Plugin | None = None) -> Iterator[None]:
        """Turn what a plugin's code raises into a PluginError that names it, and what the machine refuses into
        MachineError; let everything else through. A plugin that ends the interpreter fails too, unless it `may_exit`,
        as its commands may. What libraries raise about what a foreign `suspect` gave them is attributed to it.
        """
        try:
            # A file that a plugin misses is the plugin's fault.
            with machine_errors(of_files=False):
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
                        "Fix or upgrade the plugin; --trace shows where it failed.",
                    ) from error
            # A missing name is an error of the code that uses it, with any arguments.
            ours = isinstance(error, SystemExit | NameError | ImportError)
            if suspect is not None and suspect.distribution != OWN_DISTRIBUTION and not ours:
                raise PluginError(
                    f"What plugin '{suspect.name}' ({suspect.source}) computes cannot be used: {_cause(error)}",
                    "Fix or upgrade the plugin; --trace shows where it failed.",
                ) from error
            raise

    def _culprit(self, traceback: TracebackType | None) -> Plugin | None:
        found = None
        while traceback is not None:
            module = traceback.tb_frame.f_globals.get("__name__", "")
            for plugin in self.plugins:
                if module.split(".")[0] == GROUP and plugin.distribution == OWN_DISTRIBUTION:
                    continue
                if plugin.module and (module == plugin.package or module.startswith(plugin.package + ".")):
                    found = plugin
            traceback = traceback.tb_next
        return found


@once
def installed_plugins() -> Plugins:
    """Load the installed plugins, once in a process. Each failure is reported in one line on stderr.

    The environment variable GPT_TASKS_PLUGINS names the only ones to load besides gpt-tasks' own, with commas between
    them; empty, it selects none. With GPT_TASKS_STRICT=1 (or true, or yes) the first failure is a PluginError. Raises
    UsageError for a selected name that is not installed, and for another value of GPT_TASKS_STRICT than 0, false or no.
    """
    chosen = os.environ.get(SELECTED)
    selected = None if chosen is None else {name for name in map(str.strip, chosen.split(",")) if name}
    strict = _switched_on(STRICT)
    points, damaged = installed_entry_points(GROUP)
    plugins = load_plugins(points, selected, strict=strict)
    for each in damaged:
        if strict:
            raise PluginError(f"Plugin '{each.name}' ({each.source}) cannot be loaded: {each.cause}", _STRICT_HINT)
        plugins.plugins.append(Plugin(each.name, "", each.source, "", error=each.cause))
    for plugin in plugins.failures():
        _say(f"Plugin '{plugin.name}' ({plugin.source}) is left out: {plugin.error}")
    return plugins


def load_plugins(
    entry_points: Iterable[metadata.EntryPoint], selected: Collection[str] | None = None, *, strict: bool = False
) -> Plugins:
    """Load the plugins behind `entry_points`, gpt-tasks' own first and the others in sorted order.

    With `selected`, only those of the others are loaded; UsageError is raised for a name that is not among them.
    If `strict`, the first failure is a PluginError.
    """
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    plugins = Plugins(strict=strict)
    unique = {(point.name, point.value): point for point in entry_points}
    _refuse_unknown(selected or (), unique.values())
    for point in sorted(unique.values(), key=_order):
        if selected is None or point.name in selected or _is_own(point):
            plugins.plugins.append(_load(point, manager, plugins))
        else:
            plugin = Plugin(point.name, point.module, *_origin(point.dist), selected=False)
            plugins.plugins.append(plugin)
            told = f"plugin '{plugin.name}' ({plugin.source}) is not among those that {SELECTED} selects"
            plugins.registry.tasks.mark_unavailable(plugin.name, told, f"Add it to {SELECTED}, or unset that.")
    return plugins


def _switched_on(variable: str) -> bool:
    """Return what a variable of the environment says. Raises UsageError where it is neither yes nor no."""
    value = os.environ.get(variable, "").strip().lower()
    if value not in _SWITCHES:
        raise UsageError(
            f"{variable}={os.environ[variable]}: this is neither yes nor no",
            f"Set it to one of {', '.join(filter(None, _SWITCHES))}, or unset it.",
        )
    return _SWITCHES[value]


def _refuse_unknown(selected: Collection[str], points: Collection[metadata.EntryPoint]) -> None:
    unknown = sorted(set(selected) - {point.name for point in points})
    if unknown:
        others = sorted({point.name for point in points if not _is_own(point)})
        raise UsageError(
            f"{SELECTED}: no plugin called '{unknown[0]}' is installed",
            f"Installed besides gpt-tasks' own: {', '.join(others)}." if others else "Only gpt-tasks' own are.",
        )


def _is_own(point: metadata.EntryPoint) -> bool:
    return _origin(point.dist)[0] == OWN_DISTRIBUTION


def _order(point: metadata.EntryPoint) -> tuple[bool, str, str]:
    return not _is_own(point), _origin(point.dist)[0], point.name


@functools.cache
def _origin(distribution: metadata.Distribution | None) -> tuple[str, str]:
    if distribution is None:
        return "", ""
    return re.sub(r"[-_.]+", "-", distribution.metadata["Name"]).lower(), distribution.version


def _load(point: metadata.EntryPoint, manager: pluggy.PluginManager, plugins: Plugins) -> Plugin:
    found = functools.partial(Plugin, point.name, point.module, *_origin(point.dist))
    offers: list[Offer] = []
    hooks: tuple[str, ...] = ()
    started = time.perf_counter()
    try:
        if not NAME.fullmatch(point.name):
            raise ValueError(f"the plugin's name {point.name!r} is not made of a-z, 0-9, single - and _")
        if manager.has_plugin(point.name):
            raise ValueError(f"there is already a plugin called '{point.name}'")
        with nullcontext() if _is_own(point) else _named_if_slow(f"Plugin '{point.name}' ({found().source})"):
            if not _is_own(point):
                refuse_other_version(point.module)
            implementation = point.load()
        manager.register(implementation, name=point.name)
        hooks = tuple(caller.name for caller in manager.get_hookcallers(implementation) or ())
        refuse_unknown_hooks(hooks)
        manager.check_pending()
        for hook, implementation in _implementations(manager, point.name):
            if hook == "observe":
                plugins.observers[point.name] = _observer(implementation)
            else:
                offers.extend(checked_offers(hook, implementation.function(), plugins.registry))
        refuse_clashes(offers, plugins.registry)
        for offer in offers:
            offer.table.add(offer.name, offer.thing, point.name, getattr(offer.thing, "former_names", ()))
    except (Terminated, KeyboardInterrupt):
        raise
    # A plugin that ends the interpreter on import, or whose native code panics, must not end the command.
    except BaseException as error:
        if manager.has_plugin(point.name) and not any(plugin.name == point.name for plugin in plugins.plugins):
            manager.unregister(name=point.name)
            plugins.observers.pop(point.name, None)
        cause = _cause(error)
        if plugins.strict:
            told = f"Plugin '{point.name}' ({found().source}) cannot be loaded: {cause}"
            raise PluginError(told, _STRICT_HINT) from error
        # A plugin that failed on import has registered nothing; by convention it has the name of its task.
        for table, name in [(plugins.registry.tasks, point.name), *((offer.table, offer.name) for offer in offers)]:
            table.mark_unavailable(
                name,
                f"plugin '{point.name}' ({found().source}) failed to load: {cause}",
                "Fix, upgrade or uninstall that plugin; gpt-tasks plugins lists them all.",
            )
        return found(hooks=hooks, seconds=time.perf_counter() - started, error=cause)
    brings = tuple(f"{offer.table.kind} {offer.name}" for offer in offers)
    return found(hooks=hooks, brings=brings, seconds=time.perf_counter() - started)


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


@contextmanager
def _named_if_slow(who: str) -> Iterator[None]:
    timer = threading.Timer(PATIENCE, _say, [f"{who} is still loading after {PATIENCE:g} seconds."])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _cause(error: BaseException) -> str:
    text = said(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _say(line: str) -> None:
    """Print to stderr; of several processes of one run only the first does."""
    if os.environ.get("RANK", "0") == "0":
        tell(line)
