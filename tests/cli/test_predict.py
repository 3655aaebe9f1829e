"""`predict` answers texts, files and stdin, always with probabilities, and leaves no half-written file."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

TEXTS = ["What a splendid garden it was.", "I regret the soup already."]


def answers(lines: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in lines.splitlines()]


def test_texts_are_answered_in_a_table(cli, finished_run) -> None:
    outcome = cli("predict", finished_run, *TEXTS)
    assert outcome.code == 0, outcome.err
    lines = outcome.out.splitlines()
    assert len(lines) == 3
    for text, line in zip(TEXTS, lines[1:], strict=True):
        assert text in line
        assert line.split()[0] in ("negative", "positive")
        assert line.split()[1].endswith("%")


def test_json_holds_every_probability(cli, finished_run) -> None:
    told = json.loads(cli("predict", finished_run, *TEXTS, "--json").out)
    assert [prediction["text"] for prediction in told["predictions"]] == TEXTS
    for prediction in told["predictions"]:
        assert sum(prediction["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert prediction["predicted"] == max(prediction["probabilities"], key=prediction["probabilities"].get)


def test_a_text_that_looks_like_a_flag_follows_two_dashes(cli, finished_run) -> None:
    told = json.loads(cli("predict", finished_run, "--json", "--", "--trace", "-x").out)
    assert [prediction["text"] for prediction in told["predictions"]] == ["--trace", "-x"]


def test_a_file_a_text_and_stdin_get_the_same_answers(cli, finished_run, tmp_path, monkeypatch) -> None:
    with (tmp_path / "texts.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("id", "review"), *enumerate(TEXTS)])
    column = ["--column", "text=review"]
    to_stdout = cli("predict", finished_run, "--input", tmp_path / "texts.csv", *column)
    assert to_stdout.code == 0, to_stdout.err
    to_file = cli("predict", finished_run, "--input", tmp_path / "texts.csv", *column, "--output", "answers.jsonl")
    assert to_file.code == 0, to_file.err
    assert to_file.out == ""
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(TEXTS) + "\n"))
    from_stdin = cli("predict", finished_run, "--input", "-")
    assert from_stdin.code == 0, from_stdin.err
    texts = json.loads(cli("predict", finished_run, *TEXTS, "--json").out)["predictions"]

    assert [answer["text"] for answer in answers(to_stdout.out)] == TEXTS
    assert Path("answers.jsonl").read_text() == to_stdout.out
    assert answers(to_stdout.out) == answers(from_stdin.out) == texts


def test_a_row_that_cannot_be_used_leaves_an_earlier_answer_as_it_was(cli, finished_run, tmp_path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text("".join(json.dumps({"text": text}) + "\n" for text in [*TEXTS, ""]))
    Path("answers.jsonl").write_text("earlier")
    outcome = cli("predict", finished_run, "--input", bad, "--output", "answers.jsonl")
    assert outcome.code == 4
    assert "bad.jsonl:3" in outcome.err
    assert Path("answers.jsonl").read_text() == "earlier"
    assert [path.name for path in Path().iterdir()] == ["answers.jsonl"]


def test_an_empty_text_is_named(cli, finished_run) -> None:
    outcome = cli("predict", finished_run, "Fine.", " ")
    assert outcome.code == 4
    assert "text 2" in outcome.err


@pytest.mark.parametrize("place", ["no/such/folder/answers.jsonl", "."])
def test_a_path_where_no_file_can_be_is_named_at_once(cli, place) -> None:
    outcome = cli("predict", "any-run", "--input", "texts.jsonl", "--output", place)
    assert outcome.code == 2
    assert f"--output {place} " in outcome.err


@pytest.mark.parametrize("command", [("predict", "a text"), ("evaluate", "--data", "rows.csv")])
def test_labels_are_not_decoded(cli, finished_run, command):
    outcome = cli(command[0], finished_run, *command[1:], "--decoding", "temperature=0.5")
    assert outcome.code == 2
    assert "writes no answers" in outcome.err


def test_rows_that_cannot_be_answered_are_named_at_once_or_answered_with_nothing(cli, finished_run, tmp_path) -> None:
    rows = [{"text": TEXTS[0]}, {"text": ""}, {"text": TEXTS[1]}, {}]
    file = tmp_path / "texts.jsonl"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    refused = cli("predict", finished_run, "--input", file, "--output", "answers.jsonl")
    assert refused.code == 4
    assert (
        "texts.jsonl: 2 of 4 rows cannot be used: texts.jsonl:2: column 'text' is empty; texts.jsonl:4: " in refused.err
    )
    assert not Path("answers.jsonl").exists()
    skipped = cli("predict", finished_run, "--input", file, "--skip-invalid")
    assert skipped.code == 0, skipped.err
    first, second, third, fourth = answers(skipped.out)
    assert [first["text"], third["text"]] == TEXTS
    assert second == {"row": "texts.jsonl:2", "predicted": None, "reason": "texts.jsonl:2: column 'text' is empty"}
    assert fourth["predicted"] is None


def test_an_input_is_read_in_the_encoding_that_is_named(cli, finished_run, tmp_path) -> None:
    file = tmp_path / "texts.csv"
    file.write_bytes("text\nça alors\n".encode("mac_roman"))
    outcome = cli("predict", finished_run, "--input", file, "--encoding", "mac_roman")
    assert [answer["text"] for answer in answers(outcome.out)] == ["ça alors"]
    for arguments in (("--input", file, "--encoding", "nosuch"), (*TEXTS, "--encoding", "latin-1")):
        assert cli("predict", finished_run, *arguments).code == 2
