"""Every flag of every command acts or is refused: given twice, empty, out of range, without effect."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.core import TyperArgument, TyperGroup

from gpt_tasks.cli.main import _command
from gpt_tasks.plugins import installed_plugins
from gpt_tasks.training.checks import USELESS_WHERE_FROZEN

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
@pytest.mark.parametrize(
    "value",
    [*("-7", "nan", "-inf", "1e999", "-1e300", "yes", "1:30"), pytest.param("9" * 5000, id="digits")],
)
def test_a_number_out_of_range_is_refused(cli, path, command, parameter, value) -> None:
    told(cli(*given(path, command, f"{parameter.opts[0]}={value}", *OTHERS.get(path[0], ()))), parameter.opts[0])


@pytest.mark.parametrize(("path", "command", "parameter"), NUMBERS)
@pytest.mark.parametrize("value", ["0", "1e-39", "1e300", str(10**18), "-0.0"])
def test_an_extreme_number_ends_no_command_badly(cli, path, command, parameter, value) -> None:
    """Some flags take some of these: then it is the file or model `x` which is not there."""
    outcome = cli(*given(path, command, f"{parameter.opts[0]}={value}", *OTHERS.get(path[0], ())))
    assert outcome.code in (2, 4, 5), outcome.err
    assert list(Path().iterdir()) == []


# What these commands must be given before a number can be wrong.
OTHERS = {
    "finetune": ["--data=x"],
    "evaluate": ["--data=x", "--task=sentiment"],
    "score": ["--suite=x"],
    "pretrain": ["--text=x", "--output=y"],
    "predict": ["--task=sentiment"],
}


def test_numbers_are_found() -> None:
    names = {each.id for each in NUMBERS}
    assert {"score --limit", "generate --top-p", "pretrain --tokens", "next --top"} <= names
    assert any(name.endswith("--learning-rate") for name in names)


# Words of a command line in which the flag, with the value that is given here, has no effect; RUN is a finished run of
# sentiment, TINY a model, ROWS and TEXTS files, SHARES and OTHERS folders of scores that are compared
# by shares alone.
NOT_FOR_TASK = "evaluate RUN --data ROWS"
FROZEN = "finetune sentiment --method head"
USELESS = {
    "finetune": {
        **{f"--{name.replace('_', '-')}": f"{FROZEN} --{name.replace('_', '-')}" for name in USELESS_WHERE_FROZEN},
        "--patience": f"{FROZEN} --patience 2",
        "--checkpoint-steps": f"{FROZEN} --checkpoint-steps 2",
        "--epochs": f"{FROZEN} --epochs 2",
        "--learning-rate": f"{FROZEN} --learning-rate 0.1",
        "--warmup": f"{FROZEN} --warmup 0.1",
        "--weight-decay": f"{FROZEN} --weight-decay 0.1",
        "--accumulate": f"{FROZEN} --accumulate 2",
        "--best-by": f"{FROZEN} --best-by accuracy",
        "--lm-weight": "finetune summarization --lm-weight 0.5",
        "--class-weights": "finetune ner --class-weights balanced",
        "--method": "finetune ner --method head",
        "--backbone-by-reference": "finetune sentiment --backbone-by-reference",
        "--keep-adapter": "finetune sentiment --keep-adapter",
        "--load-in": "finetune sentiment --load-in 4bit",
        "--layer-lr-decay": f"{FROZEN} --layer-lr-decay 0.9",
        "--freeze-layers": f"{FROZEN} --freeze-layers 2",
        "--optimizer": f"{FROZEN} --optimizer adafactor",
        "--lora-r": "finetune sentiment --lora-r 8",
        "--lora-alpha": f"{FROZEN} --lora-alpha 16",
        "--lora-dropout": "finetune sentiment --lora-dropout 0.1",
        "--lora-target-modules": "finetune sentiment --lora-target-modules q_proj",
        "--lora-use-dora": "finetune sentiment --lora-use-dora",
        "--lora-use-rslora": "finetune sentiment --lora-use-rslora",
        "--metric": "finetune sentiment --metric accuracy",
        "--encoding": "finetune sentiment --encoding cp1251",
        "--skip-invalid": "finetune sentiment --skip-invalid",
        "--column": "finetune sentiment --column txt=review",
        "--resume": "finetune sentiment --resume",
        "--stride": "finetune qa --mode generative --stride 3",
        "--n-best": "finetune qa --mode generative --n-best 3",
    },
    "evaluate": {
        "--split": "evaluate RUN --data ROWS --split test",
        "--encoding": "evaluate RUN --data PARQUET --encoding cp1251",
        "--metric": "evaluate RUN --data ROWS --metric accuracy",
        "--column": "evaluate RUN --data ROWS --column txt=text",
        "--shots": f"{NOT_FOR_TASK} --shots 0",
        "--shots-sampler": "evaluate TINY --data ROWS --task sentiment --shots-sampler fixed",
        "--seed": f"{NOT_FOR_TASK} --seed 1234",
        "--calibrate": f"{NOT_FOR_TASK} --calibrate",
        "--chat-template": f"{NOT_FOR_TASK} --chat-template",
        "--question": "evaluate TINY --data ROWS --task sentiment --question Good?",
        "--label-word": "evaluate TINY --data ROWS --task multiple-choice --label-word a=b",
        "--option": "evaluate TINY --data ROWS --task sentiment --option long_texts=truncate",
        "--decoding": "evaluate RUN --data ROWS --decoding num_beams=2",
        "--precision": "evaluate RUN --data ROWS --precision int8",
        "--no-verify": "evaluate TINY --data ROWS --task sentiment --no-verify",
    },
    "predict": {
        "--output": "predict RUN text --output out.csv",
        "--probabilities": "predict RUN --input ROWS --probabilities",
        "--top-k": "predict RUN --input ROWS --top-k 3",
        "--column": "predict RUN --input ROWS --column label=label",
        "--encoding": "predict RUN text --encoding cp1251",
        "--skip-invalid": "predict RUN text --skip-invalid",
        "--data": "predict TINY text --task sentiment --data ROWS",
        "--shots": "predict RUN text --shots 0",
        "--shots-sampler": "predict TINY text --task sentiment --shots-sampler random",
        "--seed": "predict TINY text --task sentiment --seed 1234",
        "--calibrate": "predict TINY text --task cloze --calibrate",
        "--chat-template": "predict RUN text --chat-template",
        "--question": "predict TINY text --task sentiment --question Good?",
        "--label-word": "predict TINY text --task sentiment --label-word neutral=so",
        "--option": "predict RUN text --option answers=text",
        "--precision": "predict RUN text --precision int8",
        "--decoding": "predict RUN text --decoding num_beams=2",
        "--no-verify": "predict TINY text --task sentiment --no-verify",
        "--json": "predict RUN --input ROWS --json",
    },
    "score": {
        "--data-dir": "score TINY --suite lm-eval:x --data-dir .",
        "--shots": "score TINY --suite WHOLE --shots 2",
        "--shots-sampler": "score TINY --suite WHOLE --shots-sampler random",
        "--seed": "score TINY --suite WHOLE --seed 1234",
        "--cluster": "score TINY --suite lm-eval:x --cluster text",
        "--chat-template": "score TINY --suite WHOLE --chat-template",
        "--trust-remote-code": "score TINY --suite WHOLE --trust-remote-code",
        "--no-verify": "score TINY --suite WHOLE --no-verify",
    },
    "compare": {"--seed": "compare SHARES OTHERS --seed 3"},
    "generate": {
        "--seed": "generate TINY text --seed 3",
        "--top-p": "generate TINY text --temperature 0 --top-p 0.5",
        "--top-k": "generate TINY text --temperature 0 --top-k 5",
        "--temperature": "generate TINY text --num-beams 2 --temperature 0.5",
        "--num-return-sequences": "generate TINY text --num-return-sequences 2",
        "--trust-remote-code": "generate TINY text --trust-remote-code",
        "--no-verify": "generate TINY text --no-verify",
    },
    "next": {
        "--trust-remote-code": "next TINY text --trust-remote-code",
        "--no-verify": "next TINY text --no-verify",
    },
    "chat": {
        "--seed": "chat TINY --seed 3",
        "--top-p": "chat TINY --temperature 0 --top-p 0.5",
        "--top-k": "chat TINY --temperature 0 --top-k 5",
        "--trust-remote-code": "chat TINY --trust-remote-code",
        "--no-verify": "chat TINY --no-verify",
    },
    "pretrain": {
        "--muon-learning-rate": "pretrain --text ROWS --output y --optimizer adamw --muon-learning-rate 0.1",
        "--evaluate-steps": "pretrain --text ROWS --output y --evaluate-steps 5",
        "--tokens": "pretrain --text ROWS --output y --epochs 1 --tokens 5000",
        "--minutes": "pretrain --text ROWS --output y --epochs 1 --minutes 5",
        "--epochs": "pretrain --text ROWS --output y --minutes 1 --epochs 5",
        "--resume": "pretrain --text ROWS --output y --resume",
    },
    "plugins": {"--json": "plugins --json check sentiment"},
}
# These say what is read, what is computed, on what, and where it is written: they act wherever they can be given.
EVERYWHERE = {
    "finetune": {
        *("--data", "--validation", "--test", "--limit", "--limit-validation", "--limit-test", "--backbone"),
        *("--batch-tokens", "--max-length", "--precision", "--device", "--seed", "--config", "--output", "--json"),
        "--private",
        # Options of tasks: how rows are read and written, how a model answers.
        *("--prompt", "--labels", "--long-texts", "--max-tokens", "--empty-turns", "--threshold", "--separator"),
        *("--choice", "--equal-choices", "--answers", "--on-misaligned", "--language", "--longest-answer", "--mode"),
        *("--answer", "--extract", "--ignore", "--source-language", "--target-language", "--normalize-labels"),
    },
    "evaluate": {"--data", "--by", "--cluster", "--output", "--skip-invalid", "--task", "--device", "--json"},
    "predict": {"--input", "--task", "--device"},
    "score": {"--suite", "--limit", "--precision", "--device", "--engine", "--batch-tokens", "--output", "--json"},
    "compare": {"--output", "--cluster", "--json"},
    "generate": {
        *("--max-new-tokens", "--max-length", "--repetition-penalty", "--num-beams", "--stop", "--device"),
        *("--precision", "--json"),
    },
    "next": {"--top", "--device", "--precision", "--json"},
    "chat": {
        *("--system", "--resume", "--max-new-tokens", "--temperature", "--repetition-penalty", "--device"),
        "--precision",
    },
    "pretrain": {
        *("--text", "--output", "--validation", "--preset", "--layers", "--heads", "--width", "--vocab-size"),
        *("--context", "--optimizer", "--batch-tokens", "--accumulate", "--learning-rate", "--warmup"),
        *("--weight-decay", "--seed", "--device", "--precision", "--checkpoint-steps", "--prompt", "--about-text"),
        "--json",
    },
    "plugins check": {"--json"},
    "new": {"--kind", "--output", "--json"},
    "list": {"--json"},
}
CASES = [(command, flag, words) for command, of in USELESS.items() for flag, words in of.items()]


def test_every_flag_is_in_the_table() -> None:
    found: dict[str, set[str]] = {}
    for path, _, parameter in flags():
        command = path[0] if path[0] == "finetune" else " ".join(path)
        found.setdefault(command, set()).add(parameter.opts[0])
    table = {command: {*USELESS.get(command, {}), *EVERYWHERE.get(command, ())} for command in {*USELESS, *EVERYWHERE}}
    assert {command: names - table[command] for command, names in found.items()} == {name: set() for name in found}
    # Nor does the table hold what is no flag.
    assert {command: names - found[command] for command, names in table.items()} == {name: set() for name in found}
    assert not {(command, flag) for command, flag, _ in CASES if flag in EVERYWHERE.get(command, ())}


@pytest.fixture(scope="module")
def named(finished_run: Path, tiny_backbone_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the words of the table stand for."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    import yaml

    from gpt_tasks.scoring.score import score

    folder = tmp_path_factory.mktemp("named")
    rows = [
        {"text": f"The soup was {word}.", "label": label} for word, label in (("cold", "negative"), ("hot", "positive"))
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pq.write_table(pa.Table.from_pylist(rows), folder / "rows.parquet")
    task = {"task": "language-modeling", "source": "rows.jsonl"}
    (folder / "whole.yaml").write_text(yaml.safe_dump({"name": "whole", "tasks": [task]}))
    task = {"task": "sentiment", "source": "rows.jsonl", "metrics": ["accuracy"]}
    (folder / "labels.yaml").write_text(yaml.safe_dump({"name": "labels", "tasks": [task]}))
    score(str(tiny_backbone_folder), str(folder / "labels.yaml"), device="cpu", output=folder / "shares", say=print)
    shutil.copytree(folder / "shares", folder / "others")
    return {
        "SHARES": str(folder / "shares"),
        "OTHERS": str(folder / "others"),
        "RUN": str(finished_run),
        "TINY": str(tiny_backbone_folder),
        "ROWS": str(folder / "rows.jsonl"),
        "PARQUET": str(folder / "rows.parquet"),
        "WHOLE": str(folder / "whole.yaml"),
    }


@pytest.mark.parametrize(("command", "flag", "words"), CASES, ids=[f"{command} {flag}" for command, flag, _ in CASES])
def test_a_flag_is_refused_where_it_has_no_effect(cli, named, command, flag, words) -> None:
    arguments = [named.get(word, word) for word in words.split()]
    before = {path: path.stat().st_mtime_ns for path in Path().rglob("*")}
    outcome = cli(*arguments)
    assert outcome.code == 2, outcome.err
    assert outcome.out == ""
    *_, message, hint = outcome.err.splitlines()
    assert message.startswith("UsageError: ")
    value = words.split()[words.split().index(flag) + 1 :][:1]
    shown = "" if not value or value[0] == "check" else named.get(value[0], value[0])
    told = rf"{re.escape(flag)}\b.*{re.escape(shown)}"
    assert re.search(told, message), message
    assert hint
    assert {path: path.stat().st_mtime_ns for path in Path().rglob("*")} == before


@pytest.mark.parametrize(
    ("arguments", "flag"),
    [
        ("predict RUN text --column text=review", "--column text=review"),
        ("predict RUN --input - --column text=review", "--column text=review"),
        ("predict RUN text --data x.csv", "--data x.csv"),
        ("predict RUN text --question {text}", "--question {text}"),
        ("predict M text --task sentiment --decoding num_beams=2", "--decoding num_beams=2"),
        ("evaluate RUN --data x.csv --shots-sampler fixed", "--shots-sampler fixed"),
        ("evaluate RUN --data x.csv --question {text}", "--question {text}"),
        ("evaluate RUN --data x.csv --column text=a --column text=b", "--column text"),
        ("score M --suite piqa --shots-sampler fixed", "--shots-sampler fixed"),
        ("finetune sentiment --method head --epochs 3", "--epochs 3"),
        ("pretrain --text x --output y --about-text nosuch.md", "--about-text nosuch.md"),
    ],
)
def test_a_flag_of_another_use_is_refused(cli, arguments, flag) -> None:
    name, _, value = flag.partition(" ")
    outcome = cli(*arguments.split())
    told(outcome, name)
    assert value in outcome.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("finetune sentiment --epochs 2 --epochs=3", "--epochs is given 2 times: 2, 3"),
        ("score M --suite a --output a --output=b --output c", "--output is given 3 times: a, b, c"),
        ("score M --suite a --no-verify --no-verify", "--no-verify is given 2 times"),
        ("finetune qa --skip-invalid --no-skip-invalid", "is given 2 times: --skip-invalid, --no-skip-invalid"),
    ],
)
def test_all_values_of_a_flag_that_is_given_twice_are_shown(cli, arguments, told) -> None:
    assert cli(*arguments.split()).err.splitlines()[0].endswith(told)


def test_trace_is_given_once(cli) -> None:
    outcome = cli("--trace", "list", "tasks", "--trace")
    assert outcome.code == 2
    assert outcome.err.splitlines()[-2] == "UsageError: --trace is given twice"


def test_help_comes_first(cli) -> None:
    outcome = cli("score", "--limit", "1", "--limit", "2", "--help")
    assert outcome.code == 0
    assert "--limit" in outcome.out
