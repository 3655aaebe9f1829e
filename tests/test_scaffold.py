"""`gpt-tasks new`: what it writes is installed, listed, right by its own tests, and fine-tuned on its samples."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from gpt_tasks.cli.main import run
from gpt_tasks.plugins import load_plugins
from gpt_tasks.scaffold import Kind, write_plugin

ROOT = Path(__file__).parents[1]
KINDS = get_args(Kind)
TASKS = KINDS[:5]
FINETUNE = """
import sys
import gpt_tasks
from gpt_tasks.plugins import installed_plugins

quick = {"backbone": "tiny", "device": "cpu", "max_length": 128}
for name in sys.argv[1:]:
    fitted = {"method": "head"} if installed_plugins().registry.tasks[name].head else {"epochs": 1}
    print(name, gpt_tasks.finetune(name, output=f"run-{name}", **quick, **fitted).report.n)
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with a plugin of every kind, called as its kind, that sees the installed libraries."""
    folder = tmp_path_factory.mktemp("new")
    for kind in KINDS:
        write_plugin(f"my-{kind}", kind, folder / kind, load_plugins([]))
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
    python = folder / "venv" / "bin" / "python"
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = subprocess.run([str(python), "-c", code], check=True, capture_output=True, text=True).stdout.strip()
    seen = [str(ROOT), str(ROOT / "plugins"), sysconfig.get_path("purelib")]
    (Path(site) / "seen.pth").write_text("\n".join(seen) + "\n", encoding="utf-8")
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-index", "--no-deps"]
    done = subprocess.run(
        [*install, "--no-build-isolation", *(str(folder / kind) for kind in KINDS)],
        check=False,
        capture_output=True,
        text=True,
        env=clean(),
    )
    assert done.returncode == 0, done.stderr
    return folder


def clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


@pytest.fixture(scope="module")
def python(environment: Path) -> Callable[..., str]:
    def call(*arguments: str) -> str:
        command = [str(environment / "venv" / "bin" / "python"), *arguments]
        done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=environment, env=clean())
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return call


def test_what_is_installed_is_at_once_listed(python: Callable[..., str]) -> None:
    listed = {
        kind: json.loads(python("-m", "gpt_tasks", "list", kind, "--json"))[kind]
        for kind in ("tasks", "metrics", "suites", "backbones")
    }
    names = {entry["name"] for entries in listed.values() for entry in entries}
    assert {f"my-{kind}" for kind in KINDS} <= names


def test_every_task_is_fine_tuned_on_its_samples(python: Callable[..., str]) -> None:
    told = python("-c", FINETUNE, *(f"my-{kind}" for kind in TASKS)).split()
    assert told[::2] == [f"my-{kind}" for kind in TASKS]
    assert all(int(number) >= 2 for number in told[1::2])


def test_its_own_tests_pass(python: Callable[..., str]) -> None:
    told = python(
        "-m", "pytest", "-q", "--import-mode=importlib", "-p", "no:cacheprovider", *(f"{kind}/tests" for kind in KINDS)
    )
    assert "passed" in told
    assert "failed" not in told


def test_the_author_of_a_task_writes_no_more_than_25_lines_and_no_torch(tmp_path: Path) -> None:
    for kind in TASKS:
        made = write_plugin("sarcasm", kind, tmp_path / kind, load_plugins([]))
        module = (made.folder / "gpt_tasks_sarcasm" / "__init__.py").read_text(encoding="utf-8")
        assert len(module.splitlines()) <= 25
        assert "torch" not in module


def test_the_project_can_be_published(tmp_path: Path) -> None:
    made = write_plugin("two-words", "classification", tmp_path / "project", load_plugins([]))
    project = tomllib.loads((made.folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (project["name"], project["entry-points"]["gpt_tasks"]) == (
        "gpt-tasks-two-words",
        {"two-words": "gpt_tasks_two_words"},
    )
    workflow = (made.folder / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    assert "id-token: write" in workflow
    assert "password" not in workflow.replace("no password", "")
    for path in made.folder.rglob("*"):
        assert path.is_dir() or "$" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("two words", "'two words' is no name for a plugin"),
        ("7up", "'7up' is no name for a plugin"),
        ("a--b", "'a--b' is no name for a plugin"),
        ("naïve", "'naïve' is no name for a plugin"),
        ("sentiment", "'sentiment' is taken by plugin 'sentiment'"),
        ("there", "there is there already"),
    ],
)
def test_a_name_that_cannot_be_is_one_clear_error(
    name: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    arguments: list[Any] = ["new", name, *(["--output", "there"] if name == "there" else [])]
    assert run(arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert told in lines[0]
    assert len(lines) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_what_else_is_taken_is_told_by_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, kind in (("accuracy", "metric"), ("blimp", "suite"), ("gpt2", "backbone")):
        assert run(["new", name, "--kind", kind, "--output", str(tmp_path / name)]) == 2
        assert f"'{name}' is taken by plugin" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
