"""What docs/plugins.md teaches is true: its code is that of the packages in examples/plugins, which work together."""

from __future__ import annotations

import json
import re
import shlex
import sqlite3
from pathlib import Path

import pytest

from gpt_tasks.errors import PluginError
from gpt_tasks.hookspecs import DECLARATION, HOOKS_VERSION
from gpt_tasks.plugins import GROUP, installed_plugins, load_plugins, metadata
from gpt_tasks.tasks.options import validated
from gpt_tasks.types import Row

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples" / "plugins"
DOCS = (ROOT / "docs" / "examples.md").read_text(encoding="utf-8")
BRINGS = {
    "sarcasm": "task sarcasm",
    "attention": "head attention",
    "kappa": "metric kappa",
    "counting": "suite counting",
    "shelf": "backbone shelf",
    "sqlite": "source sql",
    "prompt-tuning": "method prompt",
    "mistakes": "command mistakes",
    "jsonl-log": "observe",
    "embedding": "task embedding",
    "preference": "task preference",
    "token-regression": "task token-regression",
    "openai": "responder openai",
    "mlflow": "observe",
    "wandb": "observe",
}
# Those whose whole code the page shows, and which it uses together.
SHOWN = list(BRINGS)[:9]


def blocks(language: str, heading: str | None = None) -> list[str]:
    sections = re.split(r"^##+ ", DOCS, flags=re.MULTILINE)
    text = DOCS if heading is None else next(section for section in sections if section.startswith(f"{heading}\n"))
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def commands(heading: str) -> list[list[str]]:
    """The commands under a heading, without the name of the program."""
    lines = [shlex.split(line) for block in blocks("bash", heading) for line in block.splitlines()]
    assert all(program in ("gpt-tasks", "pip") for program, *_ in lines)
    return [arguments for program, *arguments in lines if program == "gpt-tasks"]


OPTIONS, TOGETHER, VERSIONS = "Options of its own", "Use them together", "Versions of the hooks"


def test_the_page_shows_the_examples_unchanged() -> None:
    modules = {path.read_text(encoding="utf-8") for name in SHOWN for path in EXAMPLES.glob(f"{name}/gpt_tasks_*/*.py")}
    assert all(f"examples/plugins/{name}" in DOCS for name in set(BRINGS) - set(SHOWN))
    by_themselves = {block for heading in (OPTIONS, TOGETHER, VERSIONS) for block in blocks("python", heading)}
    assert set(blocks("python")) - by_themselves == modules
    assert blocks("toml") == [(EXAMPLES / "sarcasm" / "pyproject.toml").read_text(encoding="utf-8")]
    assert blocks("yaml") == [(EXAMPLES / "counting/gpt_tasks_counting/counting.yaml").read_text(encoding="utf-8")]
    samples = (EXAMPLES / "sarcasm" / "gpt_tasks_sarcasm" / "samples").glob("*.jsonl")
    written = {line for path in samples for line in path.read_text(encoding="utf-8").splitlines()}
    assert set(blocks("json")[0].splitlines()) <= written
    assert set(re.findall(r"```(\w*)\n.*?```", DOCS, flags=re.DOTALL)) == {"python", "toml", "yaml", "json", "bash"}


def test_the_page_and_the_examples_declare_the_version_of_the_hooks() -> None:
    declared = f"{DECLARATION} = {HOOKS_VERSION}\n"
    assert blocks("python", VERSIONS) == [declared]
    undeclared = {path.parts[-3] for path in EXAMPLES.glob("*/*/__init__.py") if declared not in path.read_text()}
    assert undeclared == {"sarcasm"}, "the tutorial's first example stays as short as can be"


def test_every_example_says_what_it_is() -> None:
    assert {path.name for path in EXAMPLES.iterdir()} == set(BRINGS)
    for name in BRINGS:
        assert (EXAMPLES / name / "README.md").read_text().startswith(f"# gpt-tasks-{name}\n")


URGENCY_PROJECT = """
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "gpt-tasks-urgency"
version = "0.1.0"

[project.entry-points.gpt_tasks]
urgency = "gpt_tasks_urgency"

[tool.setuptools]
py-modules = ["gpt_tasks_urgency"]
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory, installed):
    """The examples, and the task of the page that uses some of them together, installed."""
    project = tmp_path_factory.mktemp("urgency") / "urgency"
    project.mkdir()
    (project / "pyproject.toml").write_text(URGENCY_PROJECT)
    (project / "gpt_tasks_urgency.py").write_text(blocks("python", TOGETHER)[0])
    return installed([*sorted(EXAMPLES.iterdir()), project])


def test_all_load_next_to_each_other(environment) -> None:
    listed = environment.run("plugins", "--json")
    assert listed.stderr == ""
    plugins = {plugin["name"]: plugin for plugin in json.loads(listed.stdout)["plugins"]}
    for name, brings in BRINGS.items():
        assert plugins[name]["distribution"] == f"gpt-tasks-{name}"
        assert brings in [*plugins[name]["brings"], *plugins[name]["hooks"]]


def test_their_own_tests_pass(environment, command_server) -> None:
    tests = sorted(EXAMPLES.glob("*/tests"))
    assert len(tests) >= 14
    # Their observers are tested by themselves, and would track the trainings of the others.
    loaded = ",".join({*BRINGS} - {"mlflow", "wandb"})
    options = ("-q", "-n", "0", "-p", "no:cacheprovider", "--import-mode=importlib")
    code = "import sys, pytest; sys.exit(pytest.main(sys.argv[1:]))"
    done = command_server.run(*options, *tests, code=code, path=[environment.path], GPT_TASKS_PLUGINS=loaded)
    assert done.returncode == 0, done.stdout + done.stderr


RUN_ALL = """
import contextlib, io, json, sys
from gpt_tasks.cli.main import run

for arguments in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as told:
        code = run(arguments)
    print(json.dumps([code, told.getvalue()]))
"""


@pytest.fixture(scope="module")
def told(environment, command_server, tmp_path_factory, tiny_backbone_folder):
    """What the commands of the page say, run one after another in one process; and the folder in which they ran."""
    folder = tmp_path_factory.mktemp("here")
    with sqlite3.connect(folder / "mail.db") as database:
        database.execute("CREATE TABLE messages (text, label)")
        wishes = (("The mill is burning, come at once", "urgent"), ("The tea was good, thank you", "ordinary"))
        rows = [(f"{text}, number {number}", label) for number in range(30) for text, label in wishes]
        database.executemany("INSERT INTO messages VALUES (?, ?)", rows)
    database.close()
    quick = {
        "finetune": ["--epochs", "1", "--json"],
        "mistakes": ["--json"],
        "score": ["--json"],
        "plugins": ["--json"],
        "evaluate": ["--json"],
    }
    samples = EXAMPLES / "sarcasm" / "gpt_tasks_sarcasm" / "samples" / "test.jsonl"
    opened = ["evaluate", "runs/sarcasm", "--data", str(samples), "--output", "evaluated"]
    asked = [*commands("4. Use it"), *commands(TOGETHER), opened]
    settings = {"GPT_SHELF": str(tiny_backbone_folder), "GPT_TASKS_PLUGINS": ",".join([*SHOWN, "urgency"])}
    lines = json.dumps([[*each, *quick[each[0]]] for each in asked])
    done = command_server.run(lines, code=RUN_ALL, path=[environment.path], folder=folder, **settings)
    assert done.returncode == 0, done.stderr
    answers = {}
    for arguments, line in zip(asked, done.stdout.splitlines(), strict=True):
        code, out = json.loads(line)
        assert code == 0, f"{arguments}: {done.stderr}"
        answers[" ".join(arguments[:2])] = json.loads(out)
    return folder, answers


def test_a_task_is_fine_tuned_with_the_head_the_metric_the_source_and_the_preset(told, tiny_backbone_folder) -> None:
    from safetensors.torch import load_file

    folder, answers = told
    report = answers["finetune urgency"]
    assert {"accuracy", "mcc", "kappa"} <= set(report["metrics"])
    assert -1 <= report["metrics"]["kappa"]["value"] <= 1
    model = folder / "runs" / "urgency" / "model"
    assert set(load_file(model / "head.safetensors")) == {"weigh.weight", "classify.weight", "classify.bias"}
    assert load_file(model / "head.safetensors")["weigh.weight"].abs().sum() > 0, "it began as zeros"
    record = json.loads((folder / "runs" / "urgency" / "run.json").read_text())
    assert record["config"]["backbone"] == "shelf"
    assert sum(record["rows"].values()) == 60
    assert load_file(model / "model.safetensors").keys() == load_file(tiny_backbone_folder / "model.safetensors").keys()


def test_the_log_reports_the_run(told) -> None:
    folder, _ = told
    lines = [json.loads(line) for line in (folder / "runs" / "urgency" / "events.jsonl").read_text().splitlines()]
    events = [line["event"] for line in lines]
    assert (events[0], events[-1]) == ("run_started", "run_ended")
    assert {"step", "evaluated", "saved"} <= set(events)
    assert all("kappa" in line for line in lines if line["event"] == "evaluated")


def test_the_command_shows_what_the_report_holds(told) -> None:
    folder, answers = told
    report = json.loads((folder / "runs" / "urgency" / "metrics.json").read_text())
    wrong = round(report["n"] * (1 - report["metrics"]["accuracy"]["value"]))
    shown = answers["mistakes runs/urgency"]["mistakes"]
    assert len(shown) == min(wrong, 5)
    assert all(mistake["label"] != mistake["predicted"] for mistake in shown)


def test_the_suite_is_scored(told) -> None:
    _, answers = told
    tasks = {task["name"]: task for task in answers["score shelf"]["tasks"]}
    assert set(tasks) == {"next", "larger"}
    assert tasks["next"]["n"] == tasks["larger"]["n"] == 8


def test_a_run_of_prompt_tuning_is_opened_again_with_what_was_tuned(told) -> None:
    from safetensors.torch import load_file

    folder, _ = told
    run = folder / "runs" / "sarcasm"
    (vectors,) = load_file(run / "model" / "method.safetensors").values()
    assert vectors.shape == (16, 16)
    first, again = (
        [json.loads(line)["probabilities"] for line in (path / "predictions.jsonl").read_text().splitlines()]
        for path in (run, folder / "evaluated")
    )
    assert len(first) == len(again) == 8
    assert all(one == pytest.approx(other, abs=1e-5) for one, other in zip(first, again, strict=True))


def test_a_run_of_prompt_tuning_needs_its_plugin(told) -> None:
    from gpt_tasks.heads.saved import load_model

    folder, _ = told
    registry = installed_plugins().registry
    with pytest.raises(PluginError, match="the run needs the method 'prompt', which no installed plugin provides"):
        load_model(folder / "runs" / "sarcasm" / "model", registry.heads, registry.methods)


def test_prompt_tuning_leaves_the_backbone_as_it_was(told, tiny_backbone_folder) -> None:
    import torch
    from safetensors.torch import load_file

    folder, _ = told
    before = load_file(tiny_backbone_folder / "model.safetensors")
    after = load_file(folder / "runs" / "sarcasm" / "model" / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_method_that_is_saved_next_to_the_model_is_refused_where_there_is_no_head(environment, tmp_path) -> None:
    refused = environment.run("finetune", "summarization", "--method", "prompt", "--output", tmp_path / "run")
    assert refused.returncode == 2
    assert "--method prompt is for tasks with a head" in refused.stderr
    assert not (tmp_path / "run").exists()


@pytest.fixture
def register(site):
    site.install("register", blocks("python", OPTIONS)[0])
    loaded = load_plugins([*metadata.entry_points(group=GROUP), *site.entry_points()])
    assert loaded.failures() == []
    return loaded.registry.tasks["register"]


def test_its_own_options_apply_and_are_saved_with_the_model(register) -> None:
    shout, columns = Row({"text": "DEAR SIR"}, "x.csv:2"), {"text": "text"}
    lowered = register.configured(validated(register.Options, {"lower": "yes"}))
    assert register.example(shout, columns).inputs == {"text": "DEAR SIR"}
    assert lowered.example(shout, columns).inputs == {"text": "dear sir"}
    assert (
        register.restored(json.loads(json.dumps(lowered.state()))).example(shout, columns).inputs["text"] == "dear sir"
    )
