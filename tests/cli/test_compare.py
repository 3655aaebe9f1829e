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


def test_items_that_belong_together_are_compared_together(cli, scores) -> None:
    outcome = cli("compare", *scores, "--cluster", "question", "--json")
    assert outcome.code == 0, outcome.err
    missing = cli("compare", *scores, "--cluster", "baker")
    assert missing.code == 4
    assert "--cluster baker" in missing.err
    assert "it holds question" in missing.err


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


def test_another_limit_is_reported_with_the_first_example_that_differs(cli, scores, tmp_path) -> None:
    from gpt_tasks.scoring.score import score

    suite = str(scores[0].parent / "own.yaml")
    score("tiny", suite, limit=5, device="cpu", output=tmp_path / "limited")
    outcome = cli("compare", scores[0], tmp_path / "limited")
    assert outcome.code == 4
    assert "quiz.jsonl:6" in outcome.err
    assert "--limit 5" in outcome.err


PAIRS = [
    (f"The {noun} was {how}.", f"{german} war {wie}.")
    for noun, german in (("soup", "Die Suppe"), ("train", "Der Zug"), ("house", "Das Haus"))
    for how, wie in (("cold", "kalt"), ("small", "klein"), ("new", "neu"))
]


@pytest.fixture(scope="module")
def writers(tmp_path_factory: pytest.TempPathFactory, tiny_backbone_folder: Path) -> tuple[Path, Path, Path]:
    """The reports of a model that has hardly learned to translate, and of one that has, the latter also with the rows
    in another order; do not write into them.
    """
    import gpt_tasks

    folder = tmp_path_factory.mktemp("writers")
    rows = [json.dumps({"en": source, "de": target}) + "\n" for source, target in PAIRS]
    (folder / "rows.jsonl").write_text("".join(rows))
    (folder / "turned.jsonl").write_text("".join(reversed(rows)))
    data = folder / "data"
    data.mkdir()
    for split, mark in (("train", "."), ("validation", "?"), ("test", "!")):
        (data / f"{split}.jsonl").write_text("".join(rows).replace('.", "de"', f'{mark}", "de"'))
    reports = []
    for name, epochs, orders in (("weak", 1, ["rows"]), ("strong", 60, ["rows", "turned"])):
        run = gpt_tasks.finetune(
            "translation",
            data=str(data),
            backbone=str(tiny_backbone_folder),
            output=folder / name,
            epochs=epochs,
            learning_rate=0.02,
            batch_tokens=256,
            max_length=64,
            checkpoint_steps=1_000,
            device="cpu",
            precision="float32",
            options={"max_tokens": 20, "prompt": "{source} ="},
        )
        for order in orders:
            reports.append(folder / f"{name}-{order}")
            run.evaluate(folder / f"{order}.jsonl", output=reports[-1])
    return reports[0], reports[1], reports[2]


def test_models_that_write_are_compared_in_every_measure(cli, writers) -> None:
    weak, strong, turned = writers
    told = json.loads(cli("compare", weak, strong, "--json").out)
    own = [json.loads((folder / "metrics.json").read_text())["metrics"] for folder in (weak, strong)]
    assert [contrast["metric"] for contrast in told["contrasts"]] == ["perplexity", "bleu", "chrf"]
    for contrast in told["contrasts"]:
        assert [contrast["reference"], contrast["value"]] == [each[contrast["metric"]]["value"] for each in own]
        assert (contrast["test"], contrast["n"]) == ("bootstrap", len(PAIRS))
        assert contrast["low"] <= contrast["difference"] <= contrast["high"]
    perplexity, _, chrf = told["contrasts"]
    assert perplexity["high"] < 0 < chrf["low"], "it has learned"
    assert told["notes"] == []
    assert json.loads(cli("compare", weak, turned, "--json").out)["contrasts"] == told["contrasts"]


def test_an_order_of_rows_is_no_difference(cli, writers) -> None:
    outcome = cli("compare", *writers[1:], "--json")
    assert outcome.code == 0, outcome.err
    for contrast in json.loads(outcome.out)["contrasts"]:
        assert contrast["difference"] == pytest.approx(0, abs=1e-9)
        assert contrast["p_value"] == 1


def test_predictions_stay_readable(writers) -> None:
    first = json.loads((writers[1] / "predictions.jsonl").read_text().splitlines()[0])
    assert list(first) == ["where", "source", "references", "predicted", "finish"]


def test_a_written_report_without_parts_says_to_evaluate_again(cli, writers, tmp_path) -> None:
    older = shutil.copytree(writers[1], tmp_path / "older")
    (older / "parts.parquet").unlink()
    outcome = cli("compare", writers[0], older)
    assert outcome.code == 4
    assert outcome.err.splitlines() == [
        f"DataError: {older} holds no parts.parquet: an older gpt-tasks evaluated it",
        "Evaluate again.",
    ]


def test_another_reference_is_another_example(cli, writers, tmp_path) -> None:
    other = shutil.copytree(writers[1], tmp_path / "other")
    lines = (other / "predictions.jsonl").read_text()
    (other / "predictions.jsonl").write_text(
        lines.replace(json.dumps(PAIRS[0][1]), json.dumps("Nichts davon. " * 20), 1)
    )
    outcome = cli("compare", writers[0], other)
    assert outcome.code == 4
    assert f"its right answer is '{PAIRS[0][1]}' in one and 'Nichts davon. " in outcome.err
    assert len(outcome.err) < 700


def test_parts_that_do_not_belong_to_the_report_are_refused(cli, writers, tmp_path) -> None:
    from pyarrow import parquet

    broken = shutil.copytree(writers[1], tmp_path / "broken")
    rows = parquet.read_table(broken / "parts.parquet")

    def told(table) -> str:
        parquet.write_table(table, broken / "parts.parquet")
        outcome = cli("compare", writers[0], broken)
        assert outcome.code == 4
        return outcome.err

    assert f"holds {len(PAIRS) - 1} examples, where metrics.json records {len(PAIRS)}" in told(rows.slice(1))
    assert "is of other examples than predictions.jsonl" in told(rows.take(list(range(len(PAIRS)))[::-1]))
    assert "has no column 'parts'" in told(rows.drop_columns(["parts"]))
    weak = parquet.read_table(writers[0] / "parts.parquet")
    assert "do not yield the perplexity in metrics.json" in told(rows.set_column(1, "parts", weak.column("parts")))
    (broken / "parts.parquet").write_bytes((writers[1] / "parts.parquet").read_bytes()[:200])
    assert "parts.parquet is cut short or damaged" in cli("compare", writers[0], broken).err


def test_perplexities_of_other_tokens_are_distinguished(cli, writers, tmp_path) -> None:
    """As if the other model's tokens were half as long."""
    import pyarrow as pa
    from pyarrow import parquet

    finer = shutil.copytree(writers[1], tmp_path / "finer")
    rows = parquet.read_table(finer / "parts.parquet")
    parts = rows.column("parts").to_pylist()
    for part in (part for row in parts for part in row if part["metric"] == "perplexity"):
        part["weight"] *= 2
    doubled = pa.array(parts, rows.schema.field("parts").type)
    parquet.write_table(rows.set_column(1, "parts", doubled), finer / "parts.parquet")
    (note,) = json.loads(cli("compare", writers[1], finer, "--json").out)["notes"]
    assert note.startswith("translation: perplexity is by ")
    assert note.endswith("in B: the two are not figures of the same tokens.")
