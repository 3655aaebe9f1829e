"""The settings of tasks as pydantic models, and the error that names a wrong one."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from gpt_tasks.errors import UsageError

M = TypeVar("M", bound=BaseModel)


class TaskOptions(BaseModel):
    """A task's own settings. Each field becomes a flag of `gpt-tasks finetune TASK`; a family adds its fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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
