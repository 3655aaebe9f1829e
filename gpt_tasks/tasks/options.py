"""The settings of tasks as pydantic models, and the error that names a wrong one."""

from __future__ import annotations

import json
from collections.abc import Collection
from difflib import get_close_matches
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from gpt_tasks.errors import UsageError

M = TypeVar("M", bound=BaseModel)


class TaskOptions(BaseModel):
    """A task's own settings. Each field becomes a flag of `gpt-tasks finetune TASK`; a family adds its fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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


def validated(model: type[M], values: dict[str, Any], origins: dict[str, str] | None = None) -> M:
    """Build a pydantic model, turning its errors into one UsageError that names the first wrong setting.

    `origins` says where a value was read; one without an origin was given as a flag.
    """
    try:
        return model(**values)
    except ValidationError as error:
        first = error.errors()[0]
        if not first["loc"]:  # What is wrong is how several settings go together.
            raise UsageError(first["msg"], f"The settings are {', '.join(model.model_fields)}.") from None
        name = str(first["loc"][0])
        flag = f"--{name.replace('_', '-')}"
        origin = (origins or {}).get(name)
        field = model.model_fields.get(name)
        raise UsageError(
            f"{origin + ': ' + name if origin else flag}: {repr(first['input'])[:120]}: {first['msg'].lower()}",
            f"{flag}: {field.description}" if field else f"The settings are {', '.join(model.model_fields)}.",
        ) from None
