"""`compare` sets what was scored or evaluated before side by side, without a model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

ITEMS = [
    {"question": f"What did the {who} {verb}?", "choices": [f"the {right}", f"the {wrong}"], "answer": place % 2}
    for place, (who, verb, right, wrong) in enumerate(
        (who, verb, right, wrong)
        for who, right, wrong in (("baker", "bread", "moon"), ("sailor", "ship", "soup"), ("girl", "book", "cloud"))
        for verb in ("find", "want", "lose", "like")
    )
]
SUITE = """
name: own
tasks:
  - {name: quiz, task: multiple-choice, source: quiz.jsonl, prompt: "{question}", metrics: [accuracy, likelihood_diff]}
  - {name: texts, task: language-modeling, source: quiz.jsonl, prompt: "{question}"}
"""


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The embedded backbone on twelve items, in float32 and in bf16; do not write into them."""
    from gpt_tasks.scoring.score import score

    folder = tmp_path_factory.mktemp("scores")
    (folder / "quiz.jsonl").write_text("".join(json.dumps(item) + "\n" for item in ITEMS))
    (folder / "own.yaml").write_text(SUITE)
    for precision in ("float32", "bf16"):
        score("tiny", str(folder / "own.yaml"), precision=precision, device="cpu", output=folder / precision)
    return folder / "float32", folder / "bf16"


def test_two_precisions_of_one_model_are_shown_side_by_side(cli, scores) -> None:
    outcome = cli("compare", *scores)
    assert outcome.code == 0, outcome.err
    assert outcome.err == ""
    lines = [line.split() for line in outcome.out.splitlines()]
    assert lines[0][:1] == ["A:"]
    assert "(tiny)" in lines[0]
    found = {(line[0], line[1]): line for line in lines if line[:1] in (["quiz"], ["texts"])}
    assert set(found) == {
        ("quiz", "accuracy"),
        ("quiz", "likelihood_diff"),
        ("texts", "word_perplexity"),
        ("texts", "byte_perplexity"),
        ("texts", "bits_per_byte"),
    }
    told = json.loads((scores[0] / "scores.json").read_text())["tasks"][1]["metrics"]["word_perplexity"]["value"]
    assert found["texts", "word_perplexity"][2] == f"{told:.4f}"
    assert found["quiz", "accuracy"][-2:] == ["McNemar", "12"]
    assert found["texts", "bits_per_byte"][-2:] == ["bootstrap", "12"]


def test_json_is_one_object(cli, scores) -> None:
    outcome = cli("compare", *scores, "--seed", 3, "--json")
    assert outcome.code == 0, outcome.err
    told = json.loads(outcome.out)
    assert [folder["path"] for folder in told["folders"]] == [str(folder) for folder in scores]
    assert (told["kind"], told["seed"], told["resamples"]) == ("score", 3, 10_000)
    for contrast in told["contrasts"]:
        assert contrast["difference"] == pytest.approx(contrast["value"] - contrast["reference"])
        assert contrast["low"] <= contrast["difference"] <= contrast["high"]
        assert 0 < contrast["p_value"] <= contrast["corrected_p_value"] <= 1


def test_a_comparison_can_be_left_in_a_folder(cli, scores) -> None:
    outcome = cli("compare", *scores, "--output", "comparison", "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(Path("comparison/comparison.json").read_text()) == json.loads(outcome.out)
    assert Path("comparison/comparison.png").read_bytes().startswith(b"\x89PNG")
    again = cli("compare", *scores, "--output", "comparison")
    assert again.code == 2
    assert "not empty" in again.err


def test_three_folders_are_two_tables(cli, scores, tmp_path) -> None:
    third = shutil.copytree(scores[0], tmp_path / "third")
    outcome = cli("compare", *scores, third)
    assert outcome.code == 0, outcome.err
    assert "B - A" in outcome.out
    assert "C - A" in outcome.out
    assert outcome.out.count("accuracy") == 2


def test_finished_runs_are_compared_by_their_reports(cli, finished_run, own_run) -> None:
    outcome = cli("compare", finished_run, own_run, "--json")
    assert outcome.code == 0, outcome.err
    told = json.loads(outcome.out)
    assert told["kind"] == "evaluate"
    assert {contrast["metric"] for contrast in told["contrasts"]} == {"accuracy", "macro_f1", "mcc"}
    assert all(contrast["difference"] == 0 and contrast["p_value"] == 1 for contrast in told["contrasts"])


def test_what_cannot_be_compared_is_refused_in_two_lines(cli, scores, finished_run) -> None:
    alone = cli("compare", scores[0])
    assert alone.code == 2
    assert "1 folder" in alone.err
    assert cli("compare").code == 2
    twice = cli("compare", scores[0], scores[0])
    assert twice.code == 2
    assert "given twice" in twice.err
    mixed = cli("compare", scores[0], finished_run)
    assert mixed.code == 2
    assert len(mixed.err.splitlines()) == 2
    assert mixed.out == ""


def test_another_limit_is_told_with_the_first_example_that_differs(cli, scores, tmp_path) -> None:
    from gpt_tasks.scoring.score import score

    suite = str(scores[0].parent / "own.yaml")
    score("tiny", suite, limit=5, device="cpu", output=tmp_path / "limited")
    outcome = cli("compare", scores[0], tmp_path / "limited")
    assert outcome.code == 4
    assert "quiz.jsonl:6" in outcome.err
    assert "--limit 5" in outcome.err
