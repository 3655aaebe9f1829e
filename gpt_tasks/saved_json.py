"""JSON files that are read back: what they hold, or an error that names the file and the field."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from gpt_tasks.errors import GptTasksError, ModelError, said
from gpt_tasks.files import parse_json

M = TypeVar("M", bound=BaseModel)


def read_json(file: Path, hint: str = "Copy it again.", raising: type[GptTasksError] = ModelError) -> dict[str, Any]:
    """Read a JSON object. Raises ModelError, or another error, where the file is missing or holds none."""
    try:
        content = parse_json(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise raising(f"{file}: this file is missing", hint) from None
    except (OSError, ValueError) as error:
        raise raising(f"{file}: truncated, or not JSON: {said(error)[:200]}", hint) from error
    if not isinstance(content, dict):
        raise raising(f"{file}: not a JSON object", hint)
    return content


def checked(
    file: Path,
    content: Mapping[str, Any],
    schema: type[M],
    hint: str = "Copy it again.",
    raising: type[GptTasksError] = ModelError,
) -> M:
    """Return what a file holds as a pydantic model. Raises ModelError, or another error, naming the field."""
    try:
        return schema.model_validate(content, strict=True)
    except ValidationError as error:
        raise raising(f"{file}: {first_fault(error)}", hint) from error


def first_fault(error: ValidationError) -> str:
    """Return the first thing that pydantic finds wrong, as in `'seed': input should be a valid integer`."""
    first = error.errors(include_input=False, include_url=False)[0]
    where = ".".join(map(str, first["loc"]))[:200]
    return f"'{where}': {first['msg'].lower()}" if where else first["msg"]
