"""Questions whose answers are written behind the context: the same data and metrics as for answers that are found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from gpt_tasks_plugins.qa import QuestionAnswering

import gpt_tasks
from gpt_tasks.cli.main import run as run_command
from gpt_tasks.data.examples import store_examples
from gpt_tasks.errors import UsageError
from gpt_tasks.evaluation.compare import compare
from gpt_tasks.tasks.generative_qa import GenerativeQATask
from gpt_tasks.types import Example, Row, TextPrediction

CONTEXT = "The soup was cold."
QUESTIONS = (
    (CONTEXT, "What was cold?", "soup"),
    ("The waiter left at noon.", "When did he leave?", "at noon"),
    ("Anna came by train.", "Who played?", None),
)
WRITTEN = GenerativeQATask(QuestionAnswering())
COLUMNS = {name: name for name in ("question", "context", "answers")}


def row(context: str, question: str, *answers: str) -> dict[str, Any]:
    found = [{"text": answer, "answer_start": context.index(answer)} for answer in answers]
    return {"question": question, "context": context, "answers": found}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    data = tmp_path_factory.mktemp("data")
    for split, mark in (("train", ""), ("validation", " now"), ("test", " then")):
        rows = [row(context, question + mark, *([answer] if answer else [])) for context, question, answer in QUESTIONS]
        (data / f"{split}.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows), encoding="utf-8")
    return {
        "backbone": "tiny",
        "data": str(data),
        "epochs": 40,
        "learning_rate": 0.003,
        "max_length": 128,
        "checkpoint_steps": 40,
        "precision": "float32",
        "device": "cpu",
    }


@pytest.fixture(scope="module")
def run(settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    options = {"mode": "generative", "longest_answer": 20}
    return gpt_tasks.finetune("qa", output=tmp_path_factory.mktemp("qa") / "run", options=options, **settings)


def test_answers_are_said_by_heart_and_nothing_is_said_where_there_is_none(run: Any) -> None:
    asked = [{"question": question, "context": context} for context, question, _ in QUESTIONS]
    again = gpt_tasks.load(run.path, precision="float32", device="cpu")
    assert again.predict(asked) == [answer or "" for _, _, answer in QUESTIONS]
    assert again.task.found.unanswerable


def test_its_report_is_comparable_with_that_of_answers_that_are_found(
    run: Any, settings: dict[str, Any], tmp_path: Path
) -> None:
    found = gpt_tasks.finetune("qa", output=tmp_path / "found", **{**settings, "epochs": 1}, options={"stride": 16})
    assert list(run.report.metrics) == ["perplexity", *found.report.metrics]
    assert run.report.baselines["longest_shared"] == found.report.baselines["longest_shared"]
    assert any("SQuAD 2.0" in note for note in run.report.notes)
    compared = compare([run.path, found.path])
    assert [contrast.metric for contrast in compared.contrasts] == list(found.report.metrics)


def test_a_row_is_read_as_the_text_behind_context_and_question(tiny_tokenizer: Any) -> None:
    several = WRITTEN.example(Row(row(CONTEXT, "What was cold?", "soup", "The soup"), "a:1"), COLUMNS)
    assert several.references == (" soup", " The soup")
    nothing = WRITTEN.example(Row(row(CONTEXT, "Who played?"), "a:2"), COLUMNS)
    assert (nothing.target, nothing.references) == ("", ("",))
    encoded = WRITTEN.encode([several, nothing], tiny_tokenizer, 128)
    texts = [tiny_tokenizer.decode(each.input_ids) for each in encoded]
    end = tiny_tokenizer.eos_token
    assert texts[0] == f"{CONTEXT}\nQuestion: What was cold?\nAnswer: soup{end}"
    assert texts[1] == f"{CONTEXT}\nQuestion: Who played?\nAnswer:{end}"
    learned = [tiny_tokenizer.decode(each.input_ids[slice(*each.label_spans[0])]) for each in encoded]
    assert learned == [f" soup{end}", end]


def test_what_is_written_is_scored_as_the_evaluations_do(tmp_path: Path) -> None:
    right = Example({"question": "", "context": CONTEXT}, " the soup", "", references=(" the soup", " a bowl"))
    nothing = Example({"question": "", "context": CONTEXT}, "", "", references=("",))
    task = WRITTEN.fit(store_examples([nothing], tmp_path), "rows")
    assert task.score(right, TextPrediction("\n Soup. "))["exact_match"].value == 1
    assert task.score(right, TextPrediction("cold soup"))["f1"].value == pytest.approx(2 / 3)
    assert task.score(nothing, TextPrediction(" "))["exact_match"].value == 1
    assert task.score(nothing, TextPrediction(" soup"))["no_answer_exact_match"].value == 0
    assert task.score(right, TextPrediction(""))["no_answer_exact_match"].weight == 0


@pytest.mark.parametrize("option", ["stride", "n_best"])
def test_options_of_answers_that_are_found_are_refused(option: str, settings: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"--{option.replace('_', '-')} is for answers that are found"):
        gpt_tasks.finetune("qa", output=tmp_path / "run", options={"mode": "generative", option: 4}, **settings)
    assert not (tmp_path / "run").exists()


def test_a_model_writes_without_training(settings: dict[str, Any], tmp_path: Path) -> None:
    suite = tmp_path / "suite.yaml"
    source = str(Path(settings["data"]) / "test.jsonl")
    suite.write_text(
        f"name: asked\ntasks:\n  - task: qa\n    source: {source}\n    longest_answer: 5\n", encoding="utf-8"
    )
    scores, _ = gpt_tasks.score(settings["backbone"], str(suite), device="cpu", output=tmp_path / "scores")
    (scored,) = scores.tasks
    assert scored.n == len(QUESTIONS)
    assert set(scored.metrics) == {"exact_match", "f1"}


@pytest.mark.parametrize(("option", "value"), [("stride", "4"), ("mode", "extractive")])
def test_what_only_training_can_use_is_no_zero_shot_option(
    option: str, value: str, settings: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    source = str(Path(settings["data"]) / "test.jsonl")
    assert run_command(["evaluate", "tiny", "--task", "qa", "--data", source, "--option", f"{option}={value}"]) == 2
    assert option in capsys.readouterr().err.splitlines()[0]
