"""What is written of an evaluation where no text of its data may be: figures, labels and the numbers of rows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from gpt_tasks.evaluation.report import ANSWERED
from gpt_tasks.tasks.base import Task
from gpt_tasks.types import Example

# The names within a line of predictions.jsonl that are not of the data.
_NAMES = ANSWERED | {"type", "score"}


def private_views(task: Task) -> tuple[Callable[[Example, Any], None], Callable[[Example, Any], dict[str, Any]]]:
    """Return what takes the place of `Task.display`, which shows nothing, and of `Task.line`, which has no text."""

    def display(example: Example, prediction: Any) -> None:
        return None

    def line(example: Example, prediction: Any) -> dict[str, Any]:
        return without_texts(task.line(example, prediction), task.labels)

    return display, line


def without_texts(line: Mapping[str, Any], labels: Collection[str]) -> dict[str, Any]:
    """Return what of a line of predictions.jsonl is no text: numbers, truth values, labels, and lists of these."""
    kept = {name: _kept(value, labels) for name, value in line.items()}
    return {name: value for name, value in kept.items() if value is not _Text}


class _Text:
    """In place of what is a text, or holds nothing else."""


def _kept(value: Any, labels: Collection[str]) -> Any:
    if isinstance(value, str):
        return value if value in labels else _Text
    if isinstance(value, Mapping):
        named = {name: _kept(each, labels) for name, each in value.items() if _is_name(name, labels)}
        return {name: each for name, each in named.items() if each is not _Text} or _Text
    if isinstance(value, list | tuple):
        found = [each for each in (_kept(each, labels) for each in value) if each is not _Text]
        return found if found or not value else _Text
    return value if value is None or isinstance(value, bool | int | float) else _Text


def _is_name(name: str, labels: Collection[str]) -> bool:
    # The numbers are places of choices.
    return name in _NAMES or name in labels or name.isdecimal()
