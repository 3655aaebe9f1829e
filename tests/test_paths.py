"""Paths mean what their users mean: homes, links, pipes and devices; what was there before stays."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from gpt_tasks.errors import DataError, MachineError, UsageError
from gpt_tasks.paths import (
    OutputFolder,
    base_name,
    check_output_file,
    check_place,
    check_rereadable,
    free_folder,
    open_output,
    output_folder,
    user_path,
)


def test_a_tilde_is_a_home_and_a_user_who_is_not_there_none(monkeypatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert user_path("~/out") == Path("/home/somebody/out")
    assert user_path(Path("~/out")) == Path("/home/somebody/out")
    assert user_path("~nobody-of-this-name/out") == Path("~nobody-of-this-name/out")


@pytest.mark.parametrize(
    ("path", "why"), [("", "empty"), ("a\0b", "zero character"), (os.fsdecode(b"caf\xe9"), r"'caf\\xe9' is not UTF-8")]
)
def test_a_path_that_cannot_be_meant_is_refused_by_its_flag(path, why) -> None:
    with pytest.raises(UsageError, match=f"--output .*{why}"):
        user_path(path, "--output")


def test_a_folder_whose_name_is_not_utf8_is_none_to_work_in(tmp_path, monkeypatch) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    monkeypatch.chdir(folder)
    for call in (user_path, check_place, free_folder):
        with pytest.raises(UsageError, match=r"'out': '.*/caf\\xe9/out' is not UTF-8"):
            call(Path("out"))
    assert user_path("/out") == Path("/out")


def test_of_a_path_only_the_last_part_is_kept_and_names_of_models_stay(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ward").mkdir()
    for name in ("letters.csv", "letters.db"):
        (tmp_path / "ward" / name).touch()
    assert base_name(f"{tmp_path}/ward/letters.csv") == base_name("ward/letters.csv") == "letters.csv"
    assert base_name("~/not-there/letters.csv") == "letters.csv"
    assert base_name("sqlite:ward/letters.db#table") == "sqlite:letters.db#table"
    assert base_name(".") == tmp_path.name
    for name in ("tiny", "OWNER/NAME@main", "hf:OWNER/NAME", "list of 3 rows, given from Python"):
        assert base_name(name) == name


def written(path: Path, text: str = "new\n") -> None:
    check_output_file(path)
    with open_output(path) as file:
        file.write(text)


def test_a_link_is_followed_and_stays_one(tmp_path) -> None:
    (tmp_path / "there").mkdir()
    link = tmp_path / "link.csv"
    link.symlink_to(Path("there", "answers.csv"))
    written(link)
    assert link.is_symlink()
    assert (tmp_path / "there" / "answers.csv").read_text() == "new\n"


def test_a_file_that_is_replaced_keeps_its_rights_and_a_new_one_has_those_of_the_umask(tmp_path) -> None:
    old, new = tmp_path / "old.csv", tmp_path / "new.csv"
    old.write_text("old")
    old.chmod(0o600)
    before = os.umask(0o027)
    try:
        written(old)
        written(new)
    finally:
        os.umask(before)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (old, new)] == [0o600, 0o640]


def test_a_pipe_is_written_to(tmp_path) -> None:
    pipe = tmp_path / "answers.csv"
    os.mkfifo(pipe)
    found: list[str] = []
    reader = threading.Thread(target=lambda: found.append(pipe.read_text()), daemon=True)
    reader.start()
    written(pipe)
    reader.join(10)
    assert found == ["new\n"]
    assert pipe.is_fifo()


def test_a_device_is_written_to(tmp_path) -> None:
    # A node of its own: were the code wrong, the machine's own would be gone.
    device, link = tmp_path / "null", tmp_path / "link"
    try:
        os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        device.write_text("nothing")
    except PermissionError:
        pytest.skip("only root makes devices")
    link.symlink_to(device)
    for path in (device, link):
        written(path)
    assert link.is_symlink()
    assert device.is_char_device()


@pytest.mark.parametrize("name", ["/dev/fd/{}", "/proc/self/fd/{}", "link"])
def test_an_open_file_goes_on_where_it_is(tmp_path, name) -> None:
    # /dev/stdout is such a link.
    descriptor = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    (tmp_path / "link").symlink_to(f"/dev/fd/{descriptor}")
    try:
        os.write(descriptor, b"before\n")
        written(tmp_path / name.format(descriptor))
        os.write(descriptor, b"after\n")
    finally:
        os.close(descriptor)
    assert (tmp_path / "log").read_text() == "before\nnew\nafter\n"


def test_a_minus_is_stdout(capfd) -> None:
    print("before")
    written(Path("-"))
    assert capfd.readouterr().out == "before\nnew\n"


@pytest.mark.parametrize("path", ["/dev/fd/987", "/dev/fd/{reading}"])
def test_a_file_that_is_not_open_for_writing_is_refused(path, tmp_path) -> None:
    (tmp_path / "x").touch()
    with (tmp_path / "x").open() as file, pytest.raises(UsageError, match="--output /dev/fd"):
        check_output_file(Path(path.format(reading=file.fileno())))


@pytest.mark.parametrize("path", ["/proc/x.csv", "/proc/x/y.csv"])
def test_where_nothing_can_be_made_is_said_before_the_work(path) -> None:
    with pytest.raises((MachineError, UsageError), match=f"--output {path}"):
        check_output_file(Path(path))
    with pytest.raises(MachineError, match=f"--output {path}: nothing can be written in /proc"):
        check_place(Path(path))


def test_a_file_that_is_read_is_not_written(tmp_path) -> None:
    data = tmp_path / "data.csv"
    data.write_text("text\na\n")
    (tmp_path / "hard.csv").hardlink_to(data)
    (tmp_path / "link.csv").symlink_to(data)
    for output in ("data.csv", "hard.csv", "link.csv"):
        for source in (str(data), str(tmp_path), f"sqlite:{data}"):
            with pytest.raises(UsageError, match=r"that .* is read from"):
                check_output_file(tmp_path / output, [source])
    check_output_file(tmp_path / "other.csv", [str(data), None])


def test_what_can_be_read_only_once_is_no_data(tmp_path) -> None:
    os.mkfifo(tmp_path / "data.csv")
    with pytest.raises(DataError, match=r"data\.csv is a pipe"):
        check_rereadable(tmp_path / "data.csv")
    check_rereadable(tmp_path / "not-there")


def test_a_folder_that_was_there_stays_with_its_rights(tmp_path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    folder.chmod(0o750)
    (tmp_path / "link").symlink_to(folder)
    (tmp_path / "elsewhere").touch()
    written = OutputFolder.of(tmp_path / "link")
    written.make(private=True)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "deep" / "file").touch()
    (folder / "to-a-file").symlink_to(tmp_path / "elsewhere")
    (folder / "to-a-folder").symlink_to(tmp_path)
    written.clear()
    assert (tmp_path / "link").is_symlink()
    assert list(folder.iterdir()) == []
    assert (tmp_path / "elsewhere").exists()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o750


def fail_in(folder: Path, *names: str, keep: str = "") -> None:
    with output_folder(folder, keep):
        for name in names:
            (folder / name).touch()
        raise KeyboardInterrupt


def test_folders_that_were_made_go_and_others_stay(tmp_path) -> None:
    (tmp_path / "runs").mkdir()
    with pytest.raises(KeyboardInterrupt):
        fail_in(tmp_path / "runs" / "mine" / "out", "file")
    assert list((tmp_path / "runs").iterdir()) == []


def test_what_was_in_a_folder_and_what_is_to_keep_stays(tmp_path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(KeyboardInterrupt):
        fail_in(tmp_path, "answers.jsonl", "answers-1.jsonl", "scores.json", keep="answers*.jsonl")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["answers-1.jsonl", "answers.jsonl", "notes.txt"]


def test_a_folder_is_made_where_a_link_leads(tmp_path) -> None:
    (tmp_path / "link").symlink_to("later")
    folder = free_folder(tmp_path / "link")
    assert folder is not None
    with output_folder(folder):
        (folder / "file").touch()
    assert (tmp_path / "later" / "file").exists()


def test_a_folder_with_files_is_not_free(tmp_path) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    for path, why in ((tmp_path, "is not empty"), (tmp_path / "file", "is a file"), (tmp_path / "pipe", "is a pipe")):
        with pytest.raises(UsageError, match=why):
            free_folder(path)
    with pytest.raises(UsageError, match=r"leads through|is a file"):
        free_folder(tmp_path / "file" / "out")
    assert free_folder(None) is None


def test_what_a_killed_process_left_is_replaced(tmp_path: Path) -> None:
    out = tmp_path / "made" / "out"
    with output_folder(out):
        (out / "half").write_text("")
        left = {each.name for each in out.iterdir()}
        with pytest.raises(UsageError, match="Another process works in"), output_folder(out):
            pass
        assert left == {each.name for each in out.iterdir()}
    assert [each.name for each in out.iterdir()] == ["half"]
    with pytest.raises(UsageError, match="is not empty"):
        free_folder(out, unfinished=True)
    for name in left:
        (out / name).touch()
    (out / ".whole.1.draft").touch()
    with pytest.raises(UsageError, match="is not empty"):
        free_folder(out)
    assert free_folder(out, unfinished=True) == out
    with pytest.raises(ValueError, match="again"), output_folder(out):
        raise ValueError("again")
    assert list(out.iterdir()) == []
    (out / ".run.json.1.draft").touch()
    assert free_folder(out) == out


def test_what_a_killed_process_had_begun_to_write_is_removed_and_no_one_elses(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    dead, alive = (tmp_path / f".answers[1].csv.{number}.draft" for number in (process.pid, os.getppid()))
    for each in (dead, alive, tmp_path / ".answers[1].csv.draft"):
        each.touch()
    with open_output(tmp_path / "answers[1].csv") as file:
        file.write("all of it")
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted(
        [".answers[1].csv.draft", alive.name, "answers[1].csv"]
    )
