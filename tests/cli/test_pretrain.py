"""`pretrain` makes a backbone from raw text that `finetune` takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gpt_tasks.pretraining.config import PretrainConfig

SMALL = [
    *("--layers", 1, "--heads", 2, "--width", 16, "--vocab-size", 280, "--context", 16),
    *("--tokens", 2_000, "--batch-tokens", 256, "--device", "cpu", "--precision", "float32"),
]


@pytest.fixture
def text(tmp_path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("The ferry was late, and the gulls had eaten all of the bread. " * 60)
    return path


def test_a_backbone_is_trained_and_can_be_fine_tuned(cli, text, reviews) -> None:
    outcome = cli("pretrain", "--text", text, "--output", "my-gpt", *SMALL, "--json")
    assert outcome.code == 0, outcome.err
    told = json.loads(outcome.out)
    assert told["output"] == "my-gpt"
    tuned = cli(
        *("finetune", "sentiment", "--data", reviews, "--backbone", "./my-gpt", "--method", "head"),
        *("--prompt", "{text}"),  # Of 16 tokens the task's own question would leave none to the text.
        *("--output", "run", "--json"),
    )
    assert tuned.code == 0, tuned.err


def test_the_next_step_is_shown(cli, text) -> None:
    outcome = cli("pretrain", "--text", text, "--output", "my-gpt", *SMALL)
    assert outcome.code == 0, outcome.err
    assert outcome.out.splitlines()[-1].endswith("--backbone my-gpt")


def test_help_shows_every_setting(cli) -> None:
    shown = cli("pretrain", "--help").out
    flags = {f"--{name.replace('_', '-')}" for name in PretrainConfig.model_fields}
    assert {flag for flag in flags if flag not in shown} == set()


@pytest.mark.parametrize(
    ("flags", "code", "culprit"),
    [
        (["--epochs", "-1"], 2, "--epochs"),
        (["--learning-rate", "nan"], 2, "--learning-rate"),
        (["--preset", "tinny"], 2, "tinny"),
        (["--epochs", "1e300"], 2, "--epochs: '1e300'"),
        (["--minutes", "1e308"], 2, "--minutes: '1e308'"),
        (["--width", "15"], 2, "--width"),
        (["--minutes", "10", "--epochs", "1"], 2, "--epochs"),
        (["--text", "no-such-file.txt"], 4, "no-such-file.txt"),
        (["--validation", "no-such-file.txt"], 4, "no-such-file.txt"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_used_is_named_and_leaves_nothing(cli, text, flags, code, culprit) -> None:
    outcome = cli("pretrain", "--text", text, "--output", "my-gpt", *SMALL[:-6], *flags)
    assert outcome.code == code, outcome.err
    assert "Traceback" not in outcome.err
    assert culprit in "\n".join(outcome.err.splitlines()[-2:])
    assert not Path("my-gpt").exists()


@pytest.mark.parametrize("limit", [300, 3_000, 15_000, 50_000])
def test_a_disk_without_room_is_the_machines_error_and_with_room_it_goes_on(cli, text, files_up_to, limit) -> None:
    """The limit is met at the record, the tokenizer, a checkpoint or what is left at the end."""
    command = ["pretrain", "--text", text, "--output", "my-gpt", *SMALL]
    with files_up_to(limit):
        outcome = cli(*command)
    assert outcome.code == 6, outcome.err
    assert "Traceback" not in outcome.err
    assert "MachineError" in outcome.err.splitlines()[-2]
    left = Path("my-gpt").exists()
    assert list(Path().rglob(".*")) == []
    again = cli(*command, *(["--resume"] if left else []))
    assert again.code == 0, again.err
