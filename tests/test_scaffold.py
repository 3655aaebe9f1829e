"""`gpt-tasks new`: what it writes is installed and listed, passes its own tests, and does what its README says."""

from __future__ import annotations

import ast
import importlib
import json
import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpt_tasks import hookspecs
from gpt_tasks.cli.main import run
from gpt_tasks.extensions import ResponderSpec
from gpt_tasks.plugins import Plugin, installed_plugins, load_plugins
from gpt_tasks.scaffold import KINDS, write_plugin
from gpt_tasks.types import Row

ROOT = Path(__file__).parents[1]
TASKS = [kind for kind in KINDS if "tasks" in KINDS[kind].registries]
SHORT = [kind for kind in TASKS if kind != "family"]
LINEAR = ("classification", "multi-label", "regression", "multiple-choice", "span")
FEW_ROWS = Path("classification", "gpt_tasks_my_classification", "samples")
QUICK = {
    "finetune": ["--json", "--device", "cpu", "--max-length", "128"],
    "evaluate": ["--json", "--device", "cpu"],
    "score": ["--json", "--device", "cpu", "--limit", "2"],
    "list": ["--json"],
}
RUN_ALL = """
import contextlib, io, json, sys
from gpt_tasks.cli.main import run

for arguments in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as output:
        if run(arguments):
            sys.exit(f"{arguments} failed")
    print(json.dumps(output.getvalue()))
"""


class Installed:
    """A plugin of every kind, named after its kind: its project in `folder`, and all installed in `site`."""

    def __init__(self, folder: Path, server: Any) -> None:
        self.folder, self.site, self.server = folder, folder / "site", server
        self.made = {kind: write_plugin(f"my-{kind}", kind, folder / kind, load_plugins([])) for kind in KINDS}

    def run(self, *arguments: object, code: str = "") -> str:
        """Run a command, or code, with the plugins; return what it prints."""
        done = self.server.run(*arguments, code=code, path=[self.site], folder=self.folder)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory, command_server: Any, install_projects: Any) -> Installed:
    installed = Installed(tmp_path_factory.mktemp("new"), command_server)
    by_pip, *others = (installed.folder / kind for kind in KINDS)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    done = subprocess.run([*command, "--target", installed.site, by_pip], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    install_projects(others, installed.site)
    return installed


@pytest.fixture(scope="module")
def outputs(environment: Installed) -> dict[str, Any]:
    """By kind, the output of the last command that `gpt-tasks new` prints; all run in one process."""
    commands = {}
    # The backbone is on the hub.
    for kind in [kind for kind in KINDS if kind != "backbone"]:
        program, *arguments = shlex.split(environment.made[kind].commands[-1])
        assert program == "gpt-tasks"
        arguments += QUICK.get(arguments[0], [])
        if arguments[0] == "finetune":
            quick = ["--method", "head"] if kind in (*LINEAR, "source", "observer") else ["--epochs", "1"]
            quick += ["--max-tokens", "4"] if kind == "dialogue" else []
            # Built-in tasks have larger samples.
            quick += ["--data", str(FEW_ROWS)] if kind in ("method", "observer") else []
            arguments += [*quick, "--output", f"run-{kind}"]
        commands[kind] = arguments
    commands["classification"] += ["--metric", "my-metric"]
    commands["command of a run"] = ["my-command", "run-family"]
    lines = environment.run(json.dumps(list(commands.values())), code=RUN_ALL).splitlines()
    found: dict[str, Any] = {}
    for (kind, arguments), line in zip(commands.items(), lines, strict=True):
        output = json.loads(line)
        found[kind] = json.loads(output) if "--json" in arguments else output
    return found


def test_what_is_installed_is_listed(environment: Installed) -> None:
    listed = {plugin["name"]: plugin for plugin in json.loads(environment.run("plugins", "--json"))["plugins"]}
    for kind in KINDS:
        plugin, name = listed[f"my-{kind}"], f"my-{kind}"
        assert plugin["state"] == "ok", plugin["error"]
        expected = {f"{getattr(installed_plugins().registry, each).kind} {name}" for each in KINDS[kind].registries}
        assert set(plugin["brings"]) == expected
    assert listed["my-observer"]["hooks"] == ["observe"]


def test_there_is_a_kind_for_every_hook() -> None:
    hooks = {name for name, value in vars(hookspecs).items() if hasattr(value, f"{hookspecs.PROJECT}_spec")}
    registries = {f"register_{registry}" for kind in KINDS.values() for registry in kind.registries}
    assert registries | {"observe"} == hooks


def test_its_own_tests_pass(environment: Installed) -> None:
    options = ["-q", "-n", "0", "--import-mode=importlib", "-p", "no:cacheprovider", "--rootdir", environment.folder]
    folders = [f"{kind}/tests" for kind in KINDS]
    shown = environment.run(*options, *folders, code="import sys, pytest; sys.exit(pytest.main(sys.argv[1:]))")
    assert "passed" in shown
    assert "failed" not in shown


def test_every_task_is_fine_tuned_or_evaluated_on_its_samples(outputs: dict[str, Any]) -> None:
    for kind in TASKS:
        assert outputs[kind]["task"] == f"my-{kind}"
        assert outputs[kind]["n"] >= 2
    assert 0 <= outputs["classification"]["metrics"]["my-metric"]["value"] <= 1
    assert {"accuracy", "mae"} == set(outputs["family"]["metrics"]) == set(outputs["family"]["baselines"]["median"])


def test_what_is_no_task_is_used_by_the_command_that_is_printed(
    outputs: dict[str, Any], environment: Installed
) -> None:
    for kind, registry in (("metric", "metrics"), ("head", "heads")):
        assert f"my-{kind}" in [entry["name"] for entry in outputs[kind][registry]]
    assert [task["name"] for task in outputs["suite"]["tasks"]] == ["endings"]
    assert outputs["responder"]["model"]["spec"] == "my-responder:uniform"
    assert outputs["method"]["task"] == outputs["observer"]["task"] == "sentiment"
    assert outputs["source"]["labels"] == ["bad", "good"]
    assert "The folder of a finished run." in outputs["command"]
    assert re.fullmatch(r"accuracy: .* \(baseline .*\)\nmae: .* \(baseline .*\)\n", outputs["command of a run"])
    steps = (environment.folder / "run-family" / "my-observer.csv").read_text(encoding="utf-8").splitlines()
    assert [line.partition(",")[0] for line in steps] == [str(number) for number in range(1, len(steps) + 1)]


def test_the_method_moves_only_vectors(outputs: dict[str, Any], environment: Installed) -> None:
    from safetensors.torch import load_file

    before = load_file(ROOT / "gpt_tasks" / "backbone" / "embedded" / "tiny" / "model.safetensors")
    after = load_file(environment.folder / "run-method" / "model" / "model.safetensors")
    moved = {name for name, weights in before.items() if name in after and not weights.equal(after[name])}
    assert moved
    assert all(before[name].ndim == 1 for name in moved)


def test_the_author_of_a_task_writes_no_more_than_25_lines_and_no_torch(tmp_path: Path) -> None:
    for kind in SHORT:
        module = source_of(kind, "sarcasm", tmp_path)
        assert len(module.splitlines()) <= 25
        assert "torch" not in module


def test_a_family_imports_public_names_alone_and_torch_only_in_its_learner(tmp_path: Path) -> None:
    import gpt_tasks

    made = write_plugin("grades", "family", tmp_path / "grades", load_plugins([]))
    learner = made.folder / "gpt_tasks_grades" / "learner.py"
    for path in (made.folder / "gpt_tasks_grades" / "__init__.py", learner):
        imports = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
        own = [node for node in imports if str(node.module).startswith("gpt_tasks") and node.module != "gpt_tasks"]
        assert {node.module for node in own} <= {"gpt_tasks_grades.learner"}
        public = {alias.name for node in imports if node.module == "gpt_tasks" for alias in node.names}
        assert public <= set(gpt_tasks.__all__)
        assert ("import torch" in path.read_text().splitlines()) == (path == learner)


@pytest.mark.parametrize("value", ["4", "4.0", 4, 4.0])
def test_a_family_reads_whole_numbers_as_every_format_writes_them(
    value: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = write_plugin("marks", "family", tmp_path / "marks", load_plugins([]))
    monkeypatch.syspath_prepend(str(made.folder))
    task = importlib.import_module("gpt_tasks_marks").Marks()
    assert task.read_target(Row({"grade": value}, "a.csv:2"), "grade") == "4"


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_formatted_and_every_placeholder_is_filled(kind: str, tmp_path: Path) -> None:
    made = write_plugin("two-words", kind, tmp_path / "project", load_plugins([]))
    for path in made.folder.rglob("*"):
        assert path.is_dir() or "$" not in path.read_text(encoding="utf-8")
    ruff = [sys.executable, "-m", "ruff"]
    style = ["--isolated", "--no-cache", "--quiet", "--line-length", "120"]
    for command in (
        ["check", "--select", "E,F,W,I,B,UP,SIM,PL,D1", "--ignore", "PLR2004,PLC0415,D103,D107"],
        ["format", "--check"],
    ):
        checked = made.folder if command[0] == "format" else made.folder / "gpt_tasks_two_words"
        done = subprocess.run([*ruff, *command, *style, str(checked)], check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


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


@pytest.mark.parametrize("name", ["none", "true", "prediction", "head-task", "statistic", "path"])
@pytest.mark.parametrize("kind", TASKS)
def test_the_class_is_no_keyword_and_hides_no_import(name: str, kind: str, tmp_path: Path) -> None:
    tree = ast.parse(source_of(kind, name, tmp_path))
    (defined,) = [node.name for node in tree.body if isinstance(node, ast.ClassDef)]
    imported = {alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert defined not in imported


def source_of(kind: str, name: str, folder: Path) -> str:
    made = write_plugin(name, kind, folder / f"{kind}-{name}", load_plugins([]))
    return (made.folder / f"gpt_tasks_{name.replace('-', '_')}" / "__init__.py").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("two words", "'two words' cannot be the name of a plugin"),
        ("7up", "'7up' cannot be the name of a plugin"),
        ("a--b", "'a--b' cannot be the name of a plugin"),
        ("naïve", "'naïve' cannot be the name of a plugin"),
        ("", "'' cannot be the name of a plugin"),
        ("../up", "'../up' cannot be the name of a plugin"),
        ("tensorboard", "'tensorboard' is taken by plugin 'tensorboard' of gpt-tasks"),
        ("plugins", "'plugins' is taken: gpt-tasks 0.1.0 has the module gpt_tasks_plugins"),
        ("there", "there exists already"),
    ],
)
def test_a_name_that_cannot_be_is_one_clear_error(
    name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    arguments: list[Any] = ["new", name, *(["--output", "there"] if name == "there" else [])]
    assert run(arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert message in lines[0]
    assert len(lines) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


@pytest.mark.parametrize(
    ("name", "kind", "owner"),
    [
        ("sentiment", "classification", "a task of plugin 'sentiment'"),
        ("entailment", "dialogue", "a task of plugin 'entailment'"),
        ("multi-label", "family", "a learner of plugin 'learners'"),
        ("pooled", "family", "a head of plugin 'heads'"),
        ("accuracy", "metric", "a metric of plugin 'metrics'"),
        ("blimp", "suite", "a suite of plugin 'suites'"),
        ("gpt2", "backbone", "a backbone of plugin 'backbones'"),
        ("sequence", "head", "a head of plugin 'heads'"),
        ("lora", "method", "a method of plugin 'methods'"),
        ("hf", "source", "a source of plugin 'hub'"),
        ("conll", "source", "a source of plugin 'ner'"),
        ("finetune", "command", "a command of plugin 'commands'"),
        ("tensorboard", "observer", "plugin 'tensorboard' of gpt-tasks"),
    ],
)
def test_a_name_that_is_taken_is_refused_with_its_owner(
    name: str, kind: str, owner: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["new", name, "--kind", kind, "--output", str(tmp_path / name)]) == 2
    assert f"'{name}' is taken by {owner}" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_prefix_and_a_module_of_other_plugins_are_refused(tmp_path: Path) -> None:
    from gpt_tasks import UsageError

    plugins = load_plugins([])
    plugins.registry.responders.add("openai", ResponderSpec("openai:", "", lambda *_: None), "acme")  # type: ignore
    with pytest.raises(UsageError, match="'openai' is taken by a responder of plugin 'acme'"):
        write_plugin("openai", "responder", tmp_path / "new", plugins)
    plugins.plugins.append(Plugin("a_b", "gpt_tasks_a_b.deep", "acme", "1.2"))
    with pytest.raises(UsageError, match=r"'a-b' is taken: acme 1\.2 has the module gpt_tasks_a_b"):
        write_plugin("a-b", "metric", tmp_path / "new", plugins)
    assert write_plugin("openai", "metric", tmp_path / "new", replace(plugins)).folder == tmp_path / "new"


@pytest.mark.parametrize(
    ("kind", "hint"),
    [
        ("choice", "Did you mean 'multiple-choice'?"),
        ("Famly", "Did you mean 'family'?"),
        ("zzz", "The kinds are class"),
    ],
)
def test_an_unknown_kind_is_refused_with_the_known_ones(
    kind: str, hint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["new", "sarcasm", "--kind", kind, "--output", str(tmp_path / "new")]) == 2
    message, shown = capsys.readouterr().err.splitlines()
    assert message == f"UsageError: There is no kind '{kind}'"
    assert shown.startswith(hint)
    assert all(known in shown for known in KINDS)


def test_the_help_names_every_kind(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["new", "--help"]) == 0
    shown = "".join(capsys.readouterr().out.split())
    assert all(kind in shown for kind in KINDS)
