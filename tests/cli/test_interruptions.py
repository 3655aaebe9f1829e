"""What a signal or a full disk ends, at any moment, leaves no lock, no scratch and no half of a file, and can go on."""

from __future__ import annotations

import errno
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpt_tasks.cli.main import run
from gpt_tasks.errors import Terminated
from gpt_tasks.signals import Interrupted, send_dropped_again, taken, uninterrupted, unwind_on_signals


class Moments:
    """Counts the moments at which a file in a folder is opened or removed, and breaks in from one of them on.

    It sends this process the signals, one at a moment, or lets every writing fail with an error of the system.
    """

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.seen, self.first, self.last_write = 0, 0, 0
        self.signals: list[int] = []
        self.error = 0

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        watched = event in ("open", "os.mkdir", "os.remove", "os.rmdir", "os.rename", "shutil.rmtree")
        if self.folder is None or not watched or not isinstance(arguments[0], str | os.PathLike):
            return
        if threading.current_thread() is not threading.main_thread() or not self.is_there(os.fspath(arguments[0])):
            return
        self.seen += 1
        if self.seen >= self.first and self.signals:
            os.kill(os.getpid(), self.signals.pop(0))
        writes = event in ("os.mkdir", "os.rename") or (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR))
        self.last_write = self.seen if writes else self.last_write
        if self.error and writes and self.seen >= self.first:
            raise OSError(self.error, os.strerror(self.error), os.fsdecode(arguments[0]))

    def is_there(self, path: str | bytes) -> bool:
        return self.folder in (Path.cwd() / os.fsdecode(path)).parents


MOMENTS = Moments()
sys.addaudithook(MOMENTS)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    unwind_on_signals()
    yield
    taken()
    MOMENTS.folder, MOMENTS.signals, MOMENTS.error = None, [], 0
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def ended(command: list[str], folder: Path, first: int, *signals: int, error: int = 0) -> int:
    """Run a command and return its exit code; the first signal, or the error, comes at the so-manieth moment."""
    MOMENTS.folder, MOMENTS.seen, MOMENTS.first = folder, 0, first
    MOMENTS.signals, MOMENTS.error = list(signals), error
    try:
        return run(command)
    except SystemExit as exit_:
        return int(str(exit_.code))
    finally:
        MOMENTS.folder = None


def remains(folder: Path) -> list[str]:
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*")]
    return [each for each in names if each.endswith((".lock", "scratch", ".draft", ".part", "-new", "-old"))]


@pytest.fixture
def commands(
    reviews: Path, tiny_backbone_folder: Path, finished_run: Path, own_run: Path, tmp_path: Path
) -> dict[str, list[str]]:
    words = ("the", "train", "was", "late", "nobody", "minded", "view", "cold")
    lines = (" ".join(words[(n * k) % 8] for k in range(1, 9)) + f" {n}." for n in range(300))
    (tmp_path / "text.txt").write_text("\n\n".join(lines))
    (tmp_path / "suite.yaml").write_text(f"name: own\ntasks: [{{task: sentiment, source: {reviews}}}]\n")
    tiny, rows = str(tiny_backbone_folder), str(reviews)
    small = "--layers 1 --heads 1 --width 8 --vocab-size 280 --context 16 --batch-tokens 64 --checkpoint-steps 4"
    pretrain = ["pretrain", "--text", str(tmp_path / "text.txt"), "--tokens", "640", *small.split()]
    made = {
        "finetune": ["finetune", "sentiment", "--data", rows, "--backbone", tiny, "--checkpoint-steps", "2"],
        "pretrain": pretrain,
        "predict": ["predict", str(finished_run), "--input", rows],
        "evaluate": ["evaluate", str(finished_run), "--data", rows],
        "score": ["score", tiny, "--suite", str(tmp_path / "suite.yaml")],
        "compare": ["compare", str(finished_run), str(own_run)],
        "new": ["new", "moods"],
    }
    made["finetune"] += ["--epochs", "1", "--batch-tokens", "64"]
    return made


SIGNALS = {
    "TERM": ((signal.SIGTERM,), 143),
    "HUP": ((signal.SIGHUP,), 129),
    "INT": ((signal.SIGINT,), 130),
    "INT twice": ((signal.SIGINT, signal.SIGINT, signal.SIGINT), 130),
}


@pytest.mark.parametrize("name", ["finetune", "pretrain", "predict", "evaluate", "score", "compare", "new"])
def test_no_signal_leaves_anything_half_done(name: str, commands: dict[str, list[str]], tmp_path: Path) -> None:
    folder = tmp_path / "here"
    folder.mkdir()

    def command(number: int) -> list[str]:
        place = folder / str(number)
        if name == "predict":
            place.mkdir(exist_ok=True)
        return [*commands[name], "--output", str(place / "answers.jsonl" if name == "predict" else place)]

    assert run(command(0)) == 0
    assert ended(command(1), folder, 0) == 0
    moments = MOMENTS.seen
    assert moments > (1 if name == "predict" else 3)
    for number, (what, (signals, code)) in enumerate(SIGNALS.items(), start=2):
        # Another moment for each: from soon after the beginning to the last file.
        first = max(1, moments * (number - 1) // len(SIGNALS) - (number == len(SIGNALS) + 1))
        assert ended(command(number), folder, first, *signals) == code, (what, first, moments)
        assert remains(folder) == [], (what, first, moments)
        place = folder / str(number)
        record = place / ("run.json" if name == "finetune" else "pretrain.json")
        unfinished = record.is_file() and json.loads(record.read_text()).get("status") != "finished"
        if name in ("finetune", "pretrain") and number in (3, 5):
            more = ["--resume"] if unfinished else []
            assert unfinished or not place.exists() or name == "finetune", what
            assert run([*command(number), *more]) in ((0,) if unfinished or not place.exists() else (2,))
            assert remains(folder) == []


@pytest.mark.parametrize("name", ["finetune", "pretrain", "predict", "evaluate", "score", "compare", "new"])
def test_a_disk_that_refuses_leaves_the_old_state_whole(
    name: str, commands: dict[str, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "here"
    folder.mkdir()

    def command(number: int) -> list[str]:
        place = folder / str(number)
        if name == "predict":
            place.mkdir(exist_ok=True)
        return [*commands[name], "--output", str(place / "answers.jsonl" if name == "predict" else place)]

    assert run(command(0)) == 0
    assert ended(command(1), folder, 0) == 0
    moments = MOMENTS.last_write
    errors = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)
    for number, error in enumerate(errors, start=2):
        first = max(1, moments * (number - 1) // len(errors))
        capsys.readouterr()
        assert ended(command(number), folder, first, error=error) == 6, (error, first, moments)
        told = capsys.readouterr().err
        assert os.strerror(error) in told, told
        assert remains(folder) == [], (error, first, moments)
        record = folder / str(number) / ("run.json" if name == "finetune" else "pretrain.json")
        left = {path.name for path in folder.glob(f"{number}/*")}
        # What has been answered is kept.
        assert record.is_file() or left <= ({"answers.jsonl"} if name == "score" else set()), (error, first, left)
        if record.is_file() and number == len(errors) + 1:
            assert run([*command(number), "--resume"]) == 0
    if name == "predict":
        answers = folder / "1" / "answers.jsonl"
        before = answers.read_bytes()
        assert ended(command(1), folder, 1, error=errno.ENOSPC) == 6
        assert answers.read_bytes() == before


def test_what_is_cleared_up_is_so_as_a_whole() -> None:
    done: list[str] = []
    with pytest.raises(Terminated) as raised, uninterrupted():  # noqa: PT012 - it is raised at the end
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        done.append("all of it")
    assert done == ["all of it"]
    assert raised.value.code == 143
    taken()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_a_signal_while_handlers_are_put_back_ends_the_process_and_so_do_later_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held, put = uninterrupted(), signal.signal

    def interrupted(number: int, handler: Any) -> Any:
        monkeypatch.undo()
        before = put(number, handler)
        signal.raise_signal(number)
        return before

    held.__enter__()
    monkeypatch.setattr(signal, "signal", interrupted)
    with pytest.raises(KeyboardInterrupt):
        held.__exit__(None, None, None)
    with pytest.raises(Terminated):
        signal.raise_signal(signal.SIGTERM)


def test_in_another_thread_nothing_need_be_held_back() -> None:
    done: list[str] = []

    def clear() -> None:
        with uninterrupted():
            done.append("all of it")

    thread = threading.Thread(target=clear)
    thread.start()
    thread.join()
    assert done == ["all of it"]


def test_a_signal_that_is_ignored_stays_so() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    unwind_on_signals()
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_the_process_ends_with_the_number_of_its_signal(site: Any) -> None:
    site.install(
        "ending",
        """
        import os
        import signal

        import typer

        from gpt_tasks import hookimpl

        app = typer.Typer(name="end")

        @app.command()
        def end():
            try:
                os.kill(os.getpid(), signal.SIGHUP)
            finally:
                print("cleared up")

        @hookimpl
        def register_commands():
            return [app]
        """,
    )
    process = subprocess.run(
        [sys.executable, "-m", "gpt_tasks", "end"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(site.path), *sys.path])},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (process.returncode, process.stdout, process.stderr) == (129, "cleared up\n", "")


SWALLOWED = """
import os
import time

try:
    os.kill(os.getpid(), {number})
except BaseException as error:
    {handling}
time.sleep(10)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("handling", ["pass", "raise ImportError from error", "raise ImportError"])
def test_a_signal_that_an_import_swallows_ends_the_command(
    handling: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "swallowing.py").write_text(SWALLOWED.format(number=int(number), handling=handling))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "swallowing", raising=False)
    monkeypatch.setattr("gpt_tasks.cli.main._command", lambda plugins: importlib.import_module("swallowing"))
    assert ended([], tmp_path, 0) == 128 + number
    assert "bug" not in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_what_nothing_can_be_raised_from_comes_again(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Closing:
        def __del__(self) -> None:
            os.kill(os.getpid(), number)

    told: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    send_dropped_again()
    with pytest.raises((Terminated, KeyboardInterrupt)) as raised:  # noqa: PT012 - it is raised at some line after
        Closing()
        time.sleep(10)
    assert raised.type in (Terminated, Interrupted)
    taken()
    assert told == []
