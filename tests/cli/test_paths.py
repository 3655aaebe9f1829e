"""Every command takes paths as the user means them, refuses what cannot be a path, and clears up behind itself."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import gpt_tasks
from gpt_tasks.data.sources import open_source
from gpt_tasks.errors import DataError, UsageError
from gpt_tasks.evaluation.compare import compare
from gpt_tasks.plugins import installed_plugins
from gpt_tasks.pretraining.config import PretrainConfig
from gpt_tasks.pretraining.texts import find_texts
from gpt_tasks.scaffold import write_plugin
from gpt_tasks.scoring.score import score

NOT_UTF8 = os.fsdecode(b"caf\xe9")
COMMANDS = [
    ["predict", "RUN", NOT_UTF8],
    ["predict", "RUN", "--input", NOT_UTF8],
    ["predict", "RUN", "text", "--output", NOT_UTF8],
    ["evaluate", NOT_UTF8, "--data", "x.csv"],
    ["finetune", "sentiment", "--data", NOT_UTF8],
    ["score", "tiny", "--suite", NOT_UTF8],
    ["compare", NOT_UTF8, "b"],
    ["generate", "tiny", NOT_UTF8],
    ["next", "tiny", NOT_UTF8],
    ["chat", NOT_UTF8],
    ["pretrain", "--text", NOT_UTF8, "--output", "x"],
    ["new", NOT_UTF8],
    ["lm-eval", "--tasks", NOT_UTF8],
    ["plugins", "check", NOT_UTF8],
    ["list", NOT_UTF8],
]


@pytest.mark.parametrize("arguments", COMMANDS, ids=range(len(COMMANDS)))
def test_an_argument_that_is_not_utf8_is_refused_by_every_command(cli, arguments) -> None:
    result = cli(*arguments)
    assert result.code == 2
    assert r"'caf\xe9' is not UTF-8" in result.err


@pytest.mark.parametrize("arguments", [["predict", "RUN", "--input", "-"], ["generate", "RUN", "-"]])
def test_stdin_that_is_not_utf8_is_the_datas_fault(command_server, finished_run: Path, arguments: list[str]) -> None:
    arguments = [str(finished_run) if each == "RUN" else each for each in arguments]
    result = command_server.run(*arguments, given=b"fine\ncaf\xe9\n")
    assert (result.returncode, result.stdout) == (4, "")
    assert "stdin:2: byte 0xe9 is not UTF-8" in result.stderr


def test_names_in_folders_that_are_not_utf8_are_named(tmp_path: Path) -> None:
    for label in (b"pos", b"n\xe9g"):
        folder = tmp_path / os.fsdecode(label)
        folder.mkdir()
        (folder / "1.txt").write_text("text")
    with pytest.raises(UsageError, match=r"n\\xe9g/1\.txt' is not UTF-8"):
        list(open_source(tmp_path, {}).splits["all"]())
    with pytest.raises(UsageError, match="is not UTF-8"):
        find_texts([tmp_path])


def test_a_home_is_one_from_the_command_line_a_file_and_python(
    cli, finished_run: Path, reviews: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    (home / "run").symlink_to(finished_run)
    (home / "reviews.csv").symlink_to(reviews)
    (home / "c.yaml").write_text("data: ~/not-there.csv\n")
    (home / "suite.yaml").write_text("name: mine\ntasks: []\n")
    assert cli("predict", "~/run", "--input", "~/reviews.csv", "--output", "~/answers.csv").code == 0
    assert (home / "answers.csv").exists()
    result = cli("finetune", "sentiment", "--config", "~/c.yaml", "--output", "~/out")
    assert result.code == 4
    assert str(home / "not-there.csv") in result.err
    with pytest.raises(DataError, match=str(home)):
        gpt_tasks.finetune("sentiment", data="~/not-there.csv", output="~/out")
    gpt_tasks.load("~/run").evaluate("~/reviews.csv", output="~/evaluated")
    assert (home / "evaluated" / "metrics.json").exists()
    with pytest.raises(UsageError, match="nothing to compare with"):
        compare(["~/run"])
    assert score("~/run", "starter", limit=1, output="~/scored", say=lambda line: None)[1] == home / "scored"
    assert write_plugin("mine", "command", "~/plugin", installed_plugins()).folder == home / "plugin"
    config = PretrainConfig(text=["~/a.txt"], output="~/out", validation="~/b.txt")  # type: ignore[arg-type, list-item]
    assert (config.text, config.output, config.validation) == ([home / "a.txt"], home / "out", home / "b.txt")
    assert not Path("~").exists()
    assert not (home / "out").exists()


@pytest.mark.parametrize("path", ["", "a\0b", NOT_UTF8])
def test_what_cannot_be_a_path_is_refused_from_python(path: str, finished_run: Path, reviews: Path) -> None:
    run = gpt_tasks.load(finished_run)
    for call in (
        lambda: gpt_tasks.finetune("sentiment", data=path),
        lambda: gpt_tasks.finetune("sentiment", output=path),
        lambda: gpt_tasks.finetune("sentiment", backbone=path),
        lambda: gpt_tasks.finetune("sentiment", config=path),
        lambda: gpt_tasks.load(path),
        lambda: run.evaluate(reviews, output=path),
        lambda: compare([path, path]),
        lambda: score("tiny", path),
        lambda: score("tiny", "starter", output=path),
        lambda: score(path, "starter"),
    ):
        with pytest.raises(UsageError):
            call()


def test_answers_go_to_stdout_pipes_and_links(cli, finished_run: Path, reviews: Path, tmp_path: Path) -> None:
    predict = ["predict", str(finished_run), "--input", str(reviews), "--output"]
    command = " ".join([sys.executable, "-m", "gpt_tasks", *predict])
    script = f"{{ echo first; {command} -; echo last; }} > log"
    subprocess.run(["bash", "-ec", script], cwd=tmp_path, check=True, capture_output=True, timeout=300)
    log = (tmp_path / "log").read_text().splitlines()
    assert (log[0], log[-1]) == ("first", "last")
    assert '"prediction"' in log[1]
    reader, writer = os.pipe()
    assert cli(*predict, f"/dev/fd/{writer}").code == 0
    os.close(writer)
    with os.fdopen(reader) as piped:
        assert piped.read().splitlines() == log[1:-1]
    (tmp_path / "link.csv").symlink_to("real.csv")
    assert cli(*predict, tmp_path / "link.csv").code == 0
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "real.csv").read_text().startswith("text,label,prediction,confidence\n")


def test_a_pipe_is_no_data(cli, finished_run: Path) -> None:
    os.mkfifo("data.csv")
    for arguments in (
        ["predict", finished_run, "--input", "data.csv"],
        ["evaluate", finished_run, "--data", "data.csv"],
        ["finetune", "sentiment", "--data", "data.csv"],
        ["finetune", "sentiment", "--data", "sqlite:data.csv#table"],
        ["pretrain", "--text", "data.csv", "--output", "out"],
    ):
        result = cli(*arguments)
        assert result.code == 4
        assert "data.csv is a pipe, and data are read more than once" in result.err


@pytest.mark.parametrize("name", ["mine", "link"])
def test_a_folder_that_was_there_stays_where_a_command_fails(cli, finished_run: Path, name: str) -> None:
    Path("mine").mkdir()
    Path("mine").chmod(0o750)
    Path("link").symlink_to("mine")
    Path("one.csv").write_text("text,label\ngood,positive\n")
    Path("short.txt").write_text("short")
    for arguments in (
        ["finetune", "sentiment", "--data", "one.csv"],
        ["finetune", "sentiment", "--data", "one.csv", "--private"],
        ["evaluate", finished_run, "--data", "one.csv", "--by", "nothing"],
        ["pretrain", "--text", "short.txt"],
    ):
        assert cli(*arguments, "--output", name).code in (2, 4)
        assert list(Path("mine").iterdir()) == []
        assert stat.S_IMODE(Path("mine").stat().st_mode) == 0o750
        assert cli(*arguments, "--output", "new/folder").code in (2, 4)
        assert not Path("new").exists()
    assert Path("link").is_symlink()


def test_a_folder_with_other_files_is_refused_by_every_command(cli, finished_run: Path, reviews: Path) -> None:
    Path("full").mkdir()
    Path("full", "notes.txt").touch()
    Path("text.txt").write_text("text")
    for arguments in (
        ["finetune", "sentiment"],
        ["evaluate", finished_run, "--data", reviews],
        ["score", "tiny", "--suite", "starter"],
        ["compare", finished_run, f"{finished_run}/."],
        ["pretrain", "--text", "text.txt"],
        ["new", "mine"],
    ):
        assert cli(*arguments, "--output", "full").code == 2
        assert cli(*arguments, "--output", "/proc/x").code == 6
    assert [path.name for path in Path("full").iterdir()] == ["notes.txt"]


def test_pretraining_does_not_read_what_it_writes(tmp_path: Path) -> None:
    (tmp_path / "run" / "tokenizer").mkdir(parents=True)
    for name in ("a.txt", "run/b.txt", "run/tokenizer/merges.txt"):
        (tmp_path / name).write_text("text")
    assert find_texts([tmp_path], tmp_path / "run") == [tmp_path / "a.txt"]
    with pytest.raises(DataError, match="no such text"):
        find_texts([tmp_path / "*" / "*.txt"], tmp_path / "run")


def test_a_run_of_odd_names_works(cli, own_run: Path, reviews: Path) -> None:
    odd = Path("odd [a*] n\n\u00e9")
    odd.mkdir()
    own_run.rename(odd / "run [1]")
    (odd / "r [x].csv").write_bytes(reviews.read_bytes())
    assert cli("predict", odd / "run [1]", "text").code == 0
    assert cli("evaluate", odd / "run [1]", "--data", odd / "r [x].csv", "--output", odd / "ev [1]").code == 0
    assert cli("evaluate", odd / "run [1]", "--data", odd / "r [x].csv", "--output", odd / "ev [2]").code == 0
    assert cli("compare", odd / "ev [1]", odd / "ev [2]", "--output", odd / "out").code == 0
