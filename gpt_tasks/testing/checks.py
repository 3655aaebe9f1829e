"""Checks and their results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from gpt_tasks.testing.fixture import TaskFixture

Status = Literal["passed", "FAILED", "not run", "skipped", "expected"]
"""`not run`: a check that this one needs has failed. `skipped`: it does not apply to the task. `expected`: it
fails, as expected."""


@dataclass(frozen=True)
class Check:
    """One question about a task. `reason` says in a line why it is checked.

    `function(fixture)` raises CheckError with what to change, or SkipError where it does not apply to the task;
    any other exception is a failure too. `needs` names checks without which the result would mean nothing.
    """

    name: str
    reason: str
    function: Callable[[TaskFixture], None]
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """The result of one check; `message` says what to change, or why it was not run, skipped or expected to fail."""

    name: str
    status: Status
    reason: str
    message: str = ""


class CheckError(AssertionError):
    """A task does not do what a check requires; the text says what to change."""


class SkipError(Exception):
    """A check does not apply to a task, or cannot be run; the text says why."""

    def __init__(self, why: str, status: Literal["skipped", "not run"] = "skipped") -> None:
        super().__init__(why)
        self.status: Literal["skipped", "not run"] = status


def require(condition: bool, message: str) -> None:
    """Raise CheckError with the message where the condition does not hold."""
    if not condition:
        raise CheckError(message)
