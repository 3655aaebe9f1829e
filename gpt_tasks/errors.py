"""Errors, each kind with the exit code of the command line."""

from __future__ import annotations

from gpt_tasks.shown import sentence


class GptTasksError(Exception):
    """An error shown to the user in one line, with a second line that says what to do.

    `message` names the offending value and where it is; `hint` says how to fix it. Both are on one line, escaped, and
    of at most about 1,000 characters. The base class is for a bug of gpt-tasks itself (exit code 1); its subclasses are
    for everything else.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        self.message = sentence(message)
        self.hint = sentence(hint)
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[type[GptTasksError], tuple[str, str]]:
        return type(self), (self.message, self.hint)


class UsageError(GptTasksError):
    """A flag, an argument or a name that cannot be used."""

    exit_code = 2


class PluginError(GptTasksError):
    """A plugin that could not be loaded, or that raised during a run."""

    exit_code = 3


class DataError(GptTasksError):
    """A file, a row or a label that cannot be used."""

    exit_code = 4


class ModelError(GptTasksError):
    """A backbone or a run that cannot be loaded."""

    exit_code = 5


class MachineError(GptTasksError):
    """The disk, a permission, the memory or the device."""

    exit_code = 6


class Terminated(SystemExit):
    """The process received SIGTERM or SIGHUP: it unwinds, and exits with 128 plus the signal's number."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.number = number


def said(error: BaseException) -> str:
    """Return what an error says, on one line: nothing where its own `str` raises."""
    try:
        return " ".join(str(error).split())
    except Exception:
        return ""


INTERRUPTED = 130
NO_READER = 141  # as a shell reports SIGPIPE
