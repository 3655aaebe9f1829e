"""Fine-tuning to texts: what is learned is said again, figures are those of scoring, and files are read whole."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import gpt_tasks
from gpt_tasks.errors import DataError, UsageError
from gpt_tasks.generation.decoding import Decoding
from gpt_tasks.generation.generator import open_writer

TEXTS = ("Ein Käfer 🪲: 你好,世界!", "A cafe\u0301 by the sea.")


def rows(file: Path, texts: Sequence[str]) -> Path:
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory, tiny_backbone_folder: Path) -> gpt_tasks.Run:
    """A model that has learned two texts by heart; nearly the same ones select its best checkpoint."""
    folder = tmp_path_factory.mktemp("modeling")
    return gpt_tasks.finetune(
        "generation",
        data=rows(folder / "train.jsonl", TEXTS),
        validation=rows(folder / "validation.jsonl", [f"{text}!" for text in TEXTS]),
        test=rows(folder / "test.jsonl", [f"{text}?" for text in TEXTS]),
        backbone=str(tiny_backbone_folder),
        epochs=150,
        learning_rate=0.02,
        checkpoint_steps=75,
        precision="float32",
        device="cpu",
        output=folder / "run",
    )


def test_a_model_says_what_it_was_shown_and_stops(learned: gpt_tasks.Run) -> None:
    writer = open_writer(str(learned.path), device="cpu", precision="float32")
    # A text is learned as one that begins after the end of another.
    prompts = [f"<|endoftext|>{text.split()[0]}" for text in TEXTS]
    written = writer.write(prompts, Decoding.checked(max_new_tokens=50))
    said = [text.split()[0] + each.text for text, (each,) in zip(TEXTS, written, strict=True)]
    assert said == list(TEXTS)
    assert [each.finish_reason for (each,) in written] == ["end", "end"]


def test_the_report_is_next_to_the_backbone_before_fine_tuning(learned: gpt_tasks.Run) -> None:
    report = learned.report
    assert list(report.metrics) == ["perplexity", "word_perplexity", "bits_per_byte"]
    for name, score in report.metrics.items():
        assert score.value < report.baselines["before"][name].value
    assert report.n == 2


def test_figures_are_those_of_scoring_the_run_as_a_model(cli: Any, learned: gpt_tasks.Run, tmp_path: Path) -> None:
    file = rows(tmp_path / "texts.jsonl", ["One line.\nAnother one, 你好. " * 12, "short"])
    ours = gpt_tasks.load(learned.path, device="cpu", precision="float32").evaluate(file, output=tmp_path / "ours")
    told = cli("evaluate", learned.path, "--task", "generation", "--data", file, "--json", "--device", "cpu")
    scored = json.loads(told.out)["metrics"]
    assert list(ours.metrics) == list(scored)
    for name, score in ours.metrics.items():
        assert score.value == pytest.approx(scored[name]["value"], rel=1e-5)
        assert score.low == pytest.approx(scored[name]["low"], rel=1e-5)
    lines = [json.loads(line) for line in (tmp_path / "ours" / "predictions.jsonl").open(encoding="utf-8")]
    assert [line["text"] for line in lines] == ["One line.\nAnother one, 你好. " * 12, "short"]


def test_evaluations_of_two_models_are_compared(cli: Any, learned: gpt_tasks.Run, tmp_path: Path) -> None:
    file = rows(tmp_path / "texts.jsonl", [*TEXTS, "Something else."])
    for name in ("a", "b"):
        learned.evaluate(file, output=tmp_path / name)
    told = cli("compare", tmp_path / "a", tmp_path / "b", "--json")
    assert told.code == 0, told.err
    assert "word_perplexity" in told.out


def test_one_book_is_trained_on_and_judged_by_its_passages(tiny_backbone_folder: Path, tmp_path: Path) -> None:
    book = tmp_path / "book.txt"
    book.write_text("".join(f"Line {number} of a rather long book.\n" for number in range(2000)), encoding="utf-8")
    run = gpt_tasks.finetune(
        "generation", data=book, backbone=str(tiny_backbone_folder), epochs=1, output=tmp_path / "run"
    )
    assert sum(run.record["rows"].values()) == 8
    assert run.report.n == 1
    before = run.report.baselines["before"]["perplexity"].value
    assert run.report.metrics["perplexity"].value < before


def test_a_run_answers_nothing_and_says_what_writes(learned: gpt_tasks.Run) -> None:
    with pytest.raises(UsageError, match="continues texts") as raised:
        learned.predict(["a text"])
    assert f"gpt-tasks generate {learned.path}" in str(raised.value.hint)


def test_rows_of_another_task_are_refused(tiny_backbone_folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text('{"en": "one", "de": "eins"}\n' * 5, encoding="utf-8")
    with pytest.raises(DataError, match="no column 'text'; the columns are en, de"):
        gpt_tasks.finetune("generation", data=file, backbone=str(tiny_backbone_folder), output=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_plain_text_is_no_data_for_labels(tiny_backbone_folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "reviews.txt"
    file.write_text("good\nbad\n", encoding="utf-8")
    with pytest.raises(DataError, match="no column 'text'; the columns are passage, continues"):
        gpt_tasks.finetune("sentiment", data=file, backbone=str(tiny_backbone_folder), output=tmp_path / "run")


def test_a_model_that_got_worse_says_so(tiny_backbone_folder: Path, tmp_path: Path) -> None:
    run = gpt_tasks.finetune(
        "generation",
        data=rows(tmp_path / "train.jsonl", ["aaaa bbbb"] * 4),
        validation=rows(tmp_path / "validation.jsonl", ["aaaa bbbb!"]),
        test=rows(tmp_path / "test.jsonl", ["Quite another thing, said with other letters."]),
        backbone=str(tiny_backbone_folder),
        epochs=60,
        learning_rate=0.05,
        output=tmp_path / "run",
    )
    assert any("worse than the backbone was before" in note for note in run.report.notes)


def test_two_processes_learn_what_one_does_and_report_once(
    command_server: Any, tiny_backbone_folder: Path, tmp_path: Path
) -> None:
    backbone = tmp_path / "backbone"
    shutil.copytree(tiny_backbone_folder, backbone)
    config = json.loads((backbone / "config.json").read_text())
    undropped = {**config, "attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0}
    (backbone / "config.json").write_text(json.dumps(undropped))
    words = ["the", "train", "was", "late", "but", "nobody", "minded"]
    texts = [" ".join(words[: 1 + number % 7] * (1 + number % 4)) + f" {number}" for number in range(24)]
    data = rows(tmp_path / "train.jsonl", texts)
    # One row of validation: the second process judges none.
    other = rows(tmp_path / "validation.jsonl", ["the train was splendid"])
    common = [
        "finetune", "generation", "--data", data, "--validation", other, "--test", rows(tmp_path / "t.jsonl", ["late"]),
        "--backbone", backbone, "--epochs", "2", "--batch-tokens", "64", "--precision", "float32", "--device", "cpu",
    ]  # fmt: skip
    alone = command_server.run(*common, "--accumulate", "2", "--output", tmp_path / "one")
    for ended in (alone, *command_server.run_on_two(*common, "--output", tmp_path / "two")):
        assert ended.returncode == 0, ended.stderr
    one, both = (gpt_tasks.load(tmp_path / name).report.metrics["perplexity"].value for name in ("one", "two"))
    assert both == pytest.approx(one, rel=1e-4)
