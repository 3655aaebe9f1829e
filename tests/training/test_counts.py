"""A model with counted words beside it: trained, saved, loaded, and refused where it cannot be."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import gpt_tasks
from gpt_tasks.errors import ModelError, UsageError

HARSH = ("was late", "is broken", "was cold", "is torn", "was rude", "is dirty")
KIND = ("was warm", "is splendid", "was kind", "is tidy", "was lovely", "is bright")
THINGS = ("The soup", "The waiter", "The room", "The train", "The book", "The tea", "The bed", "The song")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("counts") / "remarks.jsonl"
    rows = [
        {"text": f"{thing} {said}.", "label": label}
        for label, all_said in (("negative", HARSH), ("positive", KIND))
        for thing in THINGS
        for said in all_said
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def settings(data: Path, tiny_backbone_folder: Path) -> dict[str, Any]:
    return {"data": data, "backbone": tiny_backbone_folder, "max_length": 32, "device": "cpu", "precision": "float32"}


@pytest.fixture(scope="module")
def run(settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    return gpt_tasks.finetune(
        "sentiment", method="head+counts", output=tmp_path_factory.mktemp("runs") / "run", **settings
    )


def probabilities(run: Any) -> list[float]:
    return [each.probabilities["positive"] for each in run.predict(["The tea is splendid.", "The bed is torn."])]


def test_a_random_model_answers_right_by_the_words_beside_it(run: Any) -> None:
    assert run.report.metrics["accuracy"].value == 1
    assert run.record["config"]["method"] == "head+counts"
    assert run.record["settings"]["counts"] is True
    assert "tuned with `head+counts`" in (run.path / "README.md").read_text(encoding="utf-8")
    first, second = probabilities(run)
    assert first > 0.5 > second


def test_a_loaded_run_answers_the_same_and_is_evaluated_the_same(run: Any, data: Path) -> None:
    again = gpt_tasks.load(run.path, precision="float32", device="cpu")
    assert probabilities(again) == probabilities(run)
    report = again.evaluate(data)
    assert report.metrics["accuracy"].value == 1


def test_without_its_counts_a_run_is_damaged(run: Any, tmp_path: Path) -> None:
    shutil.copytree(run.path, tmp_path / "run")
    (tmp_path / "run" / "model" / "counts.json").unlink()
    for verify in (True, False):
        with pytest.raises(ModelError, match=r"counts.json"):
            gpt_tasks.load(tmp_path / "run", verify=verify).predict("The tea is splendid.")


def test_the_words_of_a_private_run_are_hashed(settings: dict[str, Any], tmp_path: Path) -> None:
    private = gpt_tasks.finetune("sentiment", method="head+counts", output=tmp_path / "run", private=True, **settings)
    assert private.report.metrics["accuracy"].value > 0.9
    for file in (tmp_path / "run" / "model").iterdir():
        assert b"splendid" not in file.read_bytes()


def test_more_rows_than_are_counted_are_drawn_and_said(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpt_tasks.learners.sequence.MOST_PROBE_ROWS", 40)
    few = gpt_tasks.finetune("sentiment", method="head+counts", output=tmp_path / "run", **settings)
    assert any(note.startswith("Words were counted in 40 of ") for note in few.report.notes)


def test_a_task_that_writes_counts_no_words(tiny_backbone_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--method full\+counts counts words beside the model.*'summarization'"):
        gpt_tasks.finetune(
            "summarization", method="full+counts", backbone=tiny_backbone_folder, output=tmp_path / "run"
        )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("method", ["ful", "counts", "+counts", "full+count", "full+counts+counts"])
def test_a_method_that_is_none_is_named_with_where_it_is_set(method: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as raised:
        gpt_tasks.finetune("sentiment", method=method, output=tmp_path / "run")
    assert raised.value.message == f"--method {method}: there is no such method"
    (tmp_path / "settings.yaml").write_text(f"seed: 1\nmethod: {method}\n", encoding="utf-8")
    with pytest.raises(UsageError) as raised:
        gpt_tasks.finetune("sentiment", config=tmp_path / "settings.yaml", output=tmp_path / "run")
    assert raised.value.message.startswith(f"{tmp_path / 'settings.yaml'}:2: method {method}: there is no")
