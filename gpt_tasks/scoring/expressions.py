"""Fields of a task computed from a row's columns, by expressions in Jinja's language and its sandbox."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import SandboxedEnvironment

from gpt_tasks.errors import DataError, UsageError
from gpt_tasks.limits import check_template, sub, time_limit
from gpt_tasks.types import Row

_ENVIRONMENT = SandboxedEnvironment(undefined=StrictUndefined)
_ENVIRONMENT.filters["sub"] = lambda text, pattern, replacement: sub(pattern, replacement, text)


class Fields:
    """Expressions by field, as in `choices.text` or `sentence.split('_')[0]`; without any, columns are fields.

    Besides Jinja's own filters there is `sub(pattern, replacement)`, which is `re.sub`. What computes for longer than
    some seconds is a UsageError.
    """

    def __init__(self, expressions: Mapping[str, str], where: str) -> None:
        self._compiled = {}
        for name, expression in expressions.items():
            try:
                check_template(_ENVIRONMENT.parse(f"{{{{ {expression} }}}}"))
                self._compiled[name] = _ENVIRONMENT.compile_expression(expression, undefined_to_none=False)
            except (TemplateError, ValueError, SyntaxError, RecursionError, MemoryError) as error:
                cause = error if isinstance(error, TemplateError | ValueError) else "it is nested too deep"
                raise DataError(f"{where}: fields: {name}: {cause}", "It must be an expression of Jinja.") from error

    def __contains__(self, name: str) -> bool:
        return name in self._compiled

    def of(self, row: Row) -> Row:
        """Return the row with the fields added to its columns. Raises DataError where one cannot be computed."""
        values = dict(row.values)
        for name, compute in self._compiled.items():
            try:
                with time_limit():
                    found: Any = compute(**row.values)
                if isinstance(found, StrictUndefined):
                    str(found)  # raises, naming the column
                if isinstance(found, str):
                    found.encode()
            except TimeoutError as error:
                raise UsageError(f"{row.where}: field '{name}': {error}", "Write a simpler expression.") from None
            except Exception as error:
                columns = ", ".join(row.values)
                raise DataError(
                    f"{row.where}: field '{name}' cannot be computed: {error}", f"The columns are {columns}."
                ) from error
            values[name] = found
        return Row(values, row.where)
