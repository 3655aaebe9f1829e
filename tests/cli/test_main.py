"""Errors are reported in two lines, with the exit code of their kind; success is 0."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

import gpt_tasks
from gpt_tasks.cli import main
from gpt_tasks.plugins import GROUP, load_plugins, metadata

FAILING = """
    import typer

    from gpt_tasks import hookimpl
    from gpt_tasks.errors import DataError

    app = typer.Typer(name="fail")

    @app.command()
    def fail(what: str):
        if what == "data":
            raise DataError("x.csv:3: no label", "Label it.")
        if what == "exit":
            raise typer.Exit(7)
        if what == "abort":
            raise typer.Abort
        if what == "interrupt":
            raise KeyboardInterrupt
        if what == "interrupt-in-exec":
            exec("raise KeyboardInterrupt")
        if what == "full":
            raise OSError({enospc}, "No space left on device", "run.json")
        if what == "memory":
            raise MemoryError
        if what == "panic":
            raise type("PanicException", (BaseException,), {{}})("index out of bounds")
        if what == "return":
            return 9
        raise RuntimeError("all is lost")

    @hookimpl
    def register_commands():
        return [app]
    """


@pytest.fixture
def failing(site, monkeypatch) -> None:
    """Register a command that fails in the requested way."""
    site.install("failing", FAILING.format(enospc=errno.ENOSPC))
    loaded = load_plugins([*metadata.entry_points(group=GROUP), *site.entry_points()])
    assert loaded.failures() == []
    monkeypatch.setattr(main, "installed_plugins", lambda: loaded)


@pytest.mark.usefixtures("failing")
@pytest.mark.parametrize(
    ("what", "code", "told"),
    [
        ("data", 4, ["DataError: x.csv:3: no label", "Label it."]),
        ("exit", 7, []),
        ("abort", 130, ["Interrupted"]),
        ("interrupt", 130, ["Interrupted"]),
        ("full", 6, ["MachineError: run.json: No space left on device"]),
        ("memory", 6, ["MachineError: "]),
        ("panic", 5, ["ModelError: native code panicked: index out of bounds"]),
        ("return", 0, []),
        ("bug", 3, ["PluginError: Plugin 'failing' (acme 1.2) failed: RuntimeError: all is lost"]),
    ],
)
def test_every_kind_of_end_has_its_exit_code(cli, what, code, told) -> None:
    outcome = cli("fail", what)
    assert outcome.code == code
    assert outcome.out == ""
    assert "Traceback" not in outcome.err
    lines = outcome.err.splitlines()
    assert len(lines) <= 2
    for line, expected in zip(lines, told, strict=False):
        assert line.startswith(expected)
    assert len(lines) >= len(told)


@pytest.mark.usefixtures("failing")
@pytest.mark.parametrize(
    "arguments", [["--trace", "fail", "bug"], ["fail", "--trace", "bug"], ["fail", "bug", "--trace"]]
)
def test_trace_shows_the_traceback_at_any_position(cli, arguments) -> None:
    outcome = cli(*arguments)
    assert outcome.code == 3
    assert "Traceback (most recent call last)" in outcome.err
    assert 'raise RuntimeError("all is lost")' in outcome.err
    assert "PluginError: Plugin 'failing'" in outcome.err.splitlines()[-2]


def test_what_no_plugin_did_is_called_a_bug(cli, monkeypatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    outcome = cli("list", "tasks")
    assert outcome.code == 1
    assert outcome.err.startswith("This is a bug of gpt-tasks: ")
    assert "--trace" in outcome.err.splitlines()[1]


def test_no_command_shows_the_help(cli) -> None:
    outcome = cli()
    assert outcome.code == 0
    assert outcome.out == cli("--help").out
    assert "finetune" in outcome.out


def test_version(cli) -> None:
    assert cli("--version").out == f"gpt-tasks {gpt_tasks.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["fintune"], "Did you mean 'finetune'?"),
        (
            ["finetune"],
            "There are: classification, dialogue, entailment, generation, multi-label, multiple-choice, ner, ",
        ),
        (["finetune", "sentimant"], "Did you mean 'sentiment'?"),
        (["finetune", "sentiment", "--epoch", "3"], "--epochs"),
        (["finetune", "sentiment", "--column", "review"], "--column review names no pair"),
        (["finetune", "sentiment", "--column", "=review"], "--column =review names no pair"),
        (["finetune", "sentiment", "extra"], "extra"),
        (["finetune", "sentiment", "--epochs"], "--epochs"),
        (
            ["list", "heroes"],
            "'heroes' is not one of 'tasks', 'backbones', 'commands', 'heads', ",
        ),
        (["evaluate", "run"], "Missing option '--data'"),
        (["evaluate"], "Missing"),
        (["predict", "run"], "Give texts, or a file with --input"),
        (["predict", "run", "text", "--input", "file.csv"], "and not both"),
        (["predict", "run", "text", "--output", "file.csv"], "--output belongs to --input"),
        (["predict", "run", "--input", "file.csv", "--json"], "--json belongs to texts"),
        (["predict", "run", "text", "--device", "tpu"], "'tpu'"),
        (["pretrain", "--preset", "tiny"], "Missing option '--text'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_is_2_with_the_way_out(cli, arguments, told) -> None:
    outcome = cli(*arguments)
    assert outcome.code == 2
    assert outcome.out == ""
    assert told in outcome.err
    assert outcome.err.startswith("UsageError: ")
    assert len(outcome.err.splitlines()) == 2


def test_the_process_ends_with_130_wherever_ctrl_c_finds_it(site) -> None:
    site.install("failing", FAILING.format(enospc=errno.ENOSPC))
    process = subprocess.run(
        [sys.executable, "-m", "gpt_tasks", "fail", "interrupt-in-exec"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(site.path), *sys.path])},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (process.returncode, process.stderr) == (130, "Interrupted\n")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/dev/full is a device of Linux")
def test_a_full_disk_behind_stdout_is_an_error_of_the_machine() -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123
        process = subprocess.run(
            [sys.executable, "-m", "gpt_tasks", "list", "tasks"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=300,
            check=False,
        )
    assert process.returncode == 6
    assert "No space left" in process.stderr
    assert "Traceback" not in process.stderr


def test_a_reader_that_went_away_is_no_bug() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stdout:
        process = subprocess.run(
            [sys.executable, "-m", "gpt_tasks", "list", "metrics"],
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            timeout=300,
            check=False,
        )
    assert (process.returncode, process.stderr) == (141, "")
