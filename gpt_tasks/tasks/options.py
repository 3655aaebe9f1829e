"""The settings of tasks as pydantic models, and the error that names a wrong one."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.config import JsonDict

from gpt_tasks.errors import UsageError

M = TypeVar("M", bound=BaseModel)


class TaskOptions(BaseModel):
    """A task's own settings. Each field becomes a flag of `gpt-tasks finetune TASK`; a family adds its fields.

    A field with `json_schema_extra=ASKED` acts only where a model is asked without training, and is no flag; one with
    `TRAINED` only where a model is trained. One with `READING` says how data are read, so that it can differ where a
    finished run is evaluated; all others are fixed by the training. These are `{"only": "asked"}`,
    `{"only": "trained"}` and `{"reading": True}`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)


ASKED: JsonDict = {"only": "asked"}
TRAINED: JsonDict = {"only": "trained"}
READING: JsonDict = {"reading": True}


def useless_options(model: type[BaseModel], use: Literal["asked", "trained"]) -> list[str]:
    """Return the options that have no effect on a model that is asked without training, or on one that is trained."""
    extras = {name: field.json_schema_extra for name, field in model.model_fields.items()}
    return [name for name, extra in extras.items() if isinstance(extra, dict) and extra.get("only", use) != use]


def reading_options(model: type[BaseModel]) -> list[str]:
    """Return the options that say how data are read."""
    extras = {name: field.json_schema_extra for name, field in model.model_fields.items()}
    return [name for name, extra in extras.items() if isinstance(extra, dict) and extra.get("reading")]


def option_advice(name: str, value: str) -> str:
    """Return how an option that says how data are read is given, wherever they are read."""
    return f"--{name.replace('_', '-')} {value}, in evaluate --option {name}={value}, in a suite {name}: {value}"


def refuse_useless_options(
    model: type[BaseModel], given: Mapping[str, Any], use: Literal["asked", "trained"], task: str
) -> None:
    """Raise UsageError for an option that is given and has no effect on a model so used."""
    for name in useless_options(model, use):
        if name in given:
            value = given[name] if isinstance(given[name], str) else json.dumps(given[name])
            flag = f"--option {name}={value}" if use == "asked" else f"--{name.replace('_', '-')} {value}"
            why = "training" if use == "asked" else "a model that is asked without training"
            raise UsageError(f"{flag} has no effect: for task '{task}' it is for {why}", "Leave it out.")


def check_setting(model: type[BaseModel], name: str, value: Any, place: str, known: Collection[str] = ()) -> None:
    """Check one setting as it is in a file, where types are strict and nothing is empty.

    Raises UsageError, naming its `place`, for a setting that `model` does not have, and for a value of another type.
    `known` are all settings that could be meant, by default those of `model`.
    """
    field = model.model_fields.get(name)
    if field is None:
        names = known or model.model_fields
        near = get_close_matches(name, names, n=1)
        hint = f"Did you mean '{near[0]}'?" if near else f"The settings are {', '.join(names)}."
        raise UsageError(f"{place}: there is no setting '{name}'", hint)
    if value is None or value in ("", [], {}):
        raise UsageError(f"{place}: {name} is empty", "Give a value, or leave the line out.")
    try:
        kind: Any = Annotated[field.annotation, field]
        TypeAdapter(kind).validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        shown = repr(value)
        shown = shown if len(shown) <= 100 else f"{shown[:99]}…"
        hint = f"{name}: {field.description}"
        raise UsageError(f"{place}: {name}: {shown}: {error.errors()[0]['msg'].lower()}", hint) from None


def validated(model: type[M], values: dict[str, Any], origins: dict[str, str] | None = None, *, flags: str = "--") -> M:
    """Build a pydantic model, turning its errors into one UsageError that names the first wrong setting.

    `origins` says where a value was read; one without an origin was given as a flag: by what `flags` says, as in
    `--option `, which is followed by the setting's name.
    """
    try:
        return model(**values)
    except ValidationError as error:
        first = error.errors()[0]
        if not first["loc"]:  # What is wrong is how several settings go together.
            raise UsageError(first["msg"], f"The settings are {', '.join(model.model_fields)}.") from None
        name = str(first["loc"][0])
        flag = f"{flags}{name.replace('_', '-') if flags == '--' else name}"
        origin = (origins or {}).get(name)
        field = model.model_fields.get(name)
        raise UsageError(
            f"{origin + ': ' + name if origin else flag}: {repr(first['input'])[:120]}: {first['msg'].lower()}",
            f"{flag}: {field.description}" if field else f"The settings are {', '.join(model.model_fields)}.",
        ) from None
