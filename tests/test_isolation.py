"""Installed distributions, each broken in its own way: none hurts another, each is reported with its cause."""

from __future__ import annotations

import json
import re
import textwrap

import pytest

TASK = """
    from gpt_tasks import ClassificationTask, hookimpl

    class Task(ClassificationTask):
        "A task."
        name = "{name}"

    @hookimpl
    def register_tasks():
        return [Task()]
    """
SLEEPS = 0.3
# For each distribution: what its module holds, and the cause by which it is left out.
BROKEN = {
    "raises": ("raise RuntimeError('no luck')", r"RuntimeError: no luck"),
    "exits": ("import sys\nsys.exit(0)", r"SystemExit: 0"),
    "misnames": (
        TASK.format(name="misnames").replace("register_tasks", "register_task"),
        r"ValueError: unknown hook 'register_task': did you mean 'register_tasks'\?",
    ),
    "mistypes": (
        TASK.format(name="mistypes").replace("[Task()]", "Task()"),
        r"TypeError: register_tasks must return a list of Task, not Task",
    ),
    "claims": (
        TASK.format(name="sentiment"),
        r"ValueError: the task name 'sentiment' is taken by plugin 'sentiment'",
    ),
    "lacks": ("import a_library_that_is_not_there", r"ModuleNotFoundError: No module named 'a_library_that_is_.*'"),
    "ahead": (
        "from gpt_tasks import a_name_that_is_not_there_yet\nGPT_TASKS_HOOKS = 2",
        r"ValueError: it is built for version 2 of the hooks, and gpt-tasks \S+ has version 1: upgrade gpt-tasks",
    ),
}
GOOD = {"sleeps": f"import time\ntime.sleep({SLEEPS})\n{textwrap.dedent(TASK.format(name='sleeps'))}"}
PROJECT = """
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "acme-{name}"
version = "0.3"

[project.entry-points.gpt_tasks]
{name} = "acme_{name}"

[tool.setuptools]
py-modules = ["acme_{name}"]
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory, installed):
    projects = []
    for name, source in {**{name: source for name, (source, _) in BROKEN.items()}, **GOOD}.items():
        project = tmp_path_factory.mktemp("projects") / name
        project.mkdir()
        (project / f"acme_{name}.py").write_text(textwrap.dedent(source))
        (project / "pyproject.toml").write_text(PROJECT.format(name=name))
        projects.append(project)
    return installed(projects)


def test_help_is_shown_and_each_failure_is_reported_in_one_line(environment) -> None:
    shown = environment.run("--help")
    assert shown.returncode == 0
    assert "finetune" in shown.stdout
    told = {line.split("'")[1]: line for line in shown.stderr.splitlines()}
    assert set(told) == set(BROKEN)
    assert len(shown.stderr.splitlines()) == len(BROKEN)
    for name, (_, cause) in BROKEN.items():
        assert re.fullmatch(rf"Plugin '{name}' \(acme-{name} 0.3\) is left out: {cause}", told[name])


def test_a_command_that_needs_none_of_them_does_its_work(environment, command_server) -> None:
    asked = ["generate", "tiny", "Once upon a time", "--max-new-tokens", "3", "--json"]
    done = command_server.run(*asked, path=[environment.path])
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)


def test_plugins_lists_each_with_state_cause_hooks_and_load_time(environment) -> None:
    listed = json.loads(environment.run("plugins", "--json").stdout)["plugins"]
    plugins = {plugin["name"]: plugin for plugin in listed}
    for name, (_, cause) in BROKEN.items():
        assert (plugins[name]["state"], plugins[name]["brings"]) == ("left out", [])
        assert re.fullmatch(cause, plugins[name]["error"])
        assert (plugins[name]["distribution"], plugins[name]["version"]) == (f"acme-{name}", "0.3")
    assert plugins["misnames"]["hooks"] == ["register_task"]
    assert plugins["claims"]["hooks"] == plugins["mistypes"]["hooks"] == ["register_tasks"]
    assert plugins["ahead"]["hooks"] == plugins["raises"]["hooks"] == []
    slow = plugins["sleeps"]
    assert (slow["state"], slow["hooks"], slow["brings"]) == ("ok", ["register_tasks"], ["task sleeps"])
    assert slow["seconds"] >= SLEEPS

    table = environment.run("plugins").stdout
    (line,) = [line for line in table.splitlines() if line.startswith("sleeps ")]
    assert int(re.search(r"(\d+) ms +ok", line)[1]) >= 1000 * SLEEPS


@pytest.mark.parametrize("name", ["raises", "ahead"])
def test_what_needs_a_broken_one_fails_with_its_cause(environment, name) -> None:
    wanted = environment.run("finetune", name)
    assert wanted.returncode == 3
    assert re.search(BROKEN[name][1], wanted.stderr.splitlines()[-2])
    assert "Traceback" not in wanted.stderr


def test_the_environment_selects_which_are_loaded(environment) -> None:
    shown = environment.run("plugins", "--json", GPT_TASKS_PLUGINS="sleeps")
    assert (shown.returncode, shown.stderr) == (0, "")
    states = {plugin["name"]: plugin["state"] for plugin in json.loads(shown.stdout)["plugins"]}
    assert {states[name] for name in BROKEN} == {"not selected"}
    assert states["sleeps"] == states["sentiment"] == "ok"

    wrong = environment.run("--help", GPT_TASKS_PLUGINS="sleeps,slept")
    assert wrong.returncode == 2
    assert wrong.stderr.splitlines() == [
        "UsageError: GPT_TASKS_PLUGINS: no plugin called 'slept' is installed",
        "Installed besides gpt-tasks' own: ahead, claims, exits, lacks, misnames, mistypes, raises, sleeps.",
    ]


def test_where_it_is_strict_the_first_failure_is_an_error(environment) -> None:
    failed = environment.run("--help", GPT_TASKS_STRICT="1")
    assert failed.returncode == 3
    first, hint = failed.stderr.splitlines()
    assert first.startswith(
        "PluginError: Plugin 'ahead' (acme-ahead 0.3) cannot be loaded: ValueError: it is built for"
    )
    assert "unset GPT_TASKS_STRICT" in hint
    assert environment.run("--help", GPT_TASKS_STRICT="1", GPT_TASKS_PLUGINS="sleeps").returncode == 0
