"""Fine-tuning heads for several labels or a number: learned by heart, saved, and next to cheap baselines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import softmax

import gpt_tasks
from gpt_tasks.errors import DataError, UsageError
from gpt_tasks.evaluation.answering import given_example
from gpt_tasks.heads.model import last_hidden_state

SPLITS = ("train", "validation", "test")
TAGS = [
    ("Lunch is in the canteen, and the firm pays.", ["food", "work"]),
    ("We took the night train home.", ["travel"]),
    ("The soup costs two pounds.", ["food", "money"]),
    ("It rained.", []),
]
PAIRS = [
    ("The soup was cold.", "The soup had gone cold.", 4.5),
    ("The soup was cold.", "We took the night train.", 0.5),
    ("She plays the cello.", "She is a musician.", 3.0),
    ("It rained.", "The sun shone all day.", 1.0),
]


CHOICES = [
    ("What is soup?", ["food", "a train"], 0),
    ("What is a train?", ["food", "a cello", "a way to travel"], 2),
    ("What is a cello?", ["an instrument", "a waiter", "rain"], 0),
    ("Who brings the soup?", ["the cello", "the waiter"], 1),
]


def written(folder: Path, rows: list[dict[str, Any]]) -> str:
    """The same rows in all splits, distinguished by an end mark."""
    folder.mkdir()
    for split, mark in zip(SPLITS, ("", "?", "!"), strict=True):
        lines = [json.dumps({**row, field: row[field] + mark}) for row in rows for field in list(row)[:1]]
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(folder)


def exact(run: Any) -> Any:
    """The run as it computes in the precision that it was trained in."""
    return gpt_tasks.load(run.path, precision="float32", device="cpu")


@pytest.fixture(scope="module")
def settings(tiny_backbone_folder: Path) -> dict[str, Any]:
    return {
        "backbone": str(tiny_backbone_folder),
        "epochs": 60,
        "learning_rate": 0.02,
        "batch_tokens": 512,
        "max_length": 64,
        "checkpoint_steps": 20,
        "precision": "float32",
        "device": "cpu",
    }


@pytest.fixture(scope="module")
def tagger(settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("multi-label")
    data = written(folder / "data", [{"text": text, "labels": labels} for text, labels in TAGS])
    return exact(gpt_tasks.finetune("multi-label", data=data, output=folder / "run", **settings))


@pytest.fixture(scope="module")
def scorer(settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("similarity")
    data = written(folder / "data", [{"text_a": a, "text_b": b, "score": score} for a, b, score in PAIRS])
    longer = {**settings, "learning_rate": 0.005, "epochs": 120}
    return exact(gpt_tasks.finetune("similarity", data=data, output=folder / "run", **longer))


@pytest.fixture(scope="module")
def chooser(settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("choices")
    rows = [{"question": asked, "choices": choices, "answer": right} for asked, choices, right in CHOICES]
    data = written(folder / "data", rows)
    return exact(gpt_tasks.finetune("multiple-choice", data=data, output=folder / "run", **settings))


def test_choices_are_learned_by_heart_for_any_number_and_order(chooser: Any) -> None:
    asked = [{"question": question, "choices": choices} for question, choices, _ in CHOICES]
    answers = chooser.predict(asked)
    assert [int(answer.label) for answer in answers] == [right for _, _, right in CHOICES]
    assert [len(answer.probabilities) for answer in answers] == [len(choices) for _, choices, _ in CHOICES]
    turned = chooser.predict([{**each, "choices": each["choices"][::-1]} for each in asked])
    for answer, other, (_, choices, _) in zip(answers, turned, CHOICES, strict=True):
        assert int(other.label) == len(choices) - 1 - int(answer.label)
    assert exact(chooser).predict(asked) == answers
    assert chooser.report.answers == "choice"
    assert chooser.report.baselines["longest"]["accuracy"].value == 0.75
    assert chooser.report.samples[0].references == ("food",)


@pytest.mark.parametrize("method", ["full", "head"])
def test_choices_about_a_long_text_are_each_read_with_all_of_it(
    method: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    filler = "and so it went on, one day after another, " * 6
    rows = [
        {"question": f"{n} {filler}", "choices": choices, "answer": right}
        for n, (_, choices, right) in enumerate(CHOICES)
    ]
    data = written(tmp_path / "data", rows)
    plain = (
        {**settings, "epochs": 2}
        if method == "full"
        else {**settings, "epochs": None, "learning_rate": None, "checkpoint_steps": None}
    )
    run = exact(gpt_tasks.finetune("multiple-choice", data=data, output=tmp_path / "run", method=method, **plain))
    assert run.report.training["windowed_examples"] == len(rows)
    assert run.report.training["truncated_examples"] == 0
    asked = [{"question": row["question"], "choices": row["choices"]} for row in rows]
    answers = run.predict(asked)
    assert [list(answer.probabilities) for answer in answers] == [
        [str(place) for place in range(len(row["choices"]))] for row in rows
    ]
    # The score of a choice is the mean of those of its windows.
    model = run.predictor.model.eval()
    example, tokenizer = given_example(run.task, asked[1], "text 2"), run.predictor.backbone.tokenizer
    (encoded,) = run.task.encode([example], tokenizer, settings["max_length"])
    said = np.concatenate(
        [
            model.head(*last_hidden_state(model.backbone, ids, torch.ones_like(ids))).detach().numpy()
            for ids in (torch.tensor([ids]) for ids in encoded.sequences)
        ]
    )[:, 0]
    means = [said[[place == choice for place in encoded.choices]].mean() for choice in range(3)]
    assert np.allclose(softmax(means), list(answers[1].probabilities.values()), atol=1e-5)
    cut = run.task.configured(run.task.Options(long_texts="truncate"))
    (one,) = cut.encode([example], tokenizer, settings["max_length"])
    assert (len(one.sequences), one.windows, one.truncated > 0) == (3, 1, True)


def test_a_choice_alone_is_refused_and_choices_must_be_given(chooser: Any) -> None:
    with pytest.raises(DataError, match="text 1: 1 choices are too few"):
        chooser.predict([{"question": "What?", "choices": ["this"]}])
    with pytest.raises(DataError, match="there is no column 'choices'"):
        chooser.predict([{"question": "What?"}])


def test_labels_are_learned_by_heart_and_saved(tagger: Any) -> None:
    texts = [text for text, _ in TAGS]
    answers = tagger.predict(texts)
    assert [list(answer.labels) for answer in answers] == [labels for _, labels in TAGS]
    assert exact(tagger).predict(texts) == answers
    assert gpt_tasks.load(tagger.path).task.threshold == tagger.task.threshold


def test_numbers_are_learned_by_heart_and_the_order_of_a_pair_does_not_matter(scorer: Any) -> None:
    asked = [{"text_a": a, "text_b": b} for a, b, _ in PAIRS]
    turned = [{"text_a": b, "text_b": a} for a, b, _ in PAIRS]
    answers = scorer.predict(asked)
    assert answers == pytest.approx([score for _, _, score in PAIRS], abs=0.5)
    assert scorer.predict(turned) == pytest.approx(answers, abs=1e-4)
    assert exact(scorer).predict(asked) == answers


def test_the_report_has_its_figures_next_to_the_baselines(tagger: Any, scorer: Any) -> None:
    report = tagger.report
    assert (report.answers, report.labels) == ("labels", ("food", "money", "travel", "work"))
    assert list(report.metrics) == ["micro_f1", "macro_f1", "samples_f1", "lrap"]
    assert set(report.baselines) == {"frequent_labels", "tfidf_logistic_regression"}
    assert report.per_label["food"].recall.n == 2
    assert report.confusion_matrix == ()
    report = scorer.report
    assert (report.answers, report.labels) == ("number", ())
    assert list(report.metrics) == ["pearson", "spearman", "rmse"]
    assert set(report.baselines) == {"mean", "tfidf_ridge_regression"}
    assert report.metrics["rmse"].value < report.baselines["mean"]["rmse"].value


def test_evaluating_anew_gives_the_same_report_and_files(
    tagger: Any, scorer: Any, chooser: Any, tmp_path: Path
) -> None:
    for run in (tagger, scorer, chooser):
        again = exact(run).evaluate(
            Path(run.record["config"]["data"]) / "test.jsonl", output=tmp_path / run.report.task
        )
        assert again.metrics == run.report.metrics
        for name, scores in again.baselines.items():
            for metric, score in scores.items():
                assert score.value == pytest.approx(run.report.baselines[name][metric].value, nan_ok=True, abs=1e-3)
        lines = (tmp_path / run.report.task / "predictions.jsonl").read_text().splitlines()
        assert len(lines) == 4
        assert {"where", "references", "predicted"} <= set(json.loads(lines[0]))


def test_evaluations_are_compared_example_by_example(tagger: Any, scorer: Any, chooser: Any, tmp_path: Path) -> None:
    from gpt_tasks.evaluation.compare import compare

    for run in (tagger, scorer, chooser):
        data = Path(run.record["config"]["data"]) / "test.jsonl"
        folders = [tmp_path / f"{run.report.task}-{number}" for number in range(2)]
        for folder in folders:
            exact(run).evaluate(data, output=folder)
        compared = compare(folders)
        differences = [contrast.difference for contrast in compared.contrasts]
        assert len(differences) == len(run.report.metrics)
        assert differences == pytest.approx([0.0] * len(differences), nan_ok=True)


@pytest.mark.parametrize("method", ["head", "lora"])
def test_other_methods_learn_too(
    settings: dict[str, Any], tagger: Any, scorer: Any, chooser: Any, tmp_path: Path, method: str
) -> None:
    own = {"backbone": settings["backbone"], "device": "cpu", "max_length": 64}
    own = {**settings, "epochs": 2} if method == "lora" else own
    asked: dict[str, Any] = {
        "multi-label": TAGS[0][0],
        "similarity": {"text_a": PAIRS[0][0], "text_b": PAIRS[0][1]},
        "multiple-choice": {"question": CHOICES[0][0], "choices": CHOICES[0][1]},
    }
    for run in (tagger, scorer, chooser):
        task, data = run.report.task, run.record["config"]["data"]
        other = gpt_tasks.finetune(task, data=data, output=tmp_path / task, method=method, **own)
        assert gpt_tasks.load(other.path).predict([asked[task]]) == other.predict([asked[task]])


def test_the_card_and_the_learning_curve_are_there(tagger: Any, scorer: Any, chooser: Any) -> None:
    said = {tagger: "with those that are right of 4 labels", scorer: "with a number", chooser: "one of the choices"}
    for run, words in said.items():
        card = (run.path / "README.md").read_text(encoding="utf-8")
        assert words in card
        assert "softmax" not in card
        assert (run.path / "learning_curve.png").is_file()


def test_long_texts_are_read_whole_and_a_note_says_so(settings: dict[str, Any], tmp_path: Path) -> None:
    # What distinguishes the texts is at their ends, beyond what one window holds.
    filler = "and so it went on, one day after another, " * 6
    rows = [{"text": f"{filler}{end}", "labels": labels} for end, labels in (("the end.", ["a"]), ("no 7 8 9", ["b"]))]
    data = written(tmp_path / "data", [{**row, "text": f"{n} {row['text']}"} for n, row in enumerate(rows * 2)])
    settings = {**settings, "epochs": 2}
    whole = gpt_tasks.finetune("multi-label", data=data, output=tmp_path / "whole", **settings)
    assert whole.report.training["windowed_examples"] == 4
    assert whole.report.training["truncated_examples"] == 0
    cut = gpt_tasks.finetune(
        "multi-label", data=data, output=tmp_path / "cut", **{**settings, "options": {"long_texts": "truncate"}}
    )
    assert "windowed_examples" not in cut.report.training
    assert cut.report.training["truncated_examples"] == 4


@pytest.mark.parametrize(
    ("task", "row", "told"),
    [
        ("similarity", {"text_a": "a b", "text_b": "c d", "score": "much"}, r"train.jsonl:5: the score .* is 'much'"),
        ("multi-label", {"text": "a b", "labels": 7.5}, r"train.jsonl:5: the labels .* are 7.5"),
    ],
)
def test_a_bad_row_is_one_clear_error(
    settings: dict[str, Any], tagger: Any, scorer: Any, tmp_path: Path, task: str, row: dict[str, Any], told: str
) -> None:
    run = {"similarity": scorer, "multi-label": tagger}[task]
    data = tmp_path / "data"
    data.mkdir()
    for split in SPLITS:
        text = (Path(run.record["config"]["data"]) / f"{split}.jsonl").read_text()
        (data / f"{split}.jsonl").write_text(text + (json.dumps(row) + "\n" if split == "train" else ""))
    with pytest.raises(DataError, match=told):
        gpt_tasks.finetune(task, data=str(data), output=tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()


def test_a_label_that_training_did_not_know_is_named_with_its_row(tagger: Any, tmp_path: Path) -> None:
    rows = [{"text": "Rain.", "labels": []}, {"text": "Soup.", "labels": ["food", "weather"]}]
    (tmp_path / "new.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match=r"new\.jsonl:2: label 'weather' is not one of food, money, travel, work"):
        tagger.evaluate(tmp_path / "new.jsonl")


@pytest.mark.parametrize(
    ("change", "error", "told"),
    [
        ({"options": {"labels": ["food", "work"]}}, DataError, r"label 'travel' is not one of food, work"),
        ({"class_weights": "balanced"}, UsageError, "--class-weights is for one of several labels"),
        ({"best_by": "accuracy"}, UsageError, "--best-by accuracy"),
        ({"options": {"threshold": 2}}, UsageError, "--threshold"),
    ],
)
def test_what_cannot_be_is_refused(
    settings: dict[str, Any], tagger: Any, tmp_path: Path, change: dict[str, Any], error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        gpt_tasks.finetune(
            "multi-label", data=tagger.record["config"]["data"], output=tmp_path / "run", **{**settings, **change}
        )
    assert not (tmp_path / "run").exists()
