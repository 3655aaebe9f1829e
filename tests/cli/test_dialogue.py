"""Dialogue on the command line: a zero-shot model, rows and texts to answer, and what is no conversation."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

TALK = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Hi!"},
    {"role": "assistant", "content": "Hello."},
]


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def rows() -> list[Any]:
    return [
        {"messages": [{**TALK[1], "content": f"Hi, number {number}!"}, {**TALK[2], "content": f"Hello {number % 3}."}]}
        for number in range(12)
    ]


@pytest.fixture(scope="module")
def run(rows: list[Any], tiny_backbone_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch, which learns nothing to speak of."""
    from gpt_tasks.cli.main import run as command

    folder = tmp_path_factory.mktemp("dialogue")
    data = write(folder / "talk.jsonl", rows)
    flags = ["--epochs", 1, "--max-tokens", 8, "--max-length", 48, "--device", "cpu", "--precision", "float32"]
    command_line = ["finetune", "dialogue", "--data", data, "--backbone", tiny_backbone_folder, *flags]
    assert command([str(each) for each in [*command_line, "--output", folder / "run"]]) == 0
    return folder / "run"


def test_the_samples_are_many_distinct_conversations() -> None:
    import gpt_tasks_plugins

    from gpt_tasks.plugins import installed_plugins
    from gpt_tasks.types import Row

    task = installed_plugins().registry.tasks["dialogue"]
    folder = Path(gpt_tasks_plugins.__path__[0]) / "dialogue" / "samples"
    lines = [
        (f"{split}.jsonl:{number}", json.loads(line))
        for split in ("train", "validation", "test")
        for number, line in enumerate((folder / f"{split}.jsonl").read_text(encoding="utf-8").splitlines(), start=1)
    ]
    assert len(lines) >= 60
    examples = [task.example(Row(row, where), {"messages": "messages"}) for where, row in lines]
    said = Counter(turn["content"] for _, row in lines for turn in row["messages"] if turn["role"] == "user")
    assert len({example.inputs["messages"] for example in examples}) == len(examples)
    assert said.most_common(1)[0][1] == 1, "no user says what another says"
    assert all(row["messages"][-1]["role"] == "assistant" for _, row in lines)
    assert sum(row["messages"][0]["role"] == "system" for _, row in lines) >= 6
    assert sum(len(row["messages"]) > 4 for _, row in lines) >= 20


def test_rows_are_answered_with_their_history(cli: Any, run: Path, rows: list[Any], tmp_path: Path) -> None:
    data = write(tmp_path / "new.jsonl", [rows[0], {"messages": [*TALK, {"role": "user", "content": "太好了"}]}])
    outcome = cli("predict", run, "--input", data)
    assert outcome.code == 0, outcome.err
    first, second = map(json.loads, outcome.out.splitlines())
    assert first["messages"] == rows[0]["messages"][:1]
    assert [turn["content"] for turn in second["messages"]] == ["Be kind.", "Hi!", "Hello.", "太好了"]
    assert isinstance(second["predicted"], str)
    outcome = cli("predict", run, "Good evening.", "--json")
    (answer,) = json.loads(outcome.out)["predictions"]
    assert answer["messages"] == [{"role": "user", "content": "Good evening."}]


def test_a_run_and_a_zero_shot_model_are_evaluated(
    cli: Any, run: Path, rows: list[Any], tmp_path: Path, tiny_backbone_folder: Path
) -> None:
    data = write(tmp_path / "new.jsonl", [{"talk": row["messages"]} for row in rows[:6]])
    outcome = cli("evaluate", run, "--data", data, "--column", "messages=talk", "--json")
    assert outcome.code == 0, outcome.err
    report = json.loads(outcome.out)
    assert list(report["metrics"]) == ["perplexity", "bleu", "rougeL", "chrf"]
    assert set(report["baselines"]) == {"most_frequent"}
    flags = ["--data", data, "--column", "messages=talk", "--shots", 2, "--option", "max_tokens=4", "--json"]
    outcome = cli("evaluate", tiny_backbone_folder, "--task", "dialogue", *flags)
    assert outcome.code == 0, outcome.err
    told = json.loads(outcome.out)
    assert told["n"] == 6
    assert told["model"] == str(tiny_backbone_folder)
    assert list(told["metrics"]) == ["perplexity", "bleu", "rougeL", "chrf"]


def test_a_finished_run_says_how_to_talk_with_it(
    cli: Any, rows: list[Any], tmp_path: Path, tiny_backbone_folder: Path
) -> None:
    data = write(tmp_path / "talk.jsonl", rows)
    flags = ["--epochs", 1, "--max-tokens", 4, "--output", tmp_path / "run", "--device", "cpu"]
    outcome = cli("finetune", "dialogue", "--data", data, "--backbone", tiny_backbone_folder, *flags)
    assert outcome.code == 0, outcome.err
    assert f"Continue with: gpt-tasks chat {tmp_path / 'run'}" in outcome.out
    assert "most frequent answer" in outcome.out


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"messages": [TALK[1], {**TALK[2], "content": ""}]}, "talk.jsonl:4: turn 2 (assistant) is empty"),
        ({"messages": [TALK[1], TALK[1], TALK[2]]}, "talk.jsonl:4: turns 1 and 2 are both the user's"),
        ({"messages": [TALK[1]]}, "talk.jsonl:4: there is no turn of the assistant's"),
        ({"messages": [{**TALK[1], "role": "bot"}]}, "talk.jsonl:4: turn 1 has the role 'bot'"),
        ({"text": "It rained.", "label": "sad"}, "talk.jsonl:4: column 'messages' is missing"),
        (
            {"messages": [{**TALK[0], "content": "Be kind. " * 30}, *TALK[1:]]},
            "talk.jsonl:4: before its last turn the conversation takes",
        ),
    ],
    ids=["empty", "two users", "no answer", "unknown role", "another task", "too long"],
)
def test_what_is_no_conversation_is_reported_in_one_line(
    cli: Any, rows: list[Any], tmp_path: Path, tiny_backbone_folder: Path, row: Any, told: str
) -> None:
    data = write(tmp_path / "talk.jsonl", [*rows[:3], row, *rows[3:]])
    flags = ["--epochs", 1, "--output", tmp_path / "run", "--max-length", 48, "--device", "cpu", "--seed", 1]
    outcome = cli("finetune", "dialogue", "--data", data, "--backbone", tiny_backbone_folder, *flags)
    assert outcome.code == 4
    assert outcome.err.splitlines()[-2].startswith(f"DataError: {told}")
    assert not (tmp_path / "run").exists()


def test_a_first_row_of_another_task_and_a_model_that_cannot_talk_are_reported(
    cli: Any, tmp_path: Path, tiny_backbone_folder: Path
) -> None:
    data = write(tmp_path / "reviews.jsonl", [{"text": "It rained.", "label": "sad"}])
    outcome = cli("finetune", "dialogue", "--data", data)
    assert outcome.code == 4
    assert "there is no column 'messages'; the columns are text, label" in outcome.err
    outcome = cli("chat", tiny_backbone_folder)
    assert outcome.code == 5
    first, second = outcome.err.splitlines()
    assert "the tokenizer has no chat template" in first
    assert "gpt-tasks finetune dialogue --backbone" in second
