"""Nothing that only talks to the user waits for torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import gpt_tasks

HEAVY = ("torch", "transformers", "datasets", "sklearn", "scipy", "numpy", "pandas", "matplotlib", "peft", "evaluate")
LIBRARIES = "import pluggy, typer.main, pydantic; type('Settings', (pydantic.BaseModel,), {})"

REPORT = f"""
import atexit, sys
atexit.register(lambda: print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr))
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", REPORT + code], capture_output=True, text=True, timeout=300, check=False
    )


LIGHT = [
    ["--help"],
    ["--version"],
    ["finetune", "--help"],
    ["finetune", "sentiment", "--help"],
    ["pretrain", "--help"],
    ["predict", "--help"],
    ["generate", "--help"],
    ["generate", "tiny", "x", "--top-p", "1.5"],
    ["chat", "--help"],
    ["chat", "tiny", "--top-p", "1.5"],
    ["evaluate", "--help"],
    ["plugins"],
    ["plugins", "check", "--help"],
    ["plugins", "check", "sentimant"],
    ["list", "methods"],
    ["finetune", "sentimant"],
]
# numpy may be there: a setting is checked against what is registered.
WRONG = [
    ["finetune", "sentiment", *flags] for flags in (["--epochs", "-1"], ["--method", "lorra"], ["--backbone", "tinny"])
]
# In one process, one after the other: the first that imports something heavy is the culprit.
RUN_EACH = f"""
import contextlib, io, json, sys
from gpt_tasks.cli.main import run

for arguments in {[*LIGHT, *WRONG]}:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        code = run(arguments)
    print(json.dumps([arguments, code, [name for name in {HEAVY} if name in sys.modules]]))
"""


def test_what_computes_nothing_imports_nothing_heavy() -> None:
    process = run(RUN_EACH)
    ended = [json.loads(line) for line in process.stdout.splitlines()]
    assert len(ended) == len(LIGHT) + len(WRONG), process.stderr
    for arguments, code, heavy in ended[: len(LIGHT)]:
        assert code in (0, 2), arguments
        assert heavy == [], arguments
    for arguments, code, heavy in ended[len(LIGHT) :]:
        assert code == 2, arguments
        assert set(heavy) <= {"numpy"}, arguments


def test_importing_gpt_tasks_imports_nothing_heavy() -> None:
    process = run("import gpt_tasks; gpt_tasks.ClassificationTask; gpt_tasks.hookimpl; gpt_tasks.Example")
    assert process.returncode == 0, process.stderr
    assert process.stderr.splitlines() == ["[]"]


def test_every_public_name_is_there() -> None:
    for name in gpt_tasks.__all__:
        assert getattr(gpt_tasks, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'tune'"):
        _ = gpt_tasks.tune


PREDICT = """
import gpt_tasks
run = gpt_tasks.finetune("sentiment", output={folder!r}, limit=20, method="head", device="cpu")
run.predict("A fine day.")
print(*sorted(name for name in sys.modules if name.startswith(("gpt_tasks.scoring", "gpt_tasks.generation"))))
"""


def test_a_model_that_gives_labels_imports_no_room_of_models_that_write(tmp_path) -> None:
    process = run(PREDICT.format(folder=str(tmp_path / "run")))
    assert process.returncode == 0, process.stderr
    # How answers are written, and how few-shot examples are drawn, are flags of any run.
    flags = {"gpt_tasks.generation.decoding", "gpt_tasks.scoring.shots"}
    assert set(process.stdout.split()) <= {"gpt_tasks.generation", "gpt_tasks.scoring", *flags}


def processor_seconds(*arguments: str, **variables: str) -> float:
    child = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL, env={**os.environ, **variables})
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0
    return usage.ru_utime + usage.ru_stime


@pytest.mark.skipif(not hasattr(os, "wait4"), reason="processor time of one child is measured by wait4")
def test_help_costs_little_more_than_its_libraries() -> None:
    """Twice, where it was measured. Seconds would test the machine, and what else it has to do: benchmarks/startup.py
    holds their goal."""
    rounds = [(processor_seconds("-m", "gpt_tasks", "--help"), processor_seconds("-c", LIBRARIES)) for _ in range(5)]
    ours, libraries = (min(seconds) for seconds in zip(*rounds, strict=True))
    assert ours < 3 * libraries


TRIVIAL = """
    from gpt_tasks import ClassificationTask, hookimpl

    class Task(ClassificationTask):
        "A task."
        name = "trivial-{number}"

    @hookimpl
    def register_tasks():
        return [Task()]
    """


@pytest.mark.skipif(not hasattr(os, "wait4"), reason="processor time of one child is measured by wait4")
def test_fifty_plugins_cost_less_than_the_libraries_of_help(site) -> None:
    """A quarter of it, where it was measured: a check of each against all others, or one slow library, is caught."""
    for number in range(50):
        site.install(f"trivial-{number}", TRIVIAL.format(number=number), distribution=f"acme{number}")
    path = os.pathsep.join([str(site.path), *sys.path])
    listed = subprocess.run(
        [sys.executable, "-m", "gpt_tasks", "list", "tasks", "--json"],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert sum(task["name"].startswith("trivial-") for task in json.loads(listed.stdout)["tasks"]) == 50
    rounds = [
        (
            processor_seconds("-m", "gpt_tasks", "--help", PYTHONPATH=path),
            processor_seconds("-m", "gpt_tasks", "--help"),
            processor_seconds("-c", LIBRARIES),
        )
        for _ in range(3)
    ]
    with_plugins, without, libraries = (min(seconds) for seconds in zip(*rounds, strict=True))
    assert with_plugins - without < libraries


def test_the_console_script_is_the_module() -> None:
    script = Path(sys.executable).with_name("gpt-tasks")
    if not script.exists():
        pytest.skip("gpt-tasks is not installed next to this Python")
    ours = subprocess.run([script, "--version"], capture_output=True, text=True, timeout=300, check=True)
    assert ours.stdout == f"gpt-tasks {gpt_tasks.__version__}\n"
