"""The report: right figures, right shape, nothing lost on its way through JSON."""

from __future__ import annotations

import io
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from huggingface_hub import ModelCard
from sklearn import metrics as sklearn_metrics

from gpt_tasks.errors import DataError, PluginError
from gpt_tasks.evaluation.card import model_card
from gpt_tasks.evaluation.report import MOST_MISTAKES, MOST_SLICES, Report, build_report, write_predictions
from gpt_tasks.evaluation.tables import print_report
from gpt_tasks.extensions import Metric
from gpt_tasks.metrics import METRICS
from gpt_tasks.metrics.intervals import wilson
from gpt_tasks.types import Example

LABELS = ("negative", "neutral [n]", "positive")
N = 120


def parts(n: int = N) -> dict[str, Any]:
    random = np.random.default_rng(0)
    references = random.integers(0, 3, n)
    probabilities = random.dirichlet(np.ones(3), n)
    probabilities[np.arange(n), references] += 0.5
    probabilities /= probabilities.sum(1, keepdims=True)
    examples = [
        Example({"text": f"a | text\nnumber {row}"}, LABELS[references[row]], f"reviews.csv:{row + 2}")
        for row in range(n)
    ]
    return {
        "task": "sentiment",
        "split": "test",
        "labels": LABELS,
        "metrics": METRICS,
        "references": references,
        "probabilities": probabilities,
        "examples": examples,
        "baselines": {
            "majority": np.tile([0.5, 0.3, 0.2], (n, 1)),
            "tfidf_logistic_regression": random.dirichlet(np.ones(3), n),
        },
        "by": "city",
        "values": [("Rome", "Paris", "Paris")[row % 3] for row in range(n)],
        "training": {"seconds": 3.5, "examples_per_second": 34.2, "peak_memory_mb": 512.0, "loss": math.inf},
        "notes": ["4 duplicates left out."],
    }


@pytest.fixture(scope="module")
def report() -> Report:
    return build_report(**parts())


def test_figures_are_those_of_the_predictions(report: Report) -> None:
    given = parts()
    references, predictions = given["references"], given["probabilities"].argmax(1)
    assert report.n == N
    assert report.metrics["accuracy"].value == pytest.approx(sklearn_metrics.accuracy_score(references, predictions))
    assert report.metrics["accuracy"].low == wilson(int((references == predictions).sum()), N)[0]
    majority = report.baselines["majority"]
    assert majority["accuracy"].value == pytest.approx(np.mean(references == 0))
    assert (majority["mcc"].value, majority["mcc"].n) == (0, N)
    assert report.confusion_matrix == tuple(
        map(tuple, sklearn_metrics.confusion_matrix(references, predictions).tolist())
    )
    recall = report.per_label["positive"].recall
    assert recall.value == pytest.approx(np.mean(predictions[references == 2] == 2))
    assert recall.n == np.sum(references == 2)
    assert report.per_label["positive"].precision.n == np.sum(predictions == 2)


def test_json_has_the_promised_shape(report: Report) -> None:
    saved = report.to_json()
    assert saved["schema_version"] == 1
    assert {name: saved[name] for name in ("task", "split", "n")} == {"task": "sentiment", "split": "test", "n": N}
    assert list(saved["metrics"]) == ["accuracy", "macro_f1", "micro_f1", "mcc", "ece"]
    assert set(saved["metrics"]["accuracy"]) == {"value", "low", "high", "n"}
    assert list(saved["baselines"]) == ["majority", "tfidf_logistic_regression"]
    assert set(saved["baselines"]["majority"]) == set(saved["metrics"])
    assert saved["training"] == {
        "seconds": 3.5,
        "examples_per_second": 34.2,
        "peak_memory_mb": 512.0,
        "loss": None,
    }


def test_a_report_survives_json(report: Report) -> None:
    text = json.dumps(report.to_json(), allow_nan=False)
    again = Report.from_json(json.loads(text))
    assert json.dumps(again.to_json(), allow_nan=False) == text
    assert again.metrics == report.metrics
    assert again.per_label == report.per_label
    assert again.slices == report.slices
    assert again.mistakes == report.mistakes


def test_a_figure_that_is_no_number_is_null_in_json_and_nan_again_afterwards() -> None:
    nothing = Metric("nothing", "", lambda *_: float("nan"))
    made = build_report(**parts() | {"metrics": [nothing]})
    saved = json.loads(json.dumps(made.to_json(), allow_nan=False))
    assert saved["metrics"]["nothing"] == {"value": None, "low": None, "high": None, "n": N}
    assert math.isnan(Report.from_json(saved).metrics["nothing"].value)
    print_report(made, io.StringIO())


def test_json_of_another_schema_is_refused(report: Report) -> None:
    with pytest.raises(ValueError, match="schema version 2"):
        Report.from_json(report.to_json() | {"schema_version": 2})
    with pytest.raises(KeyError):
        Report.from_json({"schema_version": 1})


def test_slices_are_evaluated_by_themselves_the_largest_first(report: Report) -> None:
    given = parts()
    rows = np.arange(N) % 3 == 0
    assert report.slices is not None
    assert report.slices.by == "city"
    assert list(report.slices.metrics) == ["Paris", "Rome"]
    rome = report.slices.metrics["Rome"]
    assert rome["accuracy"].n == N / 3
    right = given["probabilities"].argmax(1) == given["references"]
    assert rome["accuracy"].value == pytest.approx(right[rows].mean())


def test_a_column_of_many_values_is_cut_with_a_note() -> None:
    made = build_report(**parts() | {"values": [str(row) for row in range(N)], "metrics": METRICS[:1]})
    assert made.slices is not None
    assert len(made.slices.metrics) == MOST_SLICES
    assert f"Column 'city' has {N} values; the {MOST_SLICES} most frequent are shown." in made.notes


def test_the_most_confident_mistakes_come_first_and_no_other_example_is_read() -> None:
    given = parts()
    given["probabilities"] = np.random.default_rng(1).dirichlet(np.ones(3), N)
    examples, read = given["examples"], []

    class Reader:
        def __getitem__(self, index: int) -> Example:
            read.append(index)
            return examples[index]

    made = build_report(**given | {"examples": Reader()})
    wrong = given["probabilities"].argmax(1) != given["references"]
    assert len(read) == MOST_MISTAKES == len(made.mistakes)
    assert made.mistakes[0].probability == pytest.approx(given["probabilities"][wrong].max())
    assert [mistake.probability for mistake in made.mistakes] == sorted(
        (mistake.probability for mistake in made.mistakes), reverse=True
    )
    first = made.mistakes[0]
    assert first.label != first.predicted
    assert first.where == f"reviews.csv:{read[0] + 2}"
    assert first.label == examples[read[0]].target


def test_labels_keep_the_models_order_whatever_the_data_holds() -> None:
    examples = [Example({"text": "a"}, "z", "x:1")]
    made = build_report(
        task="t",
        split="test",
        labels=("z", "a", "m"),
        metrics=METRICS,
        references=np.array([0]),
        probabilities=np.array([[0.2, 0.1, 0.7]]),
        examples=examples,
    )
    assert list(made.per_label) == ["z", "a", "m"]
    assert made.confusion_matrix == ((0, 0, 1), (0, 0, 0), (0, 0, 0))
    assert (made.mistakes[0].label, made.mistakes[0].predicted) == ("z", "m")


def test_an_empty_split_and_a_broken_metric_are_errors() -> None:
    empty = {"references": np.array([], int), "probabilities": np.zeros((0, 3))}
    with pytest.raises(DataError, match="test split is empty"):
        build_report(**parts() | empty)

    def broken(*_: object) -> float:
        return 1 / 0

    with pytest.raises(PluginError, match=r"metric 'broken' of .*test_report failed: ZeroDivisionError"):
        build_report(**parts() | {"metrics": [Metric("broken", "", broken)]})


def test_predictions_are_written_one_a_line_as_they_come(tmp_path: Path) -> None:
    given = parts(3)
    path = tmp_path / "predictions.jsonl"
    unlabelled = Example({"text_a": "ä", "text_b": "b"}, None, "x:9")
    write_predictions(path, iter([*given["examples"][:2], unlabelled]), LABELS, given["probabilities"])
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert list(lines[0]) == ["where", "text", "label", "predicted", "probabilities"]
    assert lines[0]["predicted"] == LABELS[given["probabilities"][0].argmax()]
    assert list(lines[0]["probabilities"]) == list(LABELS)
    assert lines[0]["text"] == "a | text\nnumber 0"
    assert (lines[2]["text_b"], lines[2]["label"]) == ("b", None)


def test_a_failed_write_leaves_no_file(tmp_path: Path) -> None:
    given = parts(3)
    with pytest.raises(ValueError, match="longer"):
        write_predictions(tmp_path / "p.jsonl", given["examples"][:2], LABELS, given["probabilities"])
    assert list(tmp_path.iterdir()) == []


def test_the_terminal_tables_read_well_in_a_pipe(report: Report) -> None:
    out = io.StringIO()
    print_report(report, out)
    text = out.getvalue()
    lines = text.splitlines()
    assert "\x1b" not in text
    assert all(len(line) <= 100 for line in lines)
    assert lines[0] == "sentiment: test, 120 examples"
    assert re.split(r" {2,}", lines[1].strip()) == [
        "metric",
        "value",
        "95 % interval",
        "majority class",
        "TF-IDF + log. regr.",
    ]
    accuracy = report.metrics["accuracy"]
    assert lines[2].startswith(f"accuracy  {accuracy.value:.3f}  [{accuracy.low:.3f}, {accuracy.high:.3f}]")
    assert any(line.startswith("neutral [n]") for line in lines)
    assert any(line.startswith("Rome") for line in lines)
    assert "4 duplicates left out." in lines


def card(report: Report, **changes: Any) -> str:
    return model_card(
        report,
        **{
            "run": "runs/my reviews",
            "backbone": "openai-community/gpt2@main",
            "method": "full",
            "rows": {"train": 300, "validation": 40, "test": N},
            "settings": {"learning_rate": 3e-4, "epochs": 3, "column": {"text": "review"}, "resume": False},
            "plots": ["confusion_matrix.png"],
            **changes,
        },
    )


def test_the_card_says_what_the_report_says(report: Report) -> None:
    text = card(report)
    accuracy = report.metrics["accuracy"]
    assert f"| `accuracy` | {accuracy.value:.3f} [{accuracy.low:.3f}, {accuracy.high:.3f}] |" in text
    assert "gpt-tasks predict 'runs/my reviews' \"...\"" in text
    assert 'gpt_tasks.load("runs/my reviews")' in text
    assert "a \\| text number" in text
    assert "![confusion matrix](confusion_matrix.png)" in text
    assert "| `learning_rate` | 0.0003 |" in text
    assert "- 4 duplicates left out." in text


def test_every_table_of_the_card_has_as_many_cells_as_columns(report: Report) -> None:
    for block in re.findall(r"(?:^\|.*\n?)+", card(report), flags=re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.strip().splitlines()}
        assert len(widths) == 1


def test_the_front_matter_is_what_hubs_read(report: Report) -> None:
    read = ModelCard(card(report)).data
    assert read.base_model == "openai-community/gpt2"
    assert read.pipeline_tag == "text-classification"
    results = {result.metric_name: result.metric_value for result in read.eval_results}
    assert results["accuracy"] == pytest.approx(report.metrics["accuracy"].value, abs=1e-4)
    assert "ece" not in results


def test_a_backbone_without_an_address_is_no_base_model(report: Report) -> None:
    text = card(report, backbone="tiny")
    assert "base_model" not in yaml.safe_load(text.split("---")[1])


def test_the_card_of_pairs_shows_how_to_ask_for_pairs(report: Report) -> None:
    text = card(report, fields=("text_a", "text_b"))
    assert 'run.predict([{"text_a": "...", "text_b": "..."}])' in text
    assert "--input FILE" in text
