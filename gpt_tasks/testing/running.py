"""Run the checks of a task, each once and after those that it needs."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path

from gpt_tasks.errors import GptTasksError, Terminated, UsageError
from gpt_tasks.plugins import Plugins, installed_plugins
from gpt_tasks.tasks.base import Task
from gpt_tasks.testing.catalogue import CHECKS
from gpt_tasks.testing.checks import Check, CheckError, Result, SkipError
from gpt_tasks.testing.fixture import TaskFixture


def check_task(
    task: Task, *, expected_failures: Mapping[str, str] | None = None, plugins: Plugins | None = None
) -> list[Result]:
    """Run all checks of a task, and return their results, in their order.

    `expected_failures` says of checks that will fail why they may; one of them that passes is a failure. `plugins` are
    those that provide the heads and metrics which the task names, by default all that are installed. Raises UsageError
    for what is no task, and for an expected failure of a check that there is not.
    """
    checking = Checking(task, expected_failures or {}, plugins)
    try:
        return [checking.result(check) for check in CHECKS]
    finally:
        checking.fixture.close()


class Checking:
    """The checks of one task, each of which is run when its result is first accessed."""

    def __init__(
        self, task: Task, expected_failures: Mapping[str, str] | None = None, plugins: Plugins | None = None
    ) -> None:
        if not isinstance(task, Task):
            hint = "Give an instance: write its parentheses." if isinstance(task, type) else "Give an instance of one."
            raise UsageError(f"{task!r} is no task", hint)
        self.expected = dict(expected_failures or {})
        for name in self.expected:
            if name not in _BY_NAME:
                near = get_close_matches(name, _BY_NAME, n=1, cutoff=0.5)
                hint = f"Did you mean '{near[0]}'?" if near else f"There are: {', '.join(_BY_NAME)}."
                raise UsageError(f"There is no check '{name}' that could be expected to fail", hint)
        self._plugins = plugins
        self._task = task
        self._fixture: TaskFixture | None = None
        self._results: dict[str, Result] = {}
        # Those that were not run because of others; one that skips itself stops no other.
        self._blocked: set[str] = set()
        self._errors: dict[str, BaseException] = {}

    @property
    def fixture(self) -> TaskFixture:
        """What the checks work on."""
        if self._fixture is None:
            self._fixture = TaskFixture(self._task, self._plugins or installed_plugins())
        return self._fixture

    def error(self, check: Check) -> BaseException | None:
        """Return what a check raised, where it failed."""
        return self._errors.get(check.name)

    def result(self, check: Check) -> Result:
        """Return the result of a check, after those that it needs were run."""
        if check.name not in self._results:
            self._results[check.name] = self._expecting(check, self._run(check))
        return self._results[check.name]

    def _run(self, check: Check) -> Result:
        for needed in check.needs:
            before = self.result(_BY_NAME[needed])
            if before.status in ("FAILED", "expected") or needed in self._blocked:
                self._blocked.add(check.name)
                return Result(check.name, "not run", check.reason, f"It needs '{needed}', which {_told(before)}.")
        try:
            with _one_thread():
                check.function(self.fixture)
        except SkipError as error:
            return Result(check.name, error.status, check.reason, str(error))
        except CheckError as error:
            self._errors[check.name] = error
            return Result(check.name, "FAILED", check.reason, str(error))
        except Terminated:
            raise
        except (Exception, SystemExit) as error:
            self._errors[check.name] = error
            return Result(check.name, "FAILED", check.reason, _cause(error))
        return Result(check.name, "passed", check.reason)

    def _expecting(self, check: Check, result: Result) -> Result:
        why = self.expected.get(check.name)
        if why is None or result.status in ("not run", "skipped"):
            return result
        if result.status == "FAILED":
            return Result(check.name, "expected", check.reason, why)
        message = f"It passes, and was expected to fail ({why}). Take it out of expected_failures."
        self._errors[check.name] = CheckError(message)
        return Result(check.name, "FAILED", check.reason, message)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch compute on one thread: more would only wait for each other over so small a model."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _told(result: Result) -> str:
    return {"FAILED": "failed", "expected": "is expected to fail"}.get(result.status, "was not run")


def _cause(error: BaseException) -> str:
    """Return what was raised and by which line, and the way out where the error itself knows one."""
    said = " ".join(str(error).split())
    if isinstance(error, GptTasksError):
        return f"It raised {type(error).__name__}: {said}"
    *_, last = traceback.extract_tb(error.__traceback__)
    return f"It raised {type(error).__name__}: {said} ({Path(last.filename).name}:{last.lineno}). Fix what raises it."


_BY_NAME = {check.name: check for check in CHECKS}
