"""`evaluate` scores a run on labelled data and can leave the report in a folder."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from gpt_tasks import progress


@pytest.fixture
def judged(tmp_path) -> Path:
    """Labelled reviews of another kind, with a column to slice by."""
    rows = [
        ("What a splendid garden it was.", "positive", "north"),
        ("I regret the soup already.", "negative", "south"),
        ("Nobody should pay for such a view ever.", "negative", "north"),
        ("I would gladly see this play again.", "positive", "south"),
    ]
    path = tmp_path / "judged.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("review", "stars", "region"), *rows])
    return path


COLUMNS = ["--column", "text=review", "--column", "label=stars"]


def test_a_report_is_shown(cli, finished_run, judged) -> None:
    outcome = cli("evaluate", finished_run, "--data", judged, *COLUMNS)
    assert outcome.code == 0, outcome.err
    assert "4 examples" in outcome.out
    assert "accuracy" in outcome.out
    assert "TF-IDF" in outcome.out


@pytest.mark.parametrize("writes", [False, True])
def test_how_far_an_evaluation_is_is_said_on_stderr(
    cli, finished_run, judged, tmp_path, monkeypatch, tiny_backbone_folder, writes
) -> None:
    # Of one chunk, by its batches.
    now = iter(range(0, 10**6, 20))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(now)))
    run, data, columns = finished_run, judged, COLUMNS
    if writes:
        rows = [{"document": f"It was {n}.", "summary": f"{n}"} for n in range(20)]
        data, run, columns = tmp_path / "rows.jsonl", tmp_path / "writes", []
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        flags = ["--data", data, "--backbone", tiny_backbone_folder, "--epochs", 1, "--max-tokens", 4, "--output", run]
        assert cli("finetune", "summarization", *flags).code == 0
    outcome = cli("evaluate", run, "--data", data, *columns, *(["--split", "all"] if writes else []))
    assert outcome.code == 0, outcome.err
    lines = [line for line in outcome.err.splitlines() if line.startswith("examples: ")]
    assert lines[0].startswith("examples: 2/20, " if writes else "examples: 2/4, ")
    assert "examples: 2/" not in outcome.out


def test_json_is_one_object_with_slices(cli, finished_run, judged) -> None:
    outcome = cli("evaluate", finished_run, "--data", judged, *COLUMNS, "--by", "region", "--json")
    assert outcome.code == 0, outcome.err
    told = json.loads(outcome.out)
    assert told["n"] == 4
    assert told["run"] == str(finished_run)
    assert set(told["slices"]["values"]) == {"north", "south"}
    assert told["slices"]["values"]["north"]["accuracy"]["n"] == 2


def test_a_report_can_be_left_in_a_folder(cli, finished_run, judged) -> None:
    before = sorted(path.relative_to(finished_run) for path in finished_run.rglob("*"))
    outcome = cli("evaluate", finished_run, "--data", judged, *COLUMNS, "--output", "report", "--json")
    assert outcome.code == 0, outcome.err
    told = json.loads(outcome.out)
    del told["run"]
    assert json.loads(Path("report/metrics.json").read_text()) == told
    assert len(Path("report/predictions.jsonl").read_text().splitlines()) == 4
    assert sorted(path.relative_to(finished_run) for path in finished_run.rglob("*")) == before


def test_a_folder_that_holds_something_is_not_written_into(cli, finished_run, judged) -> None:
    Path("report").mkdir()
    Path("report/mine.txt").write_text("mine")
    outcome = cli("evaluate", finished_run, "--data", judged, *COLUMNS, "--output", "report")
    assert outcome.code == 2
    assert [path.name for path in Path("report").iterdir()] == ["mine.txt"]


def test_a_split_of_a_folder_is_chosen(cli, finished_run, judged, tmp_path) -> None:
    folder = tmp_path / "splits"
    folder.mkdir()
    lines = judged.read_text().splitlines()
    (folder / "train.csv").write_text("\n".join(lines))
    (folder / "test.csv").write_text("\n".join(lines[:3]))
    for split, n in (("train", 4), ("test", 2)):
        outcome = cli("evaluate", finished_run, "--data", folder, *COLUMNS, "--split", split, "--json")
        assert outcome.code == 0, outcome.err
        assert json.loads(outcome.out)["n"] == n
    missing = cli("evaluate", finished_run, "--data", folder, *COLUMNS, "--split", "validation")
    assert missing.code in (2, 4)
    assert "validation" in missing.err


def test_rows_of_labels_that_the_run_does_not_know_are_left_out(cli, finished_run, judged) -> None:
    with judged.open("a", newline="") as file:
        csv.writer(file).writerows([(f"It was odd {n}.", "neither", "north") for n in range(6)])
    refused = cli("evaluate", finished_run, "--data", judged, *COLUMNS)
    assert refused.code == 4
    assert "judged.csv: 6 of 10 rows cannot be used: judged.csv:6: label 'neither' is not one of" in refused.err
    assert "judged.csv:10: label" in refused.err
    assert "judged.csv:11: label" not in refused.err
    outcome = cli("evaluate", finished_run, "--data", judged, *COLUMNS, "--skip-invalid", "--json")
    assert outcome.code == 0, outcome.err
    report = json.loads(outcome.out)
    assert report["n"] == 4
    assert any(note.startswith("Left out 6 of 10 rows of judged.csv") for note in report["notes"])


def test_an_encoding_of_what_is_no_text_is_refused(cli, finished_run, tmp_path) -> None:
    for source in (f"sqlite:{tmp_path}/r.db", str(tmp_path / "r.parquet"), str(tmp_path / "r.xlsx")):
        (tmp_path / source.rpartition("/")[2]).write_bytes(b"")
        for command in (["evaluate", finished_run, "--data"], ["predict", finished_run, "--input"]):
            outcome = cli(*command, source, "--encoding", "cp1251")
            assert outcome.code == 2
            assert "--encoding cp1251 has no effect" in outcome.err


def test_an_unknown_column_to_slice_by_is_named(cli, finished_run, judged) -> None:
    outcome = cli("evaluate", finished_run, "--data", judged, *COLUMNS, "--by", "regoin")
    assert outcome.code in (2, 4)
    assert "regoin" in outcome.err
    assert "region" in outcome.err


def test_rows_that_belong_together_are_counted_together(cli, finished_run, judged) -> None:
    outcome = cli("evaluate", finished_run, "--data", judged, *COLUMNS, "--cluster", "region", "--json")
    assert outcome.code == 0, outcome.err
    told = json.loads(outcome.out)
    assert told["cluster"] == "region"
    assert "Standard errors and intervals go by 2 clusters of 'region'." in told["notes"]
    missing = cli("evaluate", finished_run, "--data", judged, *COLUMNS, "--cluster", "author")
    assert missing.code == 4
    assert "no column 'author'; the columns are review, stars, region" in missing.err


def test_a_model_that_is_no_better_than_its_baseline_says_so_last(cli, finished_run, judged) -> None:
    outcome = cli("evaluate", finished_run, "--data", judged, *COLUMNS)
    assert outcome.code == 0, outcome.err
    assert outcome.out.splitlines()[-1].startswith("The model is no better than its baseline (")
