"""Turn the fields of a pydantic model into flags, and the flags that were given back into settings.

Flags are passed on as the text that was given: the model turns them into numbers, so that a wrong one is reported
in the same words whether it was given on the command line, in a YAML file or in a call from Python.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from gpt_tasks.errors import UsageError

_METAVARS: dict[Any, str] = {int: "INTEGER", float: "NUMBER", Path: "PATH"}


def flags(
    model: type[BaseModel], omit: Collection[str] = (), defaults: Mapping[str, str] | None = None
) -> list[inspect.Parameter]:
    """Return a parameter of a command for every field of `model` but those in `omit`.

    `defaults` says in words where a field that is None gets its value from.
    """
    words = defaults or {}
    return [_flag(name, field, words.get(name)) for name, field in model.model_fields.items() if name not in omit]


def given(model: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was given on the command line of the fields of `model`. Raises UsageError for a broken pair."""
    settings = {name: values[name] for name in model.model_fields if values.get(name) not in (None, [])}
    for name, value in settings.items():
        if _origin(model.model_fields[name]) is dict:
            settings[name] = pairs(value, f"--{_dashed(name)}")
    return settings


def pairs(texts: Sequence[str], flag: str, form: str = "FIELD=COLUMN, as in text=review") -> dict[str, str]:
    """Read `KEY=VALUE` texts, as `form` describes them. Raises UsageError for one without `=`."""
    odd = [text for text in texts if not all(text.partition("="))]
    if odd:
        raise UsageError(f"{flag} {odd[0]} names no pair", f"Write {flag} {form}")
    found: dict[str, str] = {}
    for key, _, value in (text.partition("=") for text in texts):
        if key in found:
            raise UsageError(f"{flag} {key} is given twice: {found[key]!r} and {value!r}", "Give it once.")
        found[key] = value
    return found


def listed(model: type[BaseModel], texts: Sequence[str], flag: str) -> dict[str, Any]:
    """Read `NAME=VALUE` texts as values of a model's fields; one that is a list can be given several times.

    Raises UsageError for one without `=`, and for another that is given twice.
    """
    found: dict[str, Any] = {}
    for text in texts:
        ((name, value),) = pairs([text], flag, "NAME=VALUE").items()
        field = model.model_fields.get(name)
        if field is not None and _origin(field) in (list, tuple):
            found.setdefault(name, []).append(value)
        elif name in found:
            raise UsageError(f"{flag} {name} is given twice: {found[name]!r} and {value!r}", "Give it once.")
        else:
            found[name] = value
    return found


def taking(function: Callable[..., None], parameters: Sequence[inspect.Parameter]) -> Callable[..., None]:
    """Let Typer see `parameters` as those of a function that takes any keywords."""
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return function


def flag(
    name: str, kind: Any, help: str, *declarations: str, default: Any = None, metavar: str | None = None
) -> inspect.Parameter:
    """Return one keyword parameter that Typer reads as a flag; with `...` as its default it must be given."""
    option = typer.Option(*(declarations or (f"--{_dashed(name)}",)), help=help, metavar=metavar, show_default=False)
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option])


def _flag(name: str, field: FieldInfo, words: str | None) -> inspect.Parameter:
    origin, help = _origin(field), field.description or ""
    default = ... if field.is_required() else None
    if origin is bool:
        return flag(name, bool | None, help, f"--{_dashed(name)}/--no-{_dashed(name)}")
    if origin is dict:
        return flag(name, list[str] | None, help, default=default, metavar="FIELD=COLUMN")
    if origin in (list, tuple):
        return flag(name, list[str] | None, f"{help} Repeatable.", default=default, metavar="TEXT")
    if words is None and field.default not in (None, PydanticUndefined):
        words = str(field.default)
    metavar = "|".join(map(str, get_args(_inner(field)))) if origin is Literal else _METAVARS.get(origin, "TEXT")
    return flag(name, str | None, f"{help} [default: {words}]" if words else help, default=default, metavar=metavar)


def _origin(field: FieldInfo) -> Any:
    inner = _inner(field)
    return get_origin(inner) or inner


def _inner(field: FieldInfo) -> Any:
    """Return the field's type without `| None`."""
    if get_origin(field.annotation) in (Union, UnionType):
        kinds = [kind for kind in get_args(field.annotation) if kind is not type(None)]
        return kinds[0] if len(kinds) == 1 else str
    return field.annotation


def _dashed(name: str) -> str:
    return name.replace("_", "-")
