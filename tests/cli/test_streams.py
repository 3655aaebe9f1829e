"""Standard streams that are closed, or that cannot show every text: no command minds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpt_tasks.cli.streams import _escaped

COMMAND = [sys.executable, "-m", "gpt_tasks"]


def shell(arguments: list[str], redirected: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {redirected}', "sh", *COMMAND, *arguments],
        env={**os.environ, **variables},
        capture_output=True,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize("redirected", [">&-", "<&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize(("arguments", "code"), [(["list", "tasks"], 0), (["list", "heroes"], 2)])
def test_a_closed_stream_is_as_dev_null(redirected: str, arguments: list[str], code: int) -> None:
    ended = shell(arguments, redirected)
    assert ended.returncode == code
    assert b"bug" not in ended.stderr
    if redirected == "<&-":
        right = subprocess.run([*COMMAND, *arguments], capture_output=True, timeout=300, check=False)
        assert (ended.stdout, ended.stderr) == (right.stdout, right.stderr)


def test_a_run_answers_into_closed_streams(finished_run: Path, tmp_path: Path) -> None:
    answers = tmp_path / "answers.jsonl"
    rows = tmp_path / "rows.csv"
    rows.write_text("text\nWhat a splendid film\n")
    ended = shell(["predict", str(finished_run), "--input", str(rows), "--output", str(answers)], "<&- >&- 2>&-")
    assert ended.returncode == 0, ended.stderr
    assert json.loads(answers.read_text())["text"] == "What a splendid film"


def test_what_the_encoding_lacks_is_escaped_in_json(finished_run: Path) -> None:
    text = "Ein schöner Film 好 😀"
    ended = shell(["predict", str(finished_run), text, "--json"], "", PYTHONIOENCODING="latin-1", PYTHONUTF8="1")
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout.decode("latin-1"))["predictions"][0]["text"] == text


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_what_the_encoding_lacks_is_escaped_in_an_error(encoding: str) -> None:
    ended = shell(["finetune", "nö好such"], "", PYTHONIOENCODING=encoding, PYTHONUTF8="1")
    assert ended.returncode == 2
    assert r"\u597dsuch" in ended.stderr.decode(encoding)


def test_the_escapes_are_those_of_json() -> None:
    escaped, end = _escaped(UnicodeEncodeError("ascii", "a😀\udce9b", 1, 3, "no such character"))
    assert (escaped, end) == (r"\ud83d\ude00\udce9", 3)
