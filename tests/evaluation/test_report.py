"""The report: right figures, right shape, nothing lost on its way through JSON."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import matplotlib.image
import numpy as np
import pytest
import yaml
from huggingface_hub import ModelCard
from pyarrow import parquet
from sklearn import metrics as sklearn_metrics

from gpt_tasks.errors import DataError, PluginError
from gpt_tasks.evaluation.card import model_card
from gpt_tasks.evaluation.evaluate import BEFORE, evaluate
from gpt_tasks.evaluation.report import MOST_MISTAKES, MOST_SAMPLES, MOST_SLICES, Report
from gpt_tasks.evaluation.tables import print_report
from gpt_tasks.extensions import Metric, Rows
from gpt_tasks.metrics import METRICS
from gpt_tasks.metrics.intervals import wilson
from gpt_tasks.tasks.base import Task
from gpt_tasks.tasks.classification import ClassificationTask
from gpt_tasks.tasks.multi_label import MultiLabelTask
from gpt_tasks.tasks.regression import RegressionTask
from gpt_tasks.types import Example, MultiLabelPrediction

LABELS = ("negative", "neutral [n]", "positive")
N = 120
FILES = ["confusion_matrix.png", "metrics.json", "parts.parquet", "predictions.jsonl"]


class Sentiment(ClassificationTask):
    """Return whether a review is a good one."""

    name = "sentiment"
    labels = LABELS


class Stars(RegressionTask):
    """Tell how many stars a review gives."""

    name = "stars"


class Topics(MultiLabelTask):
    """Tell all that a text is about."""

    name = "topics"
    labels = ("food", "staff", "price")


class Given:
    """A predictor whose predictions are given, by the examples' `where`; so are those of its baselines."""

    def __init__(
        self,
        task: Task,
        predictions: Mapping[str, Any],
        baselines: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        chunk: int = 50,
        notes: Sequence[str] = (),
    ) -> None:
        self.task = task
        self.chunk = chunk
        self.seen: list[int] = []
        self._predictions = predictions
        self._baselines = baselines or {}
        self._notes = notes

    def predict(self, examples: Sequence[Example], *, scored: bool = False) -> list[Any]:
        assert scored
        self.seen.append(len(examples))
        return [self._predictions[example.where] for example in examples]

    def baselines(self, examples: Sequence[Example]) -> Mapping[str, list[Any]]:
        return {name: [given[example.where] for example in examples] for name, given in self._baselines.items()}

    def notes(self) -> Sequence[str]:
        return self._notes


def given(n: int = N) -> SimpleNamespace:
    """Examples, their right labels, and a model's probabilities next to those of two baselines."""
    random = np.random.default_rng(0)
    references = random.integers(0, 3, n)
    probabilities = random.dirichlet(np.ones(3), n)
    probabilities[np.arange(n), references] += 0.5
    probabilities /= probabilities.sum(1, keepdims=True)
    examples = [
        Example(
            {"text": f"a | text\nnumber {row}"},
            LABELS[references[row]],
            f"reviews.csv:{row + 2}",
            {"city": ("Rome", "Paris", "Paris")[row % 3]},
        )
        for row in range(n)
    ]
    return SimpleNamespace(
        references=references,
        probabilities=probabilities,
        examples=examples,
        baselines={
            "majority": np.tile([0.5, 0.3, 0.2], (n, 1)),
            "tfidf_logistic_regression": random.dirichlet(np.ones(3), n),
        },
    )


def predicting(
    examples: Sequence[Example],
    probabilities: np.ndarray,
    baselines: Mapping[str, np.ndarray] | None = None,
    *,
    labels: tuple[str, ...] = LABELS,
    **settings: Any,
) -> Given:
    """A predictor of one of several labels, with these probabilities `[n, labels]`."""
    task = Sentiment()
    task.labels = labels

    def by_place(of: np.ndarray) -> dict[str, Any]:
        return dict(zip((example.where for example in examples), task.predictions(of), strict=True))

    theirs = {name: by_place(of) for name, of in (baselines or {}).items()}
    return Given(task, by_place(probabilities), theirs, **settings)


def evaluated(data: SimpleNamespace | None = None, **settings: Any) -> Report:
    data = data or given()
    return evaluate(
        predicting(data.examples, data.probabilities, data.baselines),
        data.examples,
        **{
            "split": "test",
            "metrics": METRICS,
            "by": "city",
            "training": {"seconds": 3.5, "examples_per_second": 34.2, "peak_memory_mb": 512.0, "loss": math.inf},
            "notes": ["4 duplicates left out."],
            **settings,
        },
    )


@pytest.fixture(scope="module")
def report() -> Report:
    return evaluated()


def test_figures_are_those_of_the_predictions(report: Report) -> None:
    data = given()
    references, predictions = data.references, data.probabilities.argmax(1)
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
    assert set(saved["metrics"]["accuracy"]) == {"value", "low", "high", "n", "stderr"}
    assert list(saved["baselines"]) == ["majority", "tfidf_logistic_regression"]
    assert set(saved["baselines"]["majority"]) == set(saved["metrics"])
    assert saved["training"] == {
        "seconds": 3.5,
        "examples_per_second": 34.2,
        "peak_memory_mb": 512.0,
        "loss": None,
    }
    assert saved["answers"] == "label"
    assert saved["directions"] == {
        **dict.fromkeys(("accuracy", "macro_f1", "micro_f1", "mcc"), "higher"),
        "ece": "lower",
    }


def test_a_report_survives_json(report: Report) -> None:
    text = json.dumps(report.to_json(), allow_nan=False)
    again = Report.from_json(json.loads(text))
    assert json.dumps(again.to_json(), allow_nan=False) == text
    # By their texts, for a standard error can be NaN, which equals nothing.
    for part in ("metrics", "baselines", "per_label", "slices", "mistakes", "directions"):
        assert repr(getattr(again, part)) == repr(getattr(report, part))


def test_a_report_of_an_older_version_is_read(report: Report) -> None:
    saved = report.to_json()
    del saved["directions"]
    for figure in saved["metrics"].values():
        del figure["stderr"]
    again = Report.from_json(saved)
    assert again.directions == {}
    assert again.metrics["accuracy"].value == report.metrics["accuracy"].value
    assert math.isnan(again.metrics["accuracy"].stderr)


def test_a_figure_that_is_no_number_is_null_in_json_and_nan_again_afterwards() -> None:
    nothing = Metric("nothing", whole=lambda rows: float("nan"))
    made = evaluated(metrics=[nothing])
    saved = json.loads(json.dumps(made.to_json(), allow_nan=False))
    assert saved["metrics"]["nothing"] == {"value": None, "low": None, "high": None, "n": N, "stderr": None}
    assert math.isnan(Report.from_json(saved).metrics["nothing"].value)
    print_report(made, io.StringIO())


def test_json_of_another_schema_is_refused(report: Report) -> None:
    with pytest.raises(ValueError, match="schema version 2"):
        Report.from_json(report.to_json() | {"schema_version": 2})
    with pytest.raises(ValueError, match=r"^'task': field required$"):
        Report.from_json({"schema_version": 1})


def test_slices_are_evaluated_by_themselves_the_largest_first(report: Report) -> None:
    data = given()
    rows = np.arange(N) % 3 == 0
    assert report.slices is not None
    assert report.slices.by == "city"
    assert list(report.slices.metrics) == ["Paris", "Rome"]
    rome = report.slices.metrics["Rome"]
    assert rome["accuracy"].n == N / 3
    right = data.probabilities.argmax(1) == data.references
    assert rome["accuracy"].value == pytest.approx(right[rows].mean())
    references, predictions = data.references[rows], data.probabilities.argmax(1)[rows]
    assert rome["mcc"].value == pytest.approx(sklearn_metrics.matthews_corrcoef(references, predictions))


def test_a_slice_is_a_separate_report(report: Report) -> None:
    data = given()
    rome = [row for row in range(N) if row % 3 == 0]
    alone = evaluate(
        predicting([data.examples[row] for row in rome], data.probabilities[rome]),
        [data.examples[row] for row in rome],
        split="test",
        metrics=METRICS,
    )
    assert report.slices is not None
    for name, figure in alone.metrics.items():
        theirs = report.slices.metrics["Rome"][name]
        found, right = ((it.value, it.low, it.high, it.stderr) for it in (theirs, figure))
        assert found == pytest.approx(right, nan_ok=True)


def test_a_column_of_many_values_is_cut_with_a_note() -> None:
    data = given()
    data.examples = [
        Example(example.inputs, example.target, example.where, {"city": str(row)})
        for row, example in enumerate(data.examples)
    ]
    made = evaluated(data, metrics=METRICS[:1])
    assert made.slices is not None
    assert len(made.slices.metrics) == MOST_SLICES
    assert f"Column 'city' has {N} values; the {MOST_SLICES} most frequent are shown." in made.notes


def test_without_a_column_there_are_no_slices() -> None:
    assert evaluated(by=None, metrics=METRICS[:1]).slices is None


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_the_most_confident_mistakes_come_first(chunk: int) -> None:
    data = given()
    data.probabilities = np.random.default_rng(1).dirichlet(np.ones(3), N)
    made = evaluate(
        predicting(data.examples, data.probabilities, chunk=chunk), data.examples, split="test", metrics=METRICS[:1]
    )
    wrong = np.flatnonzero(data.probabilities.argmax(1) != data.references)
    worst = wrong[np.argsort(-data.probabilities[wrong].max(1), kind="stable")][:MOST_MISTAKES]
    assert len(made.mistakes) == MOST_MISTAKES
    for row, mistake in zip(worst.tolist(), made.mistakes, strict=True):
        assert mistake.where == f"reviews.csv:{row + 2}"
        assert mistake.label == data.examples[row].target == LABELS[data.references[row]]
        assert mistake.predicted == LABELS[data.probabilities[row].argmax()]
        assert mistake.probability == pytest.approx(data.probabilities[row].max())
        assert mistake.inputs == data.examples[row].inputs
    assert made.samples == ()


def test_of_equally_confident_mistakes_the_earlier_ones_are_shown() -> None:
    data = given()
    probabilities = np.eye(3)[(data.references + 1) % 3]
    made = evaluate(predicting(data.examples, probabilities), data.examples, split="test", metrics=METRICS[:1])
    assert [mistake.where for mistake in made.mistakes] == [f"reviews.csv:{row + 2}" for row in range(MOST_MISTAKES)]


def test_examples_are_read_and_answered_a_chunk_at_a_time() -> None:
    data = given()
    predictor = predicting(data.examples, data.probabilities, chunk=50)
    read: list[int] = []

    def reading() -> Iterator[Example]:
        for row, example in enumerate(data.examples):
            assert row - sum(predictor.seen) < 50, "no more than a chunk waits to be answered"
            read.append(row)
            yield example

    evaluate(predictor, reading(), split="test", metrics=METRICS)
    assert read == list(range(N))
    assert predictor.seen == [50, 50, 20]


def test_chunks_of_any_size_come_to_the_same_report(report: Report) -> None:
    data = given()
    for chunk in (1, 1000):
        made = evaluate(
            predicting(data.examples, data.probabilities, data.baselines, chunk=chunk),
            data.examples,
            split="test",
            metrics=METRICS,
            by="city",
            training=report.training,
            notes=report.notes,
        )
        assert json.dumps(made.to_json()) == json.dumps(report.to_json())


def test_labels_have_the_models_order_for_any_data() -> None:
    examples = [Example({"text": "a"}, "z", "x:1")]
    predictor = predicting(examples, np.array([[0.2, 0.1, 0.7]]), labels=("z", "a", "m"))
    made = evaluate(predictor, examples, split="test", metrics=METRICS)
    assert list(made.per_label) == ["z", "a", "m"]
    assert made.confusion_matrix == ((0, 0, 1), (0, 0, 0), (0, 0, 0))
    assert (made.mistakes[0].label, made.mistakes[0].predicted) == ("z", "m")


def test_an_empty_split_and_a_broken_metric_are_errors() -> None:
    with pytest.raises(DataError, match="test split is empty"):
        evaluate(predicting([], np.zeros((0, 3))), [], split="test", metrics=METRICS)

    def broken(*_: object) -> float:
        return 1 / 0

    with pytest.raises(PluginError, match=r"metric 'broken' of .*test_report failed: ZeroDivisionError"):
        evaluated(metrics=[Metric("broken", whole=broken)])
    with pytest.raises(PluginError, match=r"metric 'broken' failed on '[a-z]+.*': ZeroDivisionError"):
        evaluated(metrics=[Metric("broken", statistic=broken)])


def test_a_metric_of_anyone_is_next_to_the_tasks_own() -> None:
    def length_of_answers(rows: Rows) -> float:
        assert rows.labels == LABELS
        assert rows.probabilities is not None
        assert rows.probabilities.shape == (len(rows), 3)
        return float(np.mean([len(label) for label in rows.predictions]))

    data = given()
    made = evaluated(
        data,
        metrics=[
            METRICS[0],
            Metric("length", whole=length_of_answers),
            Metric("is_first", statistic=lambda answer, references: float(answer == LABELS[0])),
        ],
    )
    predictions = data.probabilities.argmax(1)
    assert list(made.metrics) == list(made.baselines["majority"]) == ["accuracy", "length", "is_first"]
    assert made.metrics["length"].value == pytest.approx(np.mean([len(LABELS[each]) for each in predictions]))
    assert made.metrics["length"].low < made.metrics["length"].value < made.metrics["length"].high
    assert made.metrics["is_first"].value == pytest.approx(np.mean(predictions == 0))
    assert made.baselines["majority"]["is_first"].value == 1


def test_a_model_that_is_worse_than_before_is_reported() -> None:
    data = given()
    better, worse = np.eye(3)[data.references], np.eye(3)[(data.references + 1) % 3]
    told = "The model is worse than the backbone was before: lower --learning-rate, or take fewer --epochs."
    lower = [Metric("error", better="lower", statistic=lambda answer, references: float(answer not in references))]
    for metrics in (METRICS[:1], lower):
        for now, before in ((worse, better), (better, worse), (better, better)):
            predictor = predicting(data.examples, now, {BEFORE: before})
            made = evaluate(predictor, data.examples, split="test", metrics=metrics)
            assert (told in made.notes) == (now is worse)


def test_notes_say_how_figures_were_computed_grouped_by_method() -> None:
    def signed(name: str) -> Metric:
        return Metric(name, statistic=lambda *_: 1.0, signature=lambda references: f"refs:{references}")

    data = given()
    metrics = [signed("one"), METRICS[0], signed("other")]
    predictor = predicting(data.examples, data.probabilities, notes=["Drawn at random."])
    made = evaluate(predictor, data.examples, split="test", metrics=metrics, notes=["First."])
    assert made.notes == ("First.", "Drawn at random.", "one, other: refs:1")
    varied = [
        Example(example.inputs, example.target, example.where, references=(str(example.target), "x")[: 1 + row % 2])
        for row, example in enumerate(data.examples)
    ]
    made = evaluate(predicting(varied, data.probabilities), varied, split="test", metrics=metrics)
    assert made.notes == ("one, other: refs:-1",)


def test_figures_of_nothing_are_dashes_and_null_and_the_label_is_named() -> None:
    examples = [Example({"text": str(row)}, "za"[row % 2], f"x:{row}") for row in range(40)]
    predictor = predicting(examples, np.tile([0.9, 0.05, 0.05], (40, 1)), labels=("z", "a", "m"))
    made = evaluate(predictor, examples, split="test", metrics=METRICS)
    saved = json.loads(json.dumps(made.to_json(), allow_nan=False))["per_label"]
    nothing = {"value": None, "low": None, "high": None, "n": 0, "stderr": None}
    assert [saved["m"][name] for name in ("precision", "recall", "f1")] == [nothing] * 3
    assert saved["a"]["precision"] == nothing
    assert saved["a"]["recall"]["value"] == 0
    assert "No row of test has the label m: nothing is said of it." in made.notes
    shown = io.StringIO()
    print_report(Report.from_json(made.to_json()), shown)
    assert re.search(r"^m +- +- +- +0$", shown.getvalue(), re.MULTILINE)
    assert "| m | - | - | - | 0 |" in card(made)


def test_few_examples_are_told_with_what_to_do() -> None:
    told = "2 examples: too few to judge a model by, as the intervals show. Give more rows, or a larger test file."
    data = given(2)
    assert told in evaluated(data, by=None).notes
    assert not any("too few" in note for note in evaluated().notes)


def test_samples_that_differ_far_behind_are_shown_from_there_on() -> None:
    class Words(Task):
        """Write words."""

        name = "words"
        columns: ClassVar[Mapping[str, str]] = {"text": "text"}
        metrics = ("exact",)
        own_metrics = (Metric("exact", statistic=lambda answer, references: float(answer in references)),)

    long = "word " * 100
    examples = [Example({"text": "a"}, f"{long}right", "x:1")]
    made = evaluate(Given(Words(), {"x:1": f"{long}wrong"}), examples, split="test", metrics=Words.own_metrics)
    shown = io.StringIO()
    print_report(made, shown)
    for text in (shown.getvalue(), card(made)):
        assert "word wrong" in text
        assert "word right" in text


# Answers without one label each.


def test_numbers_are_shown_by_samples_and_cut_into_slices() -> None:
    random = np.random.default_rng(0)
    right = random.normal(3, 1, 60).round(1)
    examples = [
        Example({"text": f"number {row}"}, repr(number), f"r:{row}", {"city": "ab"[row % 2]})
        for row, number in enumerate(right.tolist())
    ]
    found = dict(zip((each.where for each in examples), (right + random.normal(0, 0.5, 60)).tolist(), strict=True))
    task = Stars()
    predictor = Given(task, found, {"mean": dict.fromkeys(found, 3.0)})
    metrics = list(task.own_metrics)
    made = evaluate(predictor, examples, split="test", metrics=metrics, by="city")
    errors = np.array(list(found.values())) - right
    assert made.answers == "number"
    assert made.metrics["rmse"].value == pytest.approx(np.sqrt((errors**2).mean()))
    assert made.metrics["pearson"].value == pytest.approx(np.corrcoef(right, list(found.values()))[0, 1])
    assert made.baselines["mean"]["rmse"].value == pytest.approx(np.sqrt(((right - 3) ** 2).mean()))
    assert made.slices is not None
    assert made.slices.metrics["b"]["rmse"].value == pytest.approx(np.sqrt((errors[1::2] ** 2).mean()))
    assert (made.labels, made.per_label, made.confusion_matrix, made.mistakes) == ((), {}, (), ())
    assert len(made.samples) == MOST_SAMPLES
    assert made.samples[3].where == "r:3"
    assert made.samples[3].inputs == {"text": "number 3"}
    assert made.samples[3].references == (repr(right[3].item()),)
    assert made.samples[3].predicted == f"{found['r:3']:.3g}"
    assert Report.from_json(json.loads(json.dumps(made.to_json()))).samples == made.samples
    out = io.StringIO()
    print_report(made, out)
    assert "answer: " in out.getvalue()


def test_labels_of_which_several_can_be_right_are_evaluated_separately(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    task = Topics()
    right, given_labels = random.random((80, 3)) < 0.4, random.random((80, 3)) < 0.5
    given_labels[:40] = right[:40]

    def names(row: np.ndarray) -> tuple[str, ...]:
        return tuple(label for label, there in zip(task.labels, row, strict=True) if there)

    examples = [
        Example({"text": f"number {row}"}, json.dumps(sorted(names(there))), f"r:{row}")
        for row, there in enumerate(right)
    ]
    found = {
        f"r:{row}": MultiLabelPrediction(names(there), dict(zip(task.labels, there.astype(float), strict=True)))
        for row, there in enumerate(given_labels)
    }
    made = evaluate(Given(task, found), examples, split="test", metrics=list(task.own_metrics), output=tmp_path / "out")
    assert made.answers == "labels"
    scores = sklearn_metrics.precision_recall_fscore_support(right, given_labels, zero_division=0)
    for place, label in enumerate(task.labels):
        told = made.per_label[label]
        figures = (told.precision.value, told.recall.value, told.f1.value, told.recall.n)
        assert figures == pytest.approx([each[place] for each in scores])
        assert told.precision.n == given_labels[:, place].sum()
    assert made.metrics["micro_f1"].value == pytest.approx(
        sklearn_metrics.f1_score(right, given_labels, average="micro")
    )
    assert made.metrics["macro_f1"].value == pytest.approx(
        sklearn_metrics.f1_score(right, given_labels, average="macro")
    )
    assert made.confusion_matrix == ()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == FILES[1:]


# What is written.


def test_the_folder_holds_the_report_the_predictions_and_where_the_figures_come_from(tmp_path: Path) -> None:
    data = given()
    made = evaluated(data, output=tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == FILES
    saved = json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))
    assert saved == json.loads(json.dumps(made.to_json(), allow_nan=False))
    rows = parquet.read_table(tmp_path / "out" / "parts.parquet").to_pylist()
    assert [row["where"] for row in rows] == [example.where for example in data.examples]
    right = data.probabilities.argmax(1) == data.references
    for row, is_right in zip(rows, right.tolist(), strict=True):
        assert row["parts"] == [
            {"metric": name, "form": "mean", "values": [float(is_right)], "weight": 1.0}
            for name in ("accuracy", "micro_f1")
        ]
    height, width, _ = matplotlib.image.imread(tmp_path / "out" / "confusion_matrix.png").shape
    assert min(height, width) > 300


def test_predictions_are_written_one_a_line_as_they_come(tmp_path: Path) -> None:
    data = given(3)
    examples = [*data.examples[:2], Example({"text_a": "ä", "text_b": "b"}, LABELS[1], "x:9")]
    predictor = predicting(examples, data.probabilities)
    evaluate(predictor, examples, split="test", metrics=METRICS, output=tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]
    assert list(lines[0]) == ["where", "text", "label", "predicted", "probabilities"]
    assert lines[0]["predicted"] == LABELS[data.probabilities[0].argmax()]
    ranked = sorted(zip(LABELS, data.probabilities[0], strict=True), key=lambda each: -each[1])
    assert list(lines[0]["probabilities"]) == [label for label, _ in ranked]
    assert lines[0]["probabilities"] == {
        label: round(p, 6) for label, p in zip(LABELS, data.probabilities[0].tolist(), strict=True)
    }
    assert lines[0]["text"] == "a | text\nnumber 0"
    assert (lines[2]["where"], lines[2]["text_a"], lines[2]["text_b"]) == ("x:9", "ä", "b")
    assert "ä" in (tmp_path / "predictions.jsonl").read_text(encoding="utf-8")


def test_the_label_of_an_example_without_one_is_null() -> None:
    task = Sentiment()
    (prediction,) = task.predictions(np.array([[0.2, 0.1, 0.7]]))
    line = task.line(Example({"text": "b"}, None, "x:9"), prediction)
    assert (line["label"], line["predicted"]) == (None, "positive")


def test_a_probability_that_is_no_number_is_null_in_a_line(tmp_path: Path) -> None:
    data = given(3)
    data.probabilities[1] = math.nan
    evaluate(
        predicting(data.examples, data.probabilities), data.examples, split="test", metrics=METRICS, output=tmp_path
    )
    lines = [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]
    assert lines[1]["probabilities"] == dict.fromkeys(LABELS)
    assert json.loads((tmp_path / "metrics.json").read_text())["metrics"]["ece"]["value"] is None


def test_a_failed_evaluation_leaves_no_file(tmp_path: Path) -> None:
    data = given()
    # The model fails in the second chunk, when lines of the first are written.
    predictor = predicting(data.examples[:70], data.probabilities[:70])
    with pytest.raises(KeyError):
        evaluate(predictor, data.examples, split="test", metrics=METRICS, output=tmp_path)
    assert predictor.seen == [50, 50]
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_leaves_no_file(tmp_path: Path, files_up_to: Callable[[int], Any]) -> None:
    with files_up_to(10_000), pytest.raises(OSError, match="File too large"):
        evaluated(output=tmp_path)
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
            "task": Sentiment(),
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
