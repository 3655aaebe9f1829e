"""Fine-tuning to find answers in contexts: learned by heart, in windows, with a threshold for "no answer"."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import logsumexp

import gpt_tasks
from gpt_tasks.errors import DataError
from gpt_tasks.types import Row

SPLITS = ("train", "validation", "test")
FILLER = "The view was splendid, and the price of it was not. "
CONTEXTS = (
    "The soup was cold.\tThe waiter said 太好了 🚂 and left.",
    f"{FILLER}Anna came by the night train. {FILLER}The wine cost two pounds.\r\n",
)
QUESTIONS = (
    (0, "What was cold?", "soup"),
    (0, "What did he say?", "太好了 🚂"),
    (1, "How did Anna come?", "by the night train"),
    (1, "What did the wine cost?", "two pounds"),
    (0, "Who played?", None),
)


def row(place: int, question: str, answer: str | None, shift: int = 0) -> dict[str, Any]:
    context = CONTEXTS[place]
    found = [] if answer is None else [{"text": answer, "answer_start": context.index(answer) + shift}]
    return {"question": question, "context": context, "answers": found}


def written(folder: Path, rows: list[dict[str, Any]]) -> str:
    """The same rows in all splits, distinguished by an end mark of their questions."""
    folder.mkdir()
    for split, mark in zip(SPLITS, ("", " ", "  "), strict=True):
        marked = [
            {**each, "question": each["question"].replace("?", f"?{mark}{split[0] if mark else ''}")} for each in rows
        ]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(each) + "\n" for each in marked), encoding="utf-8")
    return str(folder)


@pytest.fixture(scope="module")
def settings(tiny_backbone_folder: Path) -> dict[str, Any]:
    return {
        "backbone": str(tiny_backbone_folder),
        "epochs": 250,
        "learning_rate": 0.01,
        "batch_tokens": 192,
        "max_length": 64,
        "checkpoint_steps": 250,
        "precision": "float32",
        "device": "cpu",
        "seed": 0,
        "options": {"stride": 16},
    }


@pytest.fixture(scope="module")
def run(settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("qa")
    data = written(folder / "data", [row(*each) for each in QUESTIONS])
    trained = gpt_tasks.finetune("qa", data=data, output=folder / "run", **settings)
    return gpt_tasks.load(trained.path, precision="float32", device="cpu")


def asked() -> list[dict[str, str]]:
    return [{"question": question, "context": CONTEXTS[place]} for place, question, _ in QUESTIONS]


def test_answers_are_learned_by_heart_character_for_character_and_so_is_that_there_is_none(run: Any) -> None:
    answers = run.predict(asked())
    for answer, (place, _, right) in zip(answers, QUESTIONS, strict=True):
        assert CONTEXTS[place][answer.start : answer.end] == answer.text
        assert sum(candidate.probability for candidate in answer.candidates) == pytest.approx(1)
        assert all(CONTEXTS[place][each.start : each.end] == each.text for each in answer.candidates)
        if right is None:
            assert answer.text == ""
        else:
            # Whether it is given is for the threshold to say, which is chosen by other questions.
            assert next(each.text for each in answer.candidates if each.text) == right
    assert run.task.unanswerable
    assert run.report.training["windowed_examples"] == 2


def test_a_run_answers_as_before_alone_and_among_others(run: Any) -> None:
    again = gpt_tasks.load(run.path, precision="float32", device="cpu")
    answers = run.predict(asked())
    assert again.predict(asked()) == answers
    assert [again.predict([each])[0].text for each in asked()] == [answer.text for answer in answers]


def test_the_report_has_the_statistics_of_the_evaluations_next_to_the_baselines(run: Any, tmp_path: Path) -> None:
    report = run.report
    names = ["exact_match", "f1", "has_answer_exact_match", "has_answer_f1", "no_answer_exact_match"]
    assert (report.answers, list(report.metrics), list(report.baselines)) == ("span", names, ["longest_shared"])
    data = Path(run.record["config"]["data"]) / "test.jsonl"
    again = run.evaluate(data, output=tmp_path / "out")
    assert again.metrics == report.metrics
    lines = [json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()]
    assert len(lines) == len(QUESTIONS)
    assert {"references", "predicted", "start", "end", "probability", "n_best"} <= set(lines[0])
    assert any("SQuAD 2.0" in note for note in again.notes)
    from gpt_tasks.evaluation.compare import compare

    run.evaluate(data, output=tmp_path / "other")
    compared = compare([tmp_path / "out", tmp_path / "other"])
    assert [contrast.difference for contrast in compared.contrasts] == [0.0] * len(names)


def test_where_every_question_has_an_answer_one_is_always_given(settings: dict[str, Any], tmp_path: Path) -> None:
    data = written(tmp_path / "data", [row(*each) for each in QUESTIONS if each[2]])
    trained = gpt_tasks.finetune("qa", data=data, output=tmp_path / "run", **{**settings, "epochs": 2})
    assert list(trained.report.metrics) == ["exact_match", "f1"]
    assert all(answer.text for answer in trained.predict(asked()))


def test_lora_learns_too(settings: dict[str, Any], run: Any, tmp_path: Path) -> None:
    data = run.record["config"]["data"]
    tuned = gpt_tasks.finetune("qa", data=data, output=tmp_path / "run", method="lora", **{**settings, "epochs": 20})
    history = json.loads((tuned.path / "logs" / "history.json").read_text())
    losses = [entry["loss"] for entry in history if "loss" in entry]
    assert losses[-1] < losses[0]


def test_on_a_frozen_backbone_the_head_is_fitted_to_where_answers_begin_and_end(
    settings: dict[str, Any], run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = {
        name: settings[name] for name in ("backbone", "batch_tokens", "max_length", "precision", "device", "options")
    }
    data = run.record["config"]["data"]
    fitted = gpt_tasks.finetune("qa", data=data, output=tmp_path / "run", method="head", **plain)
    learner = gpt_tasks.load(fitted.path, precision="float32", device="cpu").predictor
    columns = {name: name for name in ("question", "context", "answers")}
    windows = learner.encode([learner.task.example(Row(row(*each), "a row"), columns) for each in QUESTIONS])
    logits = learner.outputs_of(windows)
    for side in range(2):
        losses = [
            logsumexp(of_tokens[:, side]) - of_tokens[window.labels[side], side]
            for window, of_tokens in zip(windows, logits, strict=True)
        ]
        assert np.mean(losses) < 0.97 * np.mean([np.log(len(window)) for window in windows])
    assert fitted.report.training["updates"] == 0
    assert not any("fitted on" in note for note in fitted.report.notes)

    monkeypatch.setattr("gpt_tasks.learners.span.MOST_PROBE_TOKENS", 200)
    part = gpt_tasks.finetune("qa", data=data, output=tmp_path / "part", method="head", **plain)
    windows = part.report.training["windows"]
    assert any(
        note.startswith("The head was fitted on") and f"of {windows} windows" in note for note in part.report.notes
    )


def test_an_answer_that_no_window_holds_is_counted(settings: dict[str, Any], tmp_path: Path) -> None:
    long = row(1, "What was splendid?", CONTEXTS[1][: CONTEXTS[1].index(" The wine")])
    data = written(tmp_path / "data", [row(*QUESTIONS[0]), long])
    trained = gpt_tasks.finetune("qa", data=data, output=tmp_path / "run", **{**settings, "epochs": 1})
    assert trained.report.training["answers_in_no_window"] == 1


def test_an_answer_at_another_place_is_moved_counted_and_named(settings: dict[str, Any], tmp_path: Path) -> None:
    # One of twenty-one is one character off.
    rows = [{**row(0, "What was cold?", "soup"), "question": f"What was cold on day {n}?"} for n in range(20)]
    data = written(tmp_path / "data", [*rows, row(1, "How did Anna come?", "by the night train", shift=1)])
    trained = gpt_tasks.finetune("qa", data=data, output=tmp_path / "run", **{**settings, "epochs": 1})
    assert any(
        note.startswith("1 of 21 answers are not where they should be: 1 moved") and "train.jsonl:21" in note
        for note in trained.report.notes
    )


@pytest.mark.parametrize(
    ("rows", "change", "told"),
    [
        ([row(0, "What was cold?", "soup", shift=3)], {}, r"1 of 2 answers are not in their context"),
        ([row(0, "What?", None)], {"only": True}, "not one question has an answer"),
        ([row(0, "What was cold " * 40 + "?", "soup")], {}, r"the question takes .* and leaves its context no room"),
        ([row(1, "Who came by train, and when, and what for, and whither?" * 2, "Anna")], {}, "windows overlap by 16"),
        ([{**row(0, "What?", "soup"), "answers": 4}], {}, r"train.jsonl:2: column 'answers' holds a int"),
        ([{**row(0, "What?", "soup"), "answers": [{"text": ""}]}], {}, r"train.jsonl:2: an answer .* is empty"),
    ],
)
def test_a_bad_row_is_one_clear_error(
    settings: dict[str, Any], tmp_path: Path, rows: list[dict[str, Any]], change: dict[str, Any], told: str
) -> None:
    good = [row(0, "What was cold?", "soup")]
    data = tmp_path / "data"
    data.mkdir()
    for split in SPLITS:
        kept = rows if change and split == "train" else good + (rows if split == "train" else [])
        marked = [{**each, "question": f"{each['question']} {split}"} for each in kept]
        (data / f"{split}.jsonl").write_text("".join(json.dumps(each) + "\n" for each in marked), encoding="utf-8")
    with pytest.raises(DataError, match=told) as raised:
        gpt_tasks.finetune("qa", data=str(data), output=tmp_path / "run", **settings)
    assert "\n" not in raised.value.message
    assert not (tmp_path / "run").exists()


def test_squads_own_file_is_read(settings: dict[str, Any], tmp_path: Path) -> None:
    data = tmp_path / "squad"
    data.mkdir()
    for split, mark in zip(SPLITS, ("", " now", " then"), strict=True):
        asked = [
            {
                "id": str(n),
                "question": f"{question}{mark}",
                **{key: value for key, value in each.items() if key == "answers"},
            }
            for n, (place, question, answer) in enumerate(QUESTIONS)
            if place == 0
            for each in [row(place, question, answer)]
        ]
        document = {"data": [{"title": "Soup", "paragraphs": [{"context": CONTEXTS[0], "qas": asked}]}]}
        (data / f"{split}.json").write_text(json.dumps(document), encoding="utf-8")
    trained = gpt_tasks.finetune("qa", data=str(data), output=tmp_path / "run", **{**settings, "epochs": 1})
    assert trained.report.n == 3
    assert trained.report.samples[0].where == "test.json:Soup:0"
