"""What plugins offer, checked before it is registered, so that a wrong thing is reported when it is loaded."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.abc import InspectLoader
from typing import Any

import gpt_tasks
from gpt_tasks import hookspecs
from gpt_tasks.extensions import (
    SET_BY_METHODS,
    BackbonePreset,
    FileFormat,
    HeadSpec,
    LearnerSpec,
    Method,
    MethodOptions,
    Metric,
    ResponderSpec,
    SourceScheme,
    Suite,
)
from gpt_tasks.metrics.aggregate import AGGREGATES
from gpt_tasks.registry import Registries, Registry
from gpt_tasks.tasks.base import Task
from gpt_tasks.tasks.options import TaskOptions
from gpt_tasks.tasks.prompts import prompt_fields

NAME = re.compile(r"[a-z0-9]+([_-][a-z0-9]+)*")
# A prefix of one letter before a colon is a drive of Windows.
PREFIX = re.compile(rf"(?=[a-z].){NAME.pattern}")
# Backbone sizes, in parameters, for which a method's defaults are checked.
SIZES = (1_000_000, 10_000_000, 100_000_000, 1_000_000_000, 100_000_000_000)
# How a plugin says for which version of the hooks it was written: a line of its module.
_DECLARED = re.compile(rf"^{hookspecs.DECLARATION}\s*(?::\s*\w+\s*)?=\s*(\d+)\s*(?:#.*)?$", re.MULTILINE)


@dataclass(frozen=True)
class Offer:
    """A thing that a plugin provides, its name, and the registry that it is for."""

    table: Registry[Any]
    name: str
    thing: Any


def refuse_other_version(module: str) -> None:
    """Raise ValueError where a plugin's module declares another version of the hooks.

    Its source is read and not run: what it would import may not be there in this version.
    """
    spec = importlib.util.find_spec(module)
    loader = spec.loader if spec else None
    source = loader.get_source(module) if isinstance(loader, InspectLoader) else None
    declared = _DECLARED.search(source or "")
    if declared and int(declared[1]) != hookspecs.HOOKS_VERSION:
        newer = int(declared[1]) > hookspecs.HOOKS_VERSION
        raise ValueError(
            f"it is built for version {declared[1]} of the hooks, and gpt-tasks {gpt_tasks.__version__} has version "
            f"{hookspecs.HOOKS_VERSION}: upgrade {'gpt-tasks' if newer else 'the plugin'}"
        )


def refuse_unknown_hooks(hooks: Sequence[str]) -> None:
    """Raise ValueError where one of the names that a plugin marked as hooks is none."""
    known = [name for name, value in vars(hookspecs).items() if hasattr(value, f"{hookspecs.PROJECT}_spec")]
    for name in hooks:
        if name not in known:
            near = get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(known)}"
            raise ValueError(f"unknown hook '{name}': {hint}")


def checked_offers(hook: str, returned: object, registry: Registries) -> list[Offer]:
    """Return what a hook `returned` as offers. Raises TypeError or ValueError, naming it, for what cannot be used."""
    kinds: dict[str, tuple[Registry[Any], type | tuple[type, ...]]] = {
        "register_tasks": (registry.tasks, Task),
        "register_metrics": (registry.metrics, Metric),
        "register_suites": (registry.suites, Suite),
        "register_backbones": (registry.backbones, BackbonePreset),
        "register_heads": (registry.heads, HeadSpec),
        "register_learners": (registry.learners, LearnerSpec),
        "register_methods": (registry.methods, Method),
        "register_sources": (registry.sources, (SourceScheme, FileFormat)),
        "register_responders": (registry.responders, ResponderSpec),
    }
    if hook == "register_commands":
        import typer

        kinds[hook] = (registry.commands, typer.Typer)
    table, expected = kinds[hook]
    if not isinstance(returned, Sequence) or isinstance(returned, str):
        raise TypeError(f"{hook} must return a list of {_named(expected)}, not {type(returned).__name__}")
    offers = [Offer(table, _name_of(hook, thing, expected), thing) for thing in returned]
    if hook == "register_commands":
        # Only now does Typer find that a parameter has a type it does not know, or that there is no command.
        return [Offer(table, offer.name, typer.main.get_command(offer.thing)) for offer in offers]
    for offer in offers:
        if isinstance(offer.thing, Task):
            _check_task(offer.thing)
        elif isinstance(offer.thing, Method):
            _check_method(offer.thing)
        elif isinstance(offer.thing, Metric):
            _check_metric(offer.thing)
    return offers


def refuse_clashes(offers: Sequence[Offer], registry: Registries) -> None:
    """Raise ValueError where two offers, or one and a registered thing, have the same name or read the same suffix."""
    seen: set[tuple[str, str]] = set()
    suffixes = {suffix: name for offer in offers for name, suffix in _suffixes(offer.table)}
    for offer in offers:
        key = (offer.table.kind, offer.name)
        if key in seen:
            raise ValueError(f"it registers the {offer.table.kind} '{offer.name}' twice")
        if offer.name in offer.table:
            raise ValueError(
                f"the {offer.table.kind} name '{offer.name}' is taken by plugin '{offer.table.owner(offer.name)}'"
            )
        reserved = why_reserved(offer.table, offer.name, registry)
        others = {"task": "command", "command": "task"}
        if (others.get(offer.table.kind), offer.name) in seen:
            reserved = f"it is that of a {others[offer.table.kind]} of the same plugin"
        if reserved:
            raise ValueError(f"the {offer.table.kind} name '{offer.name}' is reserved: {reserved}")
        for former in getattr(offer.thing, "former_names", ()):
            if former in offer.table or offer.table.current_name(former) != former:
                raise ValueError(
                    f"the {offer.table.kind} '{offer.name}' has the former name '{former}', which is that of "
                    f"'{offer.table.current_name(former)}'"
                )
        seen.add(key)
        for suffix in getattr(offer.thing, "suffixes", ()):
            if suffix in suffixes:
                raise ValueError(f"the format '{offer.name}' reads {suffix} files, as '{suffixes[suffix]}' does")
            suffixes[suffix] = offer.name


def why_reserved(table: Registry[Any], name: str, registry: Registries) -> str:
    """Return why a name that is free in its registry cannot be given, because it means something else; or nothing."""
    if table.kind == "metric" and name == "loss":
        return "it is what --best-by calls the loss"
    if table.kind == "task" and name in registry.commands:
        return "it is that of a command"
    if table.kind == "command" and name in registry.tasks:
        return "it is that of a task"
    if table.current_name(name) != name:
        return f"it is the former name of '{table.current_name(name)}'"
    return ""


def _suffixes(readers: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    for name, reader in readers.items():
        for suffix in getattr(reader, "suffixes", ()):
            yield suffix, name


def _named(expected: type | tuple[type, ...]) -> str:
    return " or ".join(kind.__name__ for kind in (expected if isinstance(expected, tuple) else (expected,)))


def _name_of(hook: str, thing: Any, expected: type | tuple[type, ...]) -> str:
    if not isinstance(thing, expected):
        hint = ", without its parentheses" if isinstance(thing, type) else ""
        raise TypeError(f"{hook} returned {thing!r}{hint}, which is no {_named(expected)}")
    prefix = getattr(thing, "prefix", "").removesuffix(":")
    name = prefix or getattr(thing, "name", None) or getattr(getattr(thing, "info", None), "name", None)
    for each in (name, *getattr(thing, "former_names", ())):
        # Names of models have the dots of their sizes, as in 1.7b.
        plain = str(each).replace(".", "") if isinstance(thing, BackbonePreset) else each
        if not isinstance(each, str) or not NAME.fullmatch(plain) or each.strip(".") != each:
            raise ValueError(
                f"{hook} returned a {type(thing).__name__} whose name {each!r} is not made of a-z, 0-9, single - and _"
            )
    if prefix and not PREFIX.fullmatch(prefix):
        raise ValueError(
            f"{hook} returned a {type(thing).__name__} whose prefix {prefix!r} is not two characters or more, the "
            "first of them a letter"
        )
    return str(name)


def _check_task(task: Task) -> None:
    for prompt in filter(None, (task.prompt, getattr(task, "pair_prompt", None))):
        try:
            fields = prompt_fields(prompt)
        except ValueError as error:
            raise ValueError(f"task '{task.name}': its prompt {prompt!r} cannot be read: {error}") from None
        if not fields or not all(field.isidentifier() for field in fields):
            raise ValueError(f"task '{task.name}': its prompt {prompt!r} must name the fields it reads, each in braces")
    if not (isinstance(task.Options, type) and issubclass(task.Options, TaskOptions)):
        raise TypeError(f"task '{task.name}': its Options {task.Options!r} is no subclass of TaskOptions")
    if any(metric.name == "loss" for metric in task.own_metrics):
        raise ValueError(f"task '{task.name}': its metric name 'loss' is reserved: it is what --best-by calls the loss")
    for what in ("labels", "metrics"):
        names = getattr(task, what, ())
        if isinstance(names, str) or not all(isinstance(name, str) for name in names):
            raise TypeError(f"task '{task.name}': its {what} {names!r} are no tuple of texts")


def _check_method(method: Method) -> None:
    if not (isinstance(method.options, type) and issubclass(method.options, MethodOptions)):
        raise TypeError(f"method '{method.name}': its options {method.options!r} are no subclass of MethodOptions")
    prefix = f"{method.name.replace('-', '_')}_"
    for name, field in method.options.model_fields.items():
        if not name.startswith(prefix):
            raise ValueError(f"method '{method.name}': the name of its option '{name}' does not begin with '{prefix}'")
        if field.is_required():
            raise ValueError(f"method '{method.name}': its option '{name}' has no default")
    places = method.num_virtual_tokens
    places = places(method.options()) if callable(places) else places
    if not isinstance(places, int) or places < 0:
        raise TypeError(f"method '{method.name}': its num_virtual_tokens is {places!r}, not a number of places")
    for size in SIZES:
        defaults = method.defaults(size)
        if not isinstance(defaults, Mapping):
            raise TypeError(f"method '{method.name}': its defaults are a {type(defaults).__name__}, not a mapping")
        for name, value in defaults.items():
            if name not in SET_BY_METHODS:
                known = ", ".join(SET_BY_METHODS)
                raise ValueError(f"method '{method.name}': there is no setting '{name}' to give a default; {known}")
            if not isinstance(value, int | float) or isinstance(value, bool):
                raise TypeError(f"method '{method.name}': its default {name} is {value!r}, not a number")


def _check_metric(metric: Metric) -> None:
    if metric.better not in ("higher", "lower"):
        raise ValueError(f"metric '{metric.name}': better is {metric.better!r}, neither 'higher' nor 'lower'")
    if metric.whole is None and isinstance(metric.aggregate, str) and metric.aggregate not in AGGREGATES:
        known = ", ".join(AGGREGATES)
        raise ValueError(f"metric '{metric.name}': there is no aggregate '{metric.aggregate}'; there are {known}")
    if metric.whole is None and metric.statistic is None and metric.each is None:
        raise ValueError(f"metric '{metric.name}' has no statistic, each or whole: it could not be computed")
