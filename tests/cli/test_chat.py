"""The prompt of `chat`: what is typed there, and Ctrl-C."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from gpt_tasks.cli import chat

pty = pytest.importorskip("pty")


def typed(monkeypatch: pytest.MonkeyPatch, *lines: str | type[BaseException]) -> Iterator[str]:
    """What the chat gets of lines that are typed in a terminal, and of keys that interrupt."""
    coming = iter(lines)

    def read(prompt: str) -> str:
        line = next(coming)
        if isinstance(line, str):
            return line
        raise line

    monkeypatch.setattr("builtins.input", read)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    return chat._lines()


def test_ctrl_c_clears_the_line_and_twice_ends_all(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = typed(monkeypatch, "one", KeyboardInterrupt, "two", KeyboardInterrupt, KeyboardInterrupt)
    assert [next(lines), next(lines)] == ["one", "two"]
    with pytest.raises(KeyboardInterrupt):
        next(lines)
    assert capsys.readouterr().err.count("Ctrl-C once more ends all; what is to be continued, /save first.") == 2


def test_the_end_of_input_ends_without_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(typed(monkeypatch, "one", EOFError)) == ["one"]


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_other_letters_and_a_tab_reach_the_model_as_typed_in_any_locale(tmp_path: Path, locale: str) -> None:
    (tmp_path / "a-file-of-the-folder").touch()
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(tmp_path)
        read = "from gpt_tasks.cli.chat import _lines; print('<', ascii(next(_lines())), '>')"
        os.execve(sys.executable, [sys.executable, "-c", read], {**os.environ, "LC_ALL": locale, "TERM": "xterm"})
    seen = b""
    sent = False
    until = time.monotonic() + 120
    while b" >" not in seen and time.monotonic() < until:
        try:
            seen += os.read(terminal, 1000)
        except OSError:
            break
        if not sent and b"> " in seen:
            os.write(terminal, "日本語 a\t\t é\n".encode())
            sent = True
    os.waitpid(child, 0)
    os.close(terminal)
    assert ascii("日本語 a").strip("'").encode() in seen
    assert b"a-file" not in seen
