"""Every flag of every command acts or is refused: given twice, empty, out of range, without effect."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.core import TyperArgument, TyperGroup

from gpt_tasks.cli.main import _command
from gpt_tasks.plugins import installed_plugins

# lm-eval reads its own flags.
PASSED_THROUGH = "lm-eval"


def commands() -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command, with the words that call it."""
    root = _command(installed_plugins())
    for name, command in root.commands.items():
        if name == PASSED_THROUGH:
            continue
        yield (name,), command
        if isinstance(command, TyperGroup):
            for inner in command.list_commands(None):
                yield (name, inner), command.get_command(None, inner)


def flags() -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """Every flag of every command; of `finetune` the settings of all tasks once, and each task's own options."""
    seen = set()
    for path, command in commands():
        for parameter in command.params:
            if isinstance(parameter, TyperArgument) or parameter.is_eager:
                continue
            of_all = (path[0], parameter.opts[0]) if path[0] == "finetune" else (*path, parameter.opts[0])
            if of_all not in seen:
                seen.add(of_all)
                yield path, command, parameter


def given(path: tuple[str, ...], command: Any, *flag: str) -> list[str]:
    """The words of a command with a flag, and something for each argument that it must have."""
    required = ["x" for each in command.params if isinstance(each, TyperArgument) and each.required]
    return [*path, *flag] if isinstance(command, TyperGroup) else [*path, *required, *flag]


def told(outcome: Any, flag: str) -> None:
    """The exit code is that of wrong usage, the flag is named, and the folder is as empty as it was."""
    assert outcome.code == 2, outcome.err
    assert flag in outcome.err, outcome.err
    assert len(outcome.err.splitlines()) == 2
    assert outcome.out == ""
    assert list(Path().iterdir()) == []


ALL = [pytest.param(*each, id=f"{' '.join(each[0])} {each[2].opts[0]}") for each in flags()]


def test_flags_are_found() -> None:
    names = {each.id for each in ALL}
    assert {"score --suite", "predict --column", "finetune qa --mode", "plugins check --json"} <= names
    assert len(names) > 120


@pytest.mark.parametrize(("path", "command", "parameter"), ALL)
def test_a_flag_given_twice_is_refused(cli, path, command, parameter) -> None:
    flag = parameter.opts[0]
    if parameter.is_flag:
        twice = [flag, (parameter.secondary_opts or [flag])[0]]
    else:
        # A flag that may be repeated takes no value twice.
        twice = [flag, "a=1", flag, "a=1" if parameter.multiple else "a=2"]
    told(cli(*given(path, command, *twice)), flag)


@pytest.mark.parametrize(("path", "command", "parameter"), [each for each in ALL if not each.values[2].is_flag])
def test_an_empty_value_is_refused(cli, path, command, parameter) -> None:
    for empty in ("", " "):
        told(cli(*given(path, command, parameter.opts[0], empty)), parameter.opts[0])


def is_number(parameter: Any) -> bool:
    kind = str(parameter.type_descriptor.annotation)
    return parameter.metavar in ("INTEGER", "NUMBER") or "int'" in kind or "float" in kind or "int |" in kind


NUMBERS = [each for each in ALL if is_number(each.values[2])]


@pytest.mark.parametrize(("path", "command", "parameter"), NUMBERS)
@pytest.mark.parametrize("value", ["-7", "nan", "1e999", "yes", "1:30"])
def test_a_number_out_of_range_is_refused(cli, path, command, parameter, value) -> None:
    told(cli(*given(path, command, f"{parameter.opts[0]}={value}", *OTHERS.get(path[0], ()))), parameter.opts[0])


# What these commands must be given before a number can be wrong.
OTHERS = {
    "evaluate": ["--data=x", "--task=sentiment"],
    "score": ["--suite=x"],
    "pretrain": ["--text=x", "--output=y"],
    "predict": ["--task=sentiment"],
}


def test_numbers_are_found() -> None:
    names = {each.id for each in NUMBERS}
    assert {"score --limit", "generate --top-p", "pretrain --tokens", "next --top"} <= names
    assert any(name.endswith("--learning-rate") for name in names)


@pytest.mark.parametrize(
    ("arguments", "flag"),
    [
        ("predict RUN text --output out.csv", "--output out.csv"),
        ("predict RUN text --column text=review", "--column text=review"),
        ("predict RUN --input - --column text=review", "--column text=review"),
        ("predict RUN --input x.csv --json", "--json"),
        ("predict RUN --input x.csv --probabilities", "--probabilities"),
        ("predict RUN --input x.csv --top-k 3", "--top-k 3"),
        ("predict RUN text --data x.csv", "--data x.csv"),
        ("predict RUN text --shots 0", "--shots 0"),
        ("predict M text --task sentiment --seed 1234", "--seed 1234"),
        ("predict M text --task sentiment --shots-sampler random", "--shots-sampler random"),
        ("predict M text --task sentiment --data x.csv", "--data x.csv"),
        ("predict M text --task sentiment --decoding num_beams=2", "--decoding num_beams=2"),
        ("evaluate RUN --data x.csv --shots-sampler fixed", "--shots-sampler fixed"),
        ("evaluate RUN --data x.csv --seed 1234", "--seed 1234"),
        ("evaluate RUN --data x.csv --calibrate", "--calibrate"),
        ("evaluate RUN --data x.csv --question {text}", "--question {text}"),
        ("evaluate M --data x.csv --task sentiment --shots-sampler fixed", "--shots-sampler fixed"),
        ("evaluate RUN --data x.csv --column text=a --column text=b", "--column text"),
        ("score M --suite piqa --shots-sampler fixed", "--shots-sampler fixed"),
        ("score M --suite piqa --seed 7", "--seed 7"),
        ("generate M text --seed 3", "--seed 3"),
        ("chat M --seed 3", "--seed 3"),
        ("plugins --json check sentiment", "--json"),
        ("finetune sentiment --method head --epochs 3", "--epochs 3"),
        ("finetune sentiment --method head --accumulate 1", "--accumulate 1"),
        ("finetune sentiment --method head --best-by accuracy", "--best-by accuracy"),
        ("pretrain --text x --output y --evaluate-steps 5", "--evaluate-steps 5"),
        ("pretrain --text x --output y --optimizer adamw --muon-learning-rate 0.1", "--muon-learning-rate 0.1"),
        ("pretrain --text x --output y --about-text nosuch.md", "--about-text nosuch.md"),
    ],
)
def test_a_flag_without_effect_is_refused(cli, arguments, flag) -> None:
    name, _, value = flag.partition(" ")
    outcome = cli(*arguments.split())
    told(outcome, name)
    assert value in outcome.err


def test_trace_is_given_once(cli) -> None:
    outcome = cli("--trace", "list", "tasks", "--trace")
    assert outcome.code == 2
    assert outcome.err.splitlines()[-2] == "UsageError: --trace is given twice"


def test_help_comes_first(cli) -> None:
    outcome = cli("score", "--limit", "1", "--limit", "2", "--help")
    assert outcome.code == 0
    assert "--limit" in outcome.out
