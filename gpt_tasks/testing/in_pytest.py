"""The checks as tests of pytest, which is imported only when they are used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gpt_tasks.tasks.base import Task
from gpt_tasks.testing.catalogue import CHECKS
from gpt_tasks.testing.checks import Check, CheckError
from gpt_tasks.testing.running import Checking


def parametrize_with_checks(tasks: Sequence[Task], expected_failures: Mapping[str, str] | None = None) -> Any:
    """Let pytest run every check of every task as a separate test: a decorator of a function `(task, check)`.

    `expected_failures` says of checks that will fail why they may: those are xfail, and one that passes fails. Raises
    UsageError for what is no task, and for an expected failure of a check that there is not::

        @parametrize_with_checks([Sarcasm()])
        def test_is_a_good_citizen(task, check):
            check(task)
    """
    import pytest

    found = []
    for task in tasks:
        checking = Checking(task, expected_failures)
        found += [pytest.param(task, _Bound(checking, check), id=f"{task.name}-{check.name}") for check in CHECKS]
    return pytest.mark.parametrize(("task", "check"), found)


class _Bound:
    """A check of one task."""

    def __init__(self, checking: Checking, check: Check) -> None:
        self.checking = checking
        self.check = check

    def __repr__(self) -> str:
        return f"<check {self.check.name}: {self.check.reason}>"

    def __call__(self, task: Task) -> None:
        """Run the check, after those that it needs, and report its result to pytest."""
        import pytest

        result = self.checking.result(self.check)
        match result.status:
            case "FAILED":
                error = self.checking.error(self.check)
                # Of what the task itself raised, the traceback leads to its line.
                raise AssertionError(result.message) from (None if isinstance(error, CheckError) else error)
            case "expected":
                pytest.xfail(result.message)
            case "skipped" | "not run":
                pytest.skip(f"{result.status}: {result.message}")
