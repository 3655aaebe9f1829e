"""Find the commands, run one, and turn what goes wrong into two lines on stderr and an exit code."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, NoReturn

import typer
from typer.exceptions import TyperException

import gpt_tasks
from gpt_tasks.cli.streams import prepare_streams
from gpt_tasks.cli.strict import StrictGroup
from gpt_tasks.errors import INTERRUPTED, NO_READER, GptTasksError, ModelError, UsageError, said
from gpt_tasks.files import machine_errors
from gpt_tasks.paths import check_utf8
from gpt_tasks.plugins import Plugins, installed_plugins
from gpt_tasks.shown import escaped, tell
from gpt_tasks.signals import ignore_signals, send_dropped_again, signal_behind, taken, unwind_on_signals
from gpt_tasks.threads import spin_briefly

TRACE = "--trace"


def main() -> NoReturn:
    """Run the command line of this process and exit."""
    prepare_streams()
    unwind_on_signals()
    send_dropped_again()
    spin_briefly()
    code = run(sys.argv[1:])
    ignore_signals()
    # Ctrl-C inside a string that is executed (a dataclass is made by one) leaves a mark in CPython, by which it would
    # kill the process with SIGINT instead of exiting with the code. The next executed string takes the mark away.
    exec("")
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; see `gpt_tasks.errors` for what each code means."""
    arguments, trace = _without_trace(arguments)
    try:
        if TRACE in arguments[: _end(arguments)]:
            raise UsageError(f"{TRACE} is given twice", "Give it once.")
        for argument in arguments:
            check_utf8(argument, "The argument")
        with machine_errors():
            # What a plugin prints on import must not end up in the JSON of a command.
            with contextlib.redirect_stdout(sys.stderr):
                plugins = installed_plugins()
            with plugins.attribute_errors(may_exit=True), _usage_errors():
                code = _command(plugins).main(arguments, prog_name="gpt-tasks", standalone_mode=False)
                return code if isinstance(code, int) else 0
    except SystemExit:
        taken()
        raise
    # Native code that panics raises what is no Exception.
    except BaseException as error:
        came = signal_behind(error)
        if came is not None:
            taken()
        if isinstance(came, SystemExit):
            raise came from None
        if came is not None:
            return _tell(error, "Interrupted", "", INTERRUPTED, trace)
        return _failed(error, trace)


def _failed(error: BaseException, trace: bool) -> int:
    """Tell what went wrong, and return the exit code."""
    if isinstance(error, GptTasksError):
        return _tell(error, f"{type(error).__name__}: {error.message}", error.hint, error.exit_code, trace)
    if type(error).__name__ == "PanicException":
        hint = "A file of the model, such as its tokenizer.json, may be damaged: copy it again."
        return _tell(error, f"ModelError: native code panicked: {said(error)}", hint, ModelError.exit_code, trace)
    return _tell(
        error,
        f"This is a bug of gpt-tasks: {type(error).__name__}: {said(error)}",
        f"Please report it, with what {TRACE} shows." if not trace else "Please report it.",
        GptTasksError.exit_code,
        trace,
    )


class Root(StrictGroup):
    """The group of all commands."""

    def invoke(self, ctx: Any) -> None:
        """Run a command; what it returns is no exit code."""
        try:
            super().invoke(ctx)
            # Written here, so that a full disk or a closed pipe behind stdout is met like any other.
            sys.stdout.flush()
        except KeyboardInterrupt:
            # Typer would turn it into an exit code without a word.
            raise typer.Abort from None
        except BrokenPipeError:
            # The reader wants no more output. What is still written at the end must go somewhere.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(NO_READER) from None
        except SystemExit as error:
            # Rich ends the process there, with the code of a bug.
            if isinstance(error.__context__, BrokenPipeError):
                raise typer.Exit(NO_READER) from None
            raise


def _command(plugins: Plugins) -> Root:
    app = typer.Typer(
        cls=Root,
        add_completion=False,
        rich_markup_mode=None,
        invoke_without_command=True,
        context_settings={"max_content_width": 110},
    )
    app.callback()(_root)
    root = typer.main.get_command(app)
    assert isinstance(root, Root)
    for name, command in plugins.registry.commands.items():
        root.add_command(command, name)
    return root


def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.", is_eager=True)] = False,
    trace: Annotated[
        bool, typer.Option(TRACE, help="Show the traceback of an error. Can follow the command too.")
    ] = False,
) -> None:
    """Fine-tune one GPT backbone to a task, and see honestly how good it is."""
    if version:
        print(f"gpt-tasks {gpt_tasks.__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())


def _without_trace(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """Take the first --trace out of the arguments, wherever it appears before a `--`."""
    rest = list(arguments)
    trace = TRACE in rest[: _end(rest)]
    if trace:
        rest.remove(TRACE)
    return rest, trace


def _end(arguments: Sequence[str]) -> int:
    """Return the place behind the last argument that can be a flag."""
    return list(arguments).index("--") if "--" in arguments else len(arguments)


@contextlib.contextmanager
def _usage_errors() -> Iterator[None]:
    """Turn what Typer finds wrong with the arguments into a UsageError."""
    try:
        yield
    except TyperException as error:
        context: Any = getattr(error, "ctx", None)
        message = " ".join(error.format_message().replace("Value error, ", "").split())
        hint = f"See {context.command_path} --help" if context else "See gpt-tasks --help"
        raise UsageError(message, hint) from error
    except typer.Abort:
        raise KeyboardInterrupt from None


def _tell(error: BaseException, message: str, hint: str, code: int, trace: bool) -> int:
    if trace:
        print(escaped("".join(traceback.format_exception(error)), keep="\n"), file=sys.stderr)
    rank = os.environ.get("RANK", "0")
    prefix = f"[process {rank}] " if rank != "0" else ""
    for line in filter(None, (message, hint)):
        tell(prefix + line)
    return code
