"""What a message proposes can be done: its flags are those of a command, and a setting is named where it was set."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import gpt_tasks_plugins
import pytest
import yaml

import gpt_tasks
from gpt_tasks.cli.main import _command
from gpt_tasks.plugins import installed_plugins

FLAG = re.compile(r"(?<![\w-])--([a-z][a-z-]*[a-z])(?![\w*-])")
# Flags of pip, of lm-evaluation-harness, and of other programs.
OTHERS = {"apply-chat-template", "model-args", "gen-kwargs", "model", "batch-size", "no-deps", "merge"}


def flags_of_commands() -> set[str]:
    found = set()
    root = _command(installed_plugins())
    commands = [root, *root.commands.values()]
    for command in commands:
        for name in command.list_commands(None) if hasattr(command, "list_commands") else ():
            commands.append(command.get_command(None, name))
        found |= {flag for each in command.params for flag in (*each.opts, *each.secondary_opts)}
    return found


def messages() -> list[tuple[str, str]]:
    """Every text in the code that is no docstring, with its place."""
    found = []
    for package in (gpt_tasks, gpt_tasks_plugins):
        folder = Path(str(package.__file__)).parent
        for file in sorted(folder.rglob("*.py")):
            tree = ast.parse(file.read_text(encoding="utf-8"))
            said = {
                id(node.body[0].value)
                for node in ast.walk(tree)
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
                and node.body
                and isinstance(node.body[0], ast.Expr)
            }
            for node in ast.walk(tree):
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in said:
                    found.append((f"{file.relative_to(folder.parent)}:{node.lineno}", node.value))
    return found


def test_every_flag_that_a_message_names_is_one_of_a_command() -> None:
    known = {*flags_of_commands(), "--help", "--trace", "--version"}
    named = [(place, f"--{flag}") for place, text in messages() for flag in FLAG.findall(text.replace("_", "-"))]
    assert len(named) > 150
    assert [(place, flag) for place, flag in named if flag not in known and flag[2:] not in OTHERS] == []


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["finetune", "classification", "--config", "c.yaml"], "c.yaml:2: class_weights"),
        (["finetune", "summarization", "--config", "c.yaml"], "c.yaml:2: class_weights is for a head"),
        (["finetune", "ner", "--config", "c.yaml"], "c.yaml:2: class_weights is for one of several labels"),
        (["finetune", "sentiment", "--config", "head.yaml"], "head.yaml:3: epochs is of no use with --method head"),
        (["finetune", "ner", "--config", "method.yaml"], "method.yaml:1: method head fits a head on a frozen backbone"),
        (["finetune", "qa", "--config", "stride.yaml"], "stride.yaml:2: stride is for answers that are found"),
        (["finetune", "summarization", "--config", "stop.yaml"], 'stop.yaml:2: stop ["END"] has no effect'),
        (["finetune", "sentiment", "--config", "column.yaml"], "column.yaml:1: column txt=review: task 'sentiment'"),
        (["finetune", "sentiment", "--config", "device.yaml", "--epochs", "1"], "device.yaml:1: device: 'gpu'"),
        (["finetune", "sentiment", "--config", "number.yaml"], "number.yaml:1: epochs: 0: input should be greater"),
    ],
)
def test_a_setting_of_a_file_is_named_by_its_place(cli: Any, lines: list[str], told: str) -> None:
    for name, content in {
        "c.yaml": "seed: 1\nclass_weights: balanced\n",
        "head.yaml": "method: head\nseed: 1\nepochs: 3\n",
        "method.yaml": "method: head\n",
        "stride.yaml": "mode: generative\nstride: 3\n",
        "stop.yaml": "seed: 1\nstop: [END]\n",
        "column.yaml": "column:\n  txt: review\n",
        "device.yaml": "device: gpu\n",
        "number.yaml": "epochs: 0\n",
    }.items():
        Path(name).write_text(content)
    if "classification" in lines:
        Path("c.yaml").write_text("seed: 1\nclass_weights: balancd\n")
    outcome = cli(*lines, "--output", "run")
    assert outcome.code == 2, outcome.err
    assert told in outcome.err
    assert "--" not in outcome.err.splitlines()[0].replace("--method head", "").replace("--mode generative", "")
    assert not Path("run").exists()


def test_a_setting_that_a_resumed_run_was_not_started_with_is_named_by_its_place(cli: Any) -> None:
    from gpt_tasks.training.config import FinetuneConfig

    config = FinetuneConfig(device="cuda").model_dump(mode="json")
    record = {"status": "unfinished", "task": "sentiment", "config": config, "origins": {"device": "default"}}
    Path("run").mkdir()
    Path("run/run.json").write_text(json.dumps({"schema_version": 1, **record}))
    Path("c.yaml").write_text("method: full\nepochs: 3\n")
    resumed = ["finetune", "sentiment", "--output", "run", "--resume"]
    outcome = cli(*resumed, "--config", "c.yaml")
    assert outcome.code == 2, outcome.err
    assert "c.yaml:2: epochs: the run was started with None, not 3" in outcome.err
    assert "--epochs: the run was started with None, not 2" in cli(*resumed, "--epochs", 2).err
    # What the record says of an origin is no place in a file.
    assert "--device cuda: " in cli(*resumed).err


def choices(tmp_path: Path) -> Path:
    """Rows whose answers are numbers of choices from 0, or from 1, or texts: nothing but the user can say which."""
    rows = [{"question": f"Number {n}?", "choices": ["1", "2", "0"], "answer": ("1", "2")[n % 2]} for n in range(4)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "rows.jsonl"


def test_what_is_proposed_for_answers_works_in_every_command(
    cli: Any, choices_run: Path, tiny_backbone_folder: Path, tmp_path: Path
) -> None:
    data = choices(tmp_path)
    suite = tmp_path / "own.yaml"
    entry = {"task": "multiple-choice", "source": str(data), "prompt": "{question}"}
    suite.write_text(yaml.safe_dump({"name": "own", "tasks": [entry]}))
    commands = {
        "finetune": ["finetune", "multiple-choice", "--backbone", tiny_backbone_folder, "--data", data],
        "run": ["evaluate", choices_run, "--data", data],
        "task": ["evaluate", tiny_backbone_folder, "--task", "multiple-choice", "--data", data],
        "suite": ["score", tiny_backbone_folder, "--suite", suite],
    }
    advice = "--answers text, in evaluate --option answers=text, in a suite answers: text."
    for arguments in commands.values():
        outcome = cli(*arguments)
        assert outcome.code == 4, outcome.err
        assert advice in outcome.err
    figures = {}
    for answers in ("text", "from-0"):
        outcome = cli(*commands["run"], "--option", f"answers={answers}", "--json")
        assert outcome.code == 0, outcome.err
        figures[answers] = json.loads(outcome.out)["metrics"]["accuracy"]["value"]
        assert cli(*commands["task"], "--option", f"answers={answers}").code == 0
    suite.write_text(yaml.safe_dump({"name": "own", "tasks": [{**entry, "answers": "text"}]}))
    assert cli(*commands["suite"]).code == 0
    fixed = cli(*commands["run"], "--option", "prompt={question}!")
    assert fixed.code == 2
    assert "--option prompt={question}! has no effect: of a finished run it is fixed" in fixed.err
    assert "it can be equal_choices or answers" in fixed.err
    wrong = cli(*commands["run"], "--option", "answers=letters")
    assert wrong.code == 2
    assert "--option answers: 'letters'" in wrong.err


@pytest.fixture
def choices_run(cli: Any, tiny_backbone_folder: Path, tmp_path: Path) -> Path:
    """A finished run of multiple choices, trained on letters."""
    rows = [{"question": f"Is {n} even?", "choices": ["yes", "no"], "answer": "AB"[n % 2]} for n in range(24)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = ["--backbone", tiny_backbone_folder, "--method", "head", "--output", tmp_path / "run"]
    outcome = cli("finetune", "multiple-choice", "--data", tmp_path / "train.jsonl", *settings)
    assert outcome.code == 0, outcome.err
    return tmp_path / "run"


@pytest.mark.parametrize(
    "command",
    [
        ["score", "RUN", "--suite", "starter"],
        ["generate", "RUN", "text"],
        ["next", "RUN", "a"],
        ["finetune", "sentiment", "--backbone", "RUN"],
        ["chat", "RUN"],
    ],
)
@pytest.mark.parametrize(
    ("record", "told", "way"),
    [
        (
            {"run.json": {"status": "unfinished", "task": "ner"}},
            "The run in RUN is unfinished",
            "gpt-tasks finetune ner --output RUN --resume",
        ),
        (
            {"pretrain.json": {"steps": None}},
            "The pretraining in RUN is unfinished",
            "gpt-tasks pretrain --output RUN, and --resume",
        ),
    ],
)
def test_what_is_unfinished_says_so(cli: Any, command: list[str], record: dict[str, Any], told: str, way: str) -> None:
    Path("RUN").mkdir()
    for name, content in record.items():
        Path("RUN", name).write_text(json.dumps(content))
    outcome = cli(*command)
    assert outcome.code == 5, outcome.err
    assert told in outcome.err
    assert way in outcome.err
