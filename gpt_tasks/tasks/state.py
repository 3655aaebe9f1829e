"""What a saved task holds, checked against what the task's class says of its attributes."""

from __future__ import annotations

import inspect
from typing import Any

from pydantic import PydanticUserError, TypeAdapter, ValidationError

from gpt_tasks.saved_json import first_fault
from gpt_tasks.tasks.options import TaskOptions


def saved_value(kind: type, options: type[TaskOptions], name: str, value: Any) -> Any:
    """Return a saved value as the attribute of a task of this kind; lists become tuples.

    Raises ValueError where the class annotates another type, or has a method of this name.
    """
    field = options.model_fields.get(name)
    annotation: Any = field.annotation if field else _annotation(kind, name)
    if annotation is None and callable(getattr(kind, name, None)):
        raise ValueError(f"'{name}' is no attribute of the task")
    try:
        adapter = TypeAdapter(annotation) if annotation is not None else None
    except PydanticUserError:
        # A type of the author's own, which their `restored` makes.
        adapter = None
    try:
        found = value if adapter is None else adapter.validate_python(value)
    except ValidationError as error:
        raise ValueError(f"'{name}': {first_fault(error)}") from error
    return tuple(found) if isinstance(found, list) else found


def _annotation(kind: type, name: str) -> Any:
    for each in kind.__mro__:
        if name in inspect.get_annotations(each):
            try:
                found = inspect.get_annotations(each, eval_str=True)[name]
            except NameError:  # imported for the type checker alone
                return None
            return None if "ClassVar" in str(found) else found
    return None
