"""The command line in this process, and a small finished run."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from gpt_tasks.cli.main import run

ROWS = [
    (f"{opening} {thing} {ending}", label)
    for opening, ending, label in (
        ("What a splendid", "it was.", "positive"),
        ("I would gladly see this", "again.", "positive"),
        ("Nobody should pay for such a", "ever.", "negative"),
        ("I regret the", "already.", "negative"),
    )
    for thing in ("film", "dinner", "hotel", "walk", "concert", "novel", "museum", "train")
]


@dataclass(frozen=True)
class Outcome:
    """What a command left: its exit code and what it printed."""

    code: int
    out: str
    err: str


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """Run a command in this process, in a separate empty folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def command(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return command


def write_csv(path: Path, rows: list[tuple[str, ...]], header: tuple[str, ...] = ("text", "label")) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


@pytest.fixture(scope="session")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small file of labelled reviews."""
    return write_csv(tmp_path_factory.mktemp("data") / "reviews.csv", ROWS)


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory, tiny_backbone_folder: Path, reviews: Path) -> Path:
    """A finished run of `sentiment`; do not write into it."""
    output = tmp_path_factory.mktemp("finished") / "run"
    arguments = ["finetune", "sentiment", "--data", reviews, "--backbone", tiny_backbone_folder, "--epochs", 1]
    assert run([str(argument) for argument in [*arguments, "--output", output]]) == 0
    return output


@pytest.fixture
def own_run(finished_run: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to be broken."""
    return Path(shutil.copytree(finished_run, tmp_path / "own-run"))
