"""`generate` and `next`: text as it comes, JSON, and what cannot be."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from gpt_tasks.generation.linear_kernels import multiplies_int8


def test_a_text_is_shown_behind_its_prompt(cli: Any) -> None:
    outcome = cli("generate", "tiny", "The old house", "--max-new-tokens", 8)
    assert outcome.code == 0, outcome.err
    told = json.loads(cli("generate", "tiny", "The old house", "--max-new-tokens", 8, "--json").out)
    assert outcome.out == f"The old house{told['texts'][0]['text']}\n"
    assert (told["texts"][0]["tokens"], told["texts"][0]["finish"]) == (8, "length")


def test_several_texts_are_numbered(cli: Any) -> None:
    flags = ["--max-new-tokens", 5, "--temperature", 0.9, "--num-return-sequences", 3]
    outcome = cli("generate", "tiny", "She", *flags)
    assert [line for line in outcome.out.splitlines() if line.startswith("---")] == ["--- 1", "--- 2", "--- 3"]


def test_beams_are_shown_when_they_are_found(cli: Any) -> None:
    flags = ["--max-new-tokens", 5, "--num-beams", 3]
    told = json.loads(cli("generate", "tiny", "She", *flags, "--json").out)
    assert told["settings"]["num_beams"] == 3
    assert cli("generate", "tiny", "She", *flags).out == f"She{told['texts'][0]['text']}\n"


@pytest.mark.skipif(not multiplies_int8(), reason="this CPU does not multiply int8")
def test_int8_writes_too(cli: Any) -> None:
    told = json.loads(
        cli("generate", "tiny", "She", "--max-new-tokens", 5, "--precision", "int8", "--device", "cpu", "--json").out
    )
    assert told["settings"]["precision"] == "int8"
    assert told["texts"][0]["tokens"] == 5


def test_a_prompt_from_stdin(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("The old\nhouse"))
    told = json.loads(cli("generate", "tiny", "-", "--max-new-tokens", 2, "--json").out)
    assert told["prompt"] == "The old\nhouse"


def test_a_run_writes_too(cli: Any, finished_run: Path) -> None:
    outcome = cli("generate", finished_run, "The soup", "--max-new-tokens", 3)
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith("The soup")


def test_the_next_tokens_are_shown(cli: Any) -> None:
    outcome = cli("next", "tiny", "The old", "--top", 4)
    assert len(outcome.out.splitlines()) == 5
    told = json.loads(cli("next", "tiny", "The old", "--top", 4, "--json").out)["next"]
    assert len(told) == 4
    assert f"{told[0]['probability']:.2%}" in outcome.out.splitlines()[1]


@pytest.mark.parametrize(
    ("flags", "code", "told"),
    [
        (["--top-p", "1.5"], 2, "--top-p 1.5: input should be less than or equal to 1"),
        (["--num-return-sequences", "2"], 2, "all would be the same"),
        (["--num-beams", "2", "--top-k", "5"], 2, "--num-beams 2 looks for the likeliest text"),
        (["--num-beams", "2", "--precision", "int8", "--device", "cpu"], 2, "int8 follows one text at a time"),
        (["--max-length", "2"], 4, "and prompt and text together may have 2"),
    ],
)
def test_what_cannot_be_is_one_clear_line(cli: Any, flags: list[str], code: int, told: str) -> None:
    outcome = cli("generate", "tiny", "The old house stood", *flags)
    assert outcome.code == code
    assert told in outcome.err
    assert outcome.out == ""
    assert len(outcome.err.splitlines()) == 2


def test_a_prompt_longer_than_the_window_is_reported(cli: Any) -> None:
    outcome = cli("generate", "tiny", "The old house stood. " * 100)
    assert outcome.code == 4
    assert "prompt and text together may have 256" in outcome.err
