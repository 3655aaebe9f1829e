"""Fine-tuning to write: two examples are said by heart, and a run writes what it wrote before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import gpt_tasks
from gpt_tasks.errors import DataError, UsageError
from gpt_tasks.generation.linear_kernels import multiplies_int8

PAIRS = [("The soup was cold.", "Die Suppe war kalt."), ("What a lovely train!", "Was für ein schöner Zug! 🚂 太好了")]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return [{"en": source, "de": target} for source, target in PAIRS]


@pytest.fixture(scope="module")
def settings(tiny_backbone_folder: Path) -> dict[str, Any]:
    return {
        "backbone": str(tiny_backbone_folder),
        "epochs": 150,
        "learning_rate": 0.02,
        "batch_tokens": 256,
        "max_length": 64,
        "checkpoint_steps": 50,
        "precision": "float32",
        "device": "cpu",
        "options": {"max_tokens": 40, "prompt": "{source} ="},
    }


@pytest.fixture(scope="module")
def run(rows: list[dict[str, Any]], settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A model that has learned two pairs by heart; the same with a mark more to judge it by."""
    folder = tmp_path_factory.mktemp("writing")
    data = folder / "data"
    data.mkdir()
    write(data / "train.jsonl", rows)
    for split, mark in (("validation", "?"), ("test", "!")):
        write(data / f"{split}.jsonl", [{**row, "en": row["en"] + mark} for row in rows])
    return gpt_tasks.finetune("translation", data=str(data), output=folder / "run", **settings)


def test_two_examples_are_said_by_heart_and_end(run: Any) -> None:
    answers = run.predict([source for source, _ in PAIRS])
    assert answers == [target for _, target in PAIRS]
    assert [answer.finish_reason for answer in answers] == ["end", "end"]


def test_the_report_has_perplexity_and_metrics_next_to_the_baselines(run: Any) -> None:
    assert list(run.report.metrics) == ["perplexity", "bleu", "chrf"]
    assert set(run.report.baselines) == {"copy"}
    assert list(run.report.baselines["copy"]) == ["bleu", "chrf"]
    assert len(run.report.samples) == 2
    assert any("tok:13a" in note for note in run.report.notes)
    files = {path.name for path in run.path.iterdir()}
    assert files >= {"README.md", "learning_curve.png", "logs", "metrics.json", "model", "predictions.jsonl"}
    history = json.loads((run.path / "logs" / "history.json").read_text())
    assert any("eval_chrf" in entry for entry in history), "what it writes was measured on the way"
    card = (run.path / "README.md").read_text()
    assert "## What it answers" in card
    assert "text-generation" in card


def test_a_loaded_run_answers_and_evaluates_as_before(run: Any, rows: list[dict[str, Any]], tmp_path: Path) -> None:
    loaded = gpt_tasks.load(run.path, precision="float32", device="cpu")
    assert loaded.predict([PAIRS[0][0], {"en": PAIRS[1][0]}]) == [target for _, target in PAIRS]
    data = write(tmp_path / "rows.jsonl", rows)
    report = loaded.evaluate(data, output=tmp_path / "out")
    assert report.metrics["bleu"].value == pytest.approx(100)
    assert report.metrics["chrf"].value == pytest.approx(100)
    assert report.metrics["perplexity"].value < 1.1
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["metrics"]["bleu"]["value"] == pytest.approx(100)
    unanswered = write(tmp_path / "questions.jsonl", [{"en": source} for source, _ in PAIRS])
    assert [answer for _, answer in loaded.predict_rows(unanswered)] == [target for _, target in PAIRS]
    by_source = loaded.evaluate(data, by="en").slices
    assert by_source is not None
    assert set(by_source.metrics) == {source for source, _ in PAIRS}
    assert all(scores["chrf"].value == pytest.approx(100) for scores in by_source.metrics.values())


def test_the_folder_opens_with_transformers_and_writes_the_same(run: Any) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(run.path / "model")
    tokenizer = AutoTokenizer.from_pretrained(run.path / "model")
    ids = tokenizer(f"{PAIRS[0][0]} =", return_tensors="pt")
    written = model.generate(**ids, max_new_tokens=40, do_sample=False)[0, ids["input_ids"].shape[1] :]
    assert tokenizer.decode(written, skip_special_tokens=True).strip() == PAIRS[0][1]


def test_lora_learns_too_and_leaves_a_plain_model(settings: dict[str, Any], run: Any, tmp_path: Path) -> None:
    tuned = gpt_tasks.finetune(
        "translation", data=run.record["config"]["data"], output=tmp_path / "run", method="lora", **settings
    )
    history = json.loads((tuned.path / "logs" / "history.json").read_text())
    losses = [entry["loss"] for entry in history if "loss" in entry]
    assert losses[-1] < losses[0] - 0.05, "random embeddings leave it little to learn with"
    loaded = gpt_tasks.load(tuned.path)
    assert loaded.predict([PAIRS[0][0]]) == tuned.predict([PAIRS[0][0]])
    assert not any("lora" in name for name in loaded.predictor.model.state_dict())


@pytest.mark.parametrize(
    ("change", "error", "told"),
    [
        ({"method": "head"}, UsageError, "--method head fits a head on a frozen backbone; task 'translation' has none"),
        ({"best_by": "rouge1"}, UsageError, "--best-by rouge1"),
        ({"options": {"target_language": "xx"}}, UsageError, "there is no language 'xx'"),
        ({"options": {"prompt": "{source} ="}, "max_length": 2}, DataError, "The prompt alone takes"),
        ({"options": {"max_tokens": 64}, "max_length": 64}, UsageError, "leave no room for a prompt in 64"),
        ({"options": {"prompt": "{sauce} ="}}, DataError, "there is no column 'sauce'"),
        ({"options": {"target_language": "fr"}}, DataError, "there is no column"),
    ],
)
def test_what_cannot_be_trained_is_reported(
    run: Any, settings: dict[str, Any], tmp_path: Path, change: dict[str, Any], error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        gpt_tasks.finetune(
            "translation", data=run.record["config"]["data"], output=tmp_path / "run", **{**settings, **change}
        )
    assert not (tmp_path / "run").exists()


def test_answers_are_written_as_the_decoding_says(run: Any, rows: list[dict[str, Any]], tmp_path: Path) -> None:
    questions = [source for source, _ in PAIRS]
    greedy = gpt_tasks.load(run.path, precision="float32", device="cpu")
    drawing = {"temperature": "20", "seed": "3"}
    drawn, again = (
        gpt_tasks.load(run.path, precision="float32", device="cpu", decoding=drawing).predict(questions)
        for _ in range(2)
    )
    assert drawn == again != greedy.predict(questions)
    short = gpt_tasks.load(run.path, precision="float32", device="cpu", decoding={"max_new_tokens": "2"})
    report = short.evaluate(write(tmp_path / "rows.jsonl", rows))
    assert report.metrics["chrf"].value < 100
    assert report.metrics["perplexity"] == greedy.evaluate(tmp_path / "rows.jsonl").metrics["perplexity"]


@pytest.mark.skipif(not multiplies_int8(), reason="this CPU does not multiply int8")
def test_answers_are_written_in_int8_too(run: Any, rows: list[dict[str, Any]], tmp_path: Path) -> None:
    small = gpt_tasks.load(run.path, precision="int8", device="cpu")
    assert small.predict([source for source, _ in PAIRS]) == [target for _, target in PAIRS]
    data = write(tmp_path / "rows.jsonl", rows)
    told = small.evaluate(data)
    precision = small.predictor.settings.precision
    assert f"The answers are written in int8, perplexity is computed in {precision}." in told.notes
    assert told.metrics["perplexity"] == gpt_tasks.load(run.path, device="cpu").evaluate(data).metrics["perplexity"]


@pytest.mark.parametrize(
    ("decoding", "told"),
    [
        ({"top_p": "1.5"}, "--top-p 1.5: input should be less than or equal to 1"),
        ({"num_return_sequences": "2", "temperature": "1"}, "one answer"),
        ({"beams": "2"}, "--beams 2"),
    ],
)
def test_decoding_that_cannot_be_is_refused(run: Any, decoding: dict[str, str], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        gpt_tasks.load(run.path, decoding=decoding)


@pytest.mark.parametrize("setting", [{"lm_weight": 0.5}, {"class_weights": "balanced"}])
def test_what_is_for_heads_is_refused(settings: dict[str, Any], tmp_path: Path, setting: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="is for a head, and task 'translation' has none") as raised:
        gpt_tasks.finetune("translation", output=tmp_path / "run", **{**settings, **setting})
    assert str(raised.value).startswith(f"--{next(iter(setting)).replace('_', '-')} ")
    assert not (tmp_path / "run").exists()
