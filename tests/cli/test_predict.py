"""`predict` answers texts, files and stdin, always with probabilities, and leaves no half-written file."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gpt_tasks_plugins.ner.entities import Entities

from gpt_tasks.data.sources import open_source
from gpt_tasks.evaluation.answer_files import AnswerColumns, predictions_as_json
from gpt_tasks.plugins import installed_plugins
from gpt_tasks.tasks.classification import ClassificationTask
from gpt_tasks.types import Example, MultiLabelPrediction, Prediction, SpanAnswer, TextPrediction

TASKS = installed_plugins().registry.tasks
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
    assert answers(to_stdout.out) == answers(from_stdin.out) == texts
    rows = [
        {"id": str(place), "review": each["text"], "prediction": each["predicted"], "confidence": confidence(each)}
        for place, each in enumerate(texts)
    ]
    assert answers(Path("answers.jsonl").read_text()) == rows


def confidence(answer: dict[str, Any]) -> float:
    return answer["probabilities"][answer["predicted"]]


def test_a_file_is_answered_in_the_format_of_its_name_with_all_its_columns(cli, finished_run, tmp_path) -> None:
    rows = [(7, "What a splendid garden,\nit was.", "été"), (8, "I regret the soup already.", "")]
    with (tmp_path / "texts.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("id", "review", "note"), *rows])
    arguments = ["predict", finished_run, "--input", tmp_path / "texts.csv", "--column", "text=review"]
    for name, delimiter in (("out.csv", ","), ("out.tsv", "\t")):
        outcome = cli(*arguments, "--output", name, "--probabilities", "--top-k", 2)
        assert outcome.code == 0, outcome.err
        with Path(name).open(newline="", encoding="utf-8") as file:
            header, *written = csv.reader(file, delimiter=delimiter)
        asked = ["prediction_2", "confidence_2", "probability_negative", "probability_positive"]
        assert header == ["id", "review", "note", "prediction", "confidence", *asked]
        assert [tuple(row[:3]) for row in written] == [tuple(map(str, row)) for row in rows]
        for row in written:
            found = dict(zip(header, row, strict=True))
            assert found["confidence"] == found[f"probability_{found['prediction']}"]
            assert found["confidence_2"] == found[f"probability_{found['prediction_2']}"]
            assert float(found["confidence"]) >= float(found["confidence_2"])


@pytest.mark.parametrize("suffix", [".xlsx", ".parquet"])
def test_a_table_has_the_columns_of_a_csv(cli, finished_run, tmp_path, suffix) -> None:
    rows = [
        {"id": 7, "text": "=What a garden.", "note": None},
        {"id": 8, "text": "I regret\nit.", "note": "é"},
    ]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name in ("out.jsonl", f"out{suffix}"):
        outcome = cli("predict", finished_run, "--input", tmp_path / "texts.jsonl", "--output", name, "--probabilities")
        assert outcome.code == 0, outcome.err
    wanted = answers(Path("out.jsonl").read_text())
    found = [dict(row.values) for row in open_source(f"out{suffix}", {}).splits["all"]()]
    assert found == wanted
    assert [list(row) for row in found] == [list(row) for row in wanted]
    assert {name: found[1][name] for name in rows[1]} == rows[1]
    os.mkfifo(f"pipe{suffix}")
    refused = cli("predict", finished_run, "--input", tmp_path / "texts.jsonl", "--output", f"pipe{suffix}")
    assert refused.code == 2
    assert f"--output pipe{suffix} is no file" in refused.err


def test_lines_of_stdin_are_answered_in_a_file(cli, finished_run, monkeypatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(TEXTS) + "\n"))
    assert cli("predict", finished_run, "--input", "-", "--output", "out.csv").code == 0
    with Path("out.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["text"] for row in rows] == TEXTS
    assert list(rows[0]) == ["text", "prediction", "confidence"]


@pytest.mark.parametrize("kind", ["same", "link", "hard link", "folder", "scheme"])
def test_a_file_that_is_read_is_not_written(cli, finished_run, tmp_path, kind) -> None:
    (tmp_path / "in").mkdir()
    source = tmp_path / "in" / "test.csv"
    source.write_text("text\nFine.\n")
    output = {"link": tmp_path / "link.csv", "hard link": tmp_path / "hard.csv"}.get(kind, source)
    if kind == "link":
        output.symlink_to(source)
    if kind == "hard link":
        output.hardlink_to(source)
    given = {"folder": str(source.parent), "scheme": f"csv:{source}"}.get(kind, str(source))
    outcome = cli("predict", finished_run, "--input", given, "--output", output)
    assert outcome.code == 2
    assert f"--output {output}" in outcome.err
    assert source.read_text() == "text\nFine.\n"


def test_a_column_that_the_answers_need_is_named(cli, finished_run, tmp_path) -> None:
    (tmp_path / "rows.csv").write_text("text,prediction\nFine.,good\n")
    outcome = cli("predict", finished_run, "--input", tmp_path / "rows.csv", "--output", "out.csv")
    assert outcome.code == 4
    assert "rows.csv:2" in outcome.err
    assert "'prediction'" in outcome.err
    assert list(Path().iterdir()) == []


def test_an_ending_that_nobody_writes_is_named_at_once(cli) -> None:
    outcome = cli("predict", "any-run", "--input", "texts.jsonl", "--output", "out.ods")
    assert outcome.code == 2
    assert "--output out.ods: answers are written to .csv, .tsv, .jsonl, .xlsx, .parquet" in outcome.err


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
    assert list(first) == list(second) == list(fourth)
    assert first["reason"] is None
    reason = "texts.jsonl:2: column 'text' is empty"
    assert second == {"text": "", "predicted": None, "probabilities": None, "reason": reason}
    assert fourth["text"] is fourth["predicted"] is None


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_row_that_is_left_out_has_the_columns_of_the_others(cli, finished_run, tmp_path, place) -> None:
    lines = [json.dumps({"id": n, "text": text}) for n, text in enumerate(TEXTS)]
    file = tmp_path / "texts.jsonl"
    file.write_text("\n".join([*lines[:place], "{", *lines[place:]]), encoding="utf-8")
    arguments = ["predict", finished_run, "--input", file, "--skip-invalid", "--probabilities", "--top-k", 2]
    for name in ("out.jsonl", "out.csv"):
        outcome = cli(*arguments, "--output", name)
        assert outcome.code == 0, outcome.err
    rows = answers(Path("out.jsonl").read_text(encoding="utf-8"))
    bad = rows.pop(place)
    assert list(bad) == list(rows[0]) == list(rows[1])
    assert {key for key, value in bad.items() if value is not None} == {"reason"}
    assert bad["reason"].startswith(f"texts.jsonl:{place + 1}: this is not JSON")
    assert [row["reason"] for row in rows] == [None, None]
    with Path("out.csv").open(newline="", encoding="utf-8") as read:
        table = list(csv.DictReader(read))
    assert [row["prediction"] != "" for row in table] == [number != place for number in range(3)]


@pytest.mark.parametrize("lines", [['{"text": ""}', '{"text": null}'], ["{", "[]"]])
def test_where_no_row_can_be_used_that_is_said(cli, finished_run, tmp_path, lines) -> None:
    file = tmp_path / "texts.jsonl"
    file.write_text("\n".join(lines), encoding="utf-8")
    for more in (["--output", "x.csv"], ["--output", "x.jsonl"], []):
        outcome = cli("predict", finished_run, "--input", file, "--skip-invalid", *more)
        assert outcome.code == 4
        assert "texts.jsonl: none of its 2 rows can be used: texts.jsonl:1: " in outcome.err
        assert "--skip-invalid" not in outcome.err
    assert list(Path().iterdir()) == []


def test_an_input_is_read_in_the_encoding_that_is_named(cli, finished_run, tmp_path) -> None:
    file = tmp_path / "texts.csv"
    file.write_bytes("text\nça alors\n".encode("mac_roman"))
    outcome = cli("predict", finished_run, "--input", file, "--encoding", "mac_roman")
    assert [answer["text"] for answer in answers(outcome.out)] == ["ça alors"]
    for arguments in (("--input", file, "--encoding", "nosuch"), (*TEXTS, "--encoding", "latin-1")):
        assert cli("predict", finished_run, *arguments).code == 2


def test_a_carriage_return_in_a_text_makes_no_row(cli, finished_run, tmp_path) -> None:
    rows = [{"text": "a warm\rfilm"}, {"text": "cold"}]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert cli("predict", finished_run, "--input", tmp_path / "in.jsonl", "--output", "out.csv").code == 0
    with Path("out.csv").open(newline="", encoding="utf-8") as file:
        assert [row["text"] for row in csv.DictReader(file)] == ["a warm\rfilm", "cold"]


def test_a_file_of_the_run_is_not_written(cli, finished_run, tmp_path) -> None:
    (tmp_path / "in.csv").write_text("text\ngood\n")
    place = Path(finished_run) / "predictions.jsonl"
    before = place.read_bytes()
    outcome = cli("predict", finished_run, "--input", tmp_path / "in.csv", "--output", place)
    assert outcome.code == 2
    assert place.read_bytes() == before


def test_what_is_odd_about_a_file_is_said(cli, finished_run, tmp_path) -> None:
    (tmp_path / "in.csv").write_bytes("text\nL\u2019été était très agréable à la plage\n".encode("cp1252"))
    outcome = cli("predict", finished_run, "--input", tmp_path / "in.csv", "--output", "out.csv")
    assert outcome.code == 0
    assert "in.csv is not UTF-8" in outcome.err


def test_choices_are_named_by_their_texts() -> None:
    task = TASKS["multiple-choice"]
    example = Example({"question": "Which?"}, None, "f:1", choices=("one", "two"))
    prediction = Prediction("1", {"0": 0.25, "1": 0.75})
    found = AnswerColumns(top_k=3).of(task, example, prediction)
    assert found == {
        "prediction": "two",
        "confidence": 0.75,
        "prediction_2": "one",
        "confidence_2": 0.25,
        # Another row may have three choices.
        "prediction_3": None,
        "confidence_3": None,
    }
    probabilities = {"two": 0.75, "one": 0.25}
    assert AnswerColumns(probabilities=True).of(task, example, prediction)["probabilities"] == probabilities
    (line,) = map(json.loads, predictions_as_json([(example, prediction)], task))
    assert (line["predicted"], line["probabilities"]) == ("two", probabilities)


def test_the_most_probable_labels_come_first_and_a_table_has_as_many_as_are_wanted() -> None:
    class Many(ClassificationTask):
        name = "many"
        labels = tuple(f"label {place:02}" for place in range(30))

    weights = np.random.default_rng(0).dirichlet(np.ones(30))
    prediction = Many().predictions(weights[None])[0]
    example = Example({"text": "a"}, None, "f:1")
    (line,) = map(json.loads, predictions_as_json([(example, prediction)], Many()))
    ranked = sorted(weights.tolist(), reverse=True)
    assert list(line["probabilities"].values()) == [round(p, 6) for p in ranked]
    assert next(iter(line["probabilities"])) == line["predicted"]
    found = AnswerColumns(top_k=3).of(Many(), example, prediction)
    assert [found["confidence"], found["confidence_2"], found["confidence_3"]] == pytest.approx(ranked[:3], abs=1e-6)
    columns = list(AnswerColumns(probabilities=True).of(Many(), example, prediction))
    assert columns[2:] == [f"probability_{label}" for label in Many.labels], "the same columns in every row"


def test_top_k_is_for_the_table_and_for_no_more_labels_than_there_are(cli, finished_run, tmp_path) -> None:
    outcome = cli("predict", finished_run, *TEXTS, "--top-k", 2)
    assert outcome.code == 0, outcome.err
    header, *rows = outcome.out.splitlines()
    assert header.split() == ["prediction", "confidence", "prediction_2", "confidence_2", "text"]
    for row in rows:
        first, confidence, second, other, *_ = row.split()
        assert {first, second} == {"negative", "positive"}
        assert float(confidence[:-1]) >= float(other[:-1])
    (tmp_path / "in.csv").write_text("text\nFine.\n")
    for arguments in ([TEXTS[0]], ["--input", tmp_path / "in.csv", "--output", "out.csv"]):
        outcome = cli("predict", finished_run, *arguments, "--top-k", 99)
        assert outcome.code == 2
        assert "--top-k 99: there are 2 labels" in outcome.err
    assert not Path("out.csv").exists()
    for arguments in (["--json"], ["--input", tmp_path / "in.csv"]):
        texts = [] if "--input" in arguments else TEXTS
        assert cli("predict", finished_run, *texts, *arguments, "--top-k", 2).code == 2


@pytest.mark.parametrize(
    ("name", "prediction", "confidence"),
    [
        ("classification", Prediction("a", {"a": 0.75, "b": 0.25}), 0.75),
        ("multi-label", MultiLabelPrediction(("a",), {"a": 0.9, "b": 0.25}), 0.75),
        ("qa", SpanAnswer("a", 0, 1, 0.5, ()), 0.5),
        ("ner", Entities((), probability=0.875), 0.875),
        ("ner", Entities(()), None),
        ("similarity", 3.5, None),
        ("summarization", TextPrediction("A text."), None),
    ],
)
def test_an_answer_has_a_column_of_its_confidence_where_it_has_one(name, prediction, confidence) -> None:
    found = AnswerColumns().of(TASKS[name], Example({"text": "a"}, None, "f:1"), prediction)
    assert found.get("confidence") == confidence
    assert ("confidence" in found) == (confidence is not None)


def test_a_file_of_plain_text_is_answered_line_by_line_as_stdin_is(cli, finished_run, tmp_path, monkeypatch) -> None:
    file = tmp_path / "texts.txt"
    file.write_text("\n".join([*TEXTS, "a third"]) + "\n", encoding="utf-8")
    outcome = cli("predict", finished_run, "--input", file)
    assert outcome.code == 0, outcome.err
    monkeypatch.setattr("sys.stdin", file.open(encoding="utf-8"))
    assert outcome.out == cli("predict", finished_run, "--input", "-").out
    assert len(outcome.out.splitlines()) == 3
    assert cli("predict", finished_run, "--input", file, "--output", "out.csv").code == 0
    with Path("out.csv").open(newline="", encoding="utf-8") as rows:
        assert [row["text"] for row in csv.DictReader(rows)] == [*TEXTS, "a third"]
    useless = cli("predict", finished_run, "--input", file, "--column", "text=line")
    assert useless.code == 2
    assert "--column text=line has no effect: texts.txt has no columns" in useless.err
    file.write_text("one\n\n", encoding="utf-8")
    empty = cli("predict", finished_run, "--input", file)
    assert empty.code == 4
    assert "texts.txt:2: column 'text' is empty" in empty.err
    file.write_bytes("ça alors\n".encode("mac_roman"))
    named = cli("predict", finished_run, "--input", file, "--encoding", "mac_roman")
    assert [answer["text"] for answer in answers(named.out)] == ["ça alors"]


def test_a_task_of_several_texts_reads_no_plain_text(cli, tiny_backbone_folder, tmp_path) -> None:
    (tmp_path / "texts.txt").write_text("one text\n")
    outcome = cli("predict", tiny_backbone_folder, "--task", "qa", "--input", tmp_path / "texts.txt")
    assert outcome.code == 4
    assert "reads context, question, not one text" in outcome.err


def test_a_very_long_text_is_named_before_it_is_read(cli, finished_run, monkeypatch) -> None:
    monkeypatch.setattr("gpt_tasks.data.oddities.VERY_LONG", 100)
    Path("rows.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in ("short", "long" * 50)))
    told = "rows.jsonl:2 has 200 characters, which take long to read.\n"
    assert cli("predict", finished_run, "--input", "rows.jsonl").err == told
