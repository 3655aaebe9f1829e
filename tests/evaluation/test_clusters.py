"""Examples that belong together are counted together, in reports, scores and comparisons; what repeats is reported."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pyarrow import parquet

from gpt_tasks.data.sources import open_source
from gpt_tasks.data.stream import stream_examples
from gpt_tasks.errors import DataError
from gpt_tasks.evaluation.compare import compare
from gpt_tasks.evaluation.evaluate import evaluate
from gpt_tasks.evaluation.report import Report
from gpt_tasks.extensions import Metric
from gpt_tasks.metrics import METRICS
from gpt_tasks.plugins import installed_plugins
from gpt_tasks.scoring.prompting import read_examples
from gpt_tasks.scoring.results import ScoredExample, Scores, task_scores, write_scores
from gpt_tasks.scoring.suites import load_suite
from gpt_tasks.tasks.base import Task
from gpt_tasks.tasks.classification import ClassificationTask
from gpt_tasks.types import Example, Prediction, Statistic

AUTHORS, EACH = 40, 5
N = AUTHORS * EACH


class Taste(ClassificationTask):
    """Tell how something tastes."""

    name = "taste"
    labels = ("bad", "good")


class Given:
    """A predictor whose predictions are given, in the order of the examples."""

    chunk = 7

    def __init__(self, task: Task, predictions: Sequence[Any]) -> None:
        self.task = task
        self.given = iter(predictions)

    def predict(self, examples: Sequence[Example], *, scored: bool = False) -> list[Any]:
        return [next(self.given) for _ in examples]

    def baselines(self, examples: Sequence[Example]) -> Mapping[str, Sequence[Any]]:
        return {}

    def notes(self) -> Sequence[str]:
        return ()


def by_author(seed: int = 0) -> tuple[list[Example], np.ndarray, np.ndarray]:
    """Examples, whose they are, and whether the answer is right: mostly the same for all of one author."""
    random = np.random.default_rng(seed)
    authors = np.repeat(np.arange(AUTHORS), EACH)
    right = np.where(random.random(N) < 0.8, (random.random(AUTHORS) < 0.7)[authors], random.random(N) < 0.7)
    examples = [
        Example({"text": f"No. {place} is what it is."}, Taste.labels[place % 2], f"a:{place}", {"author": str(author)})
        for place, author in enumerate(authors.tolist())
    ]
    return examples, authors, right


def answers(examples: Sequence[Example], right: np.ndarray) -> list[Prediction]:
    given = [
        each.target if is_right else {"bad": "good", "good": "bad"}[str(each.target)]
        for each, is_right in zip(examples, right.tolist(), strict=True)
    ]
    return [Prediction(str(label), {name: 0.9 if name == label else 0.1 for name in Taste.labels}) for label in given]


def report(folder: Path | None, cluster: str | None, seed: int = 0, metrics: Sequence[Metric] = METRICS) -> Report:
    examples, _, right = by_author(seed)
    predictor = Given(Taste(), answers(examples, right))
    return evaluate(predictor, examples, split="test", metrics=metrics, cluster=cluster, output=folder)


def test_errors_and_intervals_of_a_report_go_by_clusters() -> None:
    _, authors, right = by_author()
    alone, found = report(None, None), report(None, "author")
    sums = np.bincount(authors, right - right.mean())
    error = math.sqrt((sums**2).sum() * AUTHORS / (AUTHORS - 1)) / N
    assert found.metrics["accuracy"].stderr == pytest.approx(error)
    assert found.cluster == "author"
    for name, score in found.metrics.items():
        assert score.value == alone.metrics[name].value
        if name != "ece":
            assert score.high - score.low > 1.4 * (alone.metrics[name].high - alone.metrics[name].low), name
    for label in Taste.labels:
        wide, narrow = found.per_label[label].recall, alone.per_label[label].recall
        assert (wide.value, wide.n) == (narrow.value, narrow.n)
        assert wide.high - wide.low > 1.1 * (narrow.high - narrow.low)
    assert f"Standard errors and intervals go by {AUTHORS} clusters of 'author'." in found.notes
    assert Report.from_json(found.to_json()).cluster == "author"


def test_clusters_of_one_example_each_change_nothing() -> None:
    examples, _, right = by_author()
    single = [
        Example(each.inputs, each.target, each.where, {"author": str(place)}) for place, each in enumerate(examples)
    ]
    found = evaluate(Given(Taste(), answers(single, right)), single, split="test", metrics=METRICS, cluster="author")
    assert found.metrics == report(None, None).metrics
    said = "No two examples have the same 'author': errors and intervals are as without --cluster."
    assert [note for note in found.notes if "cluster" in note] == [said]


def test_an_empty_value_is_a_cluster_by_itself() -> None:
    examples, _, right = by_author()
    nobody = [Example(each.inputs, each.target, each.where, {"author": ""}) for each in examples]
    found = evaluate(Given(Taste(), answers(nobody, right)), nobody, split="test", metrics=METRICS, cluster="author")
    assert found.metrics == report(None, None).metrics
    assert "'author' is empty everywhere: errors and intervals are as without --cluster." in found.notes


def test_one_cluster_of_all_examples_says_nothing_and_a_note_says_so(tmp_path: Path) -> None:
    examples, _, right = by_author()
    same = [Example(each.inputs, each.target, each.where, {"author": "Ann"}) for each in examples]
    for folder in ("one", "two"):
        predictor = Given(Taste(), answers(same, right))
        found = evaluate(predictor, same, split="test", metrics=METRICS, cluster="author", output=tmp_path / folder)
    said = (
        f"All {N} examples have the same 'author': one cluster does not show how much figures vary, so "
        "that intervals are as wide as can be, or none."
    )
    assert said in found.notes
    assert (found.metrics["accuracy"].low, found.metrics["accuracy"].high) == (0, 1)
    assert f"taste: {said}" in compare([tmp_path / "one", tmp_path / "two"]).notes


def test_a_field_that_makes_no_clusters_is_told_in_a_comparison_too(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        report(tmp_path / folder, None)
    notes = compare([tmp_path / "one", tmp_path / "two"], cluster="text").notes
    assert "taste: No two examples have the same 'text': errors and intervals are as without --cluster." in notes
    assert not any("No two examples" in note for note in compare([tmp_path / "one", tmp_path / "two"]).notes)


def test_a_column_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a:0: nothing here is called 'writer'; there is author, text"):
        report(None, "writer")
    (tmp_path / "a.csv").write_text("text,label\nFine,good\n")
    source = open_source(str(tmp_path / "a.csv"), {})
    with pytest.raises(DataError, match=r"no column 'writer'; the columns are text, label") as refused:
        stream_examples(Taste(), source, "all", columns={}, cluster="writer", need_labels=True)
    assert "--cluster" in refused.value.hint
    (example,) = stream_examples(Taste(), source, "all", columns={}, cluster="label", need_labels=True).examples()
    assert example.extra == {"label": "good"}


def test_questions_on_one_context_belong_together_by_themselves() -> None:
    task = installed_plugins().registry.tasks["qa"]
    gold = task.fixtures().gold
    assert gold is not None
    (first, *_), examples = installed_examples(task), []
    for place in range(30):
        context = f"{first.inputs['context']} Page {place // 3}."
        examples.append(
            Example({**first.inputs, "context": context}, first.target, f"q:{place}", {}, (), first.references)
        )
    found = evaluate(Given(task, [gold(each) for each in examples]), examples, split="test", metrics=task.own_metrics)
    assert found.cluster == "context"
    assert "Standard errors and intervals go by 10 clusters of 'context'." in found.notes


def installed_examples(task: Task) -> list[Example]:
    registry = installed_plugins().registry
    source = open_source(str(task.samples()), registry.sources)
    split = next(iter(source.splits))
    return [next(stream_examples(task, source, split, columns={}, need_labels=True).examples())]


def test_texts_that_repeat_are_told_where_no_cluster_is_named() -> None:
    examples, _, right = by_author()
    repeated = [
        Example({"text": f"The same {place // 4} text."}, each.target, each.where, each.extra)
        for place, each in enumerate(examples)
    ]

    def notes(some: Sequence[Example], cluster: str | None = None) -> str:
        predictor = Given(Taste(), answers(some, right))
        return " ".join(evaluate(predictor, some, split="test", metrics=METRICS[:1], cluster=cluster).notes)

    assert f"{N} of {N} examples share their text with others" in notes(repeated)
    assert "--cluster text" in notes(repeated)
    assert notes(repeated, "text") == f"Standard errors and intervals go by {N // 4} clusters of 'text'."
    assert notes(examples) == ""
    assert notes([*repeated[:2], *examples[2:]]) == f"{notes(repeated)}".replace(f"{N} of", "2 of")
    everywhere = [Example({"text": "As ever."}, each.target, each.where) for each in examples]
    assert notes(everywhere) == ""


def test_a_comparison_goes_by_the_clusters_of_its_reference(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 1)):
        report(tmp_path / name, "author", seed)
        report(tmp_path / f"{name} alone", None, seed)
    table = parquet.read_table(tmp_path / "a" / "parts.parquet").to_pylist()
    assert [row["cluster"] for row in table] == [place // EACH for place in range(N)]
    found = compare([tmp_path / "a", tmp_path / "b"])
    alone = compare([tmp_path / "a alone", tmp_path / "b alone"])
    assert f"taste: intervals and tests go by {AUTHORS} clusters of 'author'." in found.notes
    assert {contrast.test for contrast in found.contrasts} == {"bootstrap"}
    for wide, narrow in zip(found.contrasts, alone.contrasts, strict=True):
        assert wide.difference == narrow.difference
        assert wide.high - wide.low > 1.3 * (narrow.high - narrow.low)
        assert wide.p_value > narrow.p_value
        assert wide.detectable > narrow.detectable


def test_a_comparison_takes_a_field_that_was_saved_and_refuses_others(tmp_path: Path) -> None:
    examples, authors, _ = by_author()
    written = [
        Example({"text": f"No. {place}", "topic": f"Topic {author}"}, each.target, each.where)
        for place, (each, author) in enumerate(zip(examples, authors.tolist(), strict=True))
    ]
    for name, seed in (("a", 0), ("b", 1)):
        predictor = Given(Taste(), answers(written, by_author(seed)[2]))
        evaluate(predictor, written, split="test", metrics=METRICS[:1], output=tmp_path / name)
    folders = [tmp_path / "a", tmp_path / "b"]
    (alone,), (found,) = compare(folders).contrasts, compare(folders, cluster="topic").contrasts
    assert (alone.test, found.test) == ("mcnemar", "bootstrap")
    assert found.high - found.low > 1.3 * (alone.high - alone.low)
    assert "compare with --cluster topic" in " ".join(compare(folders).notes)
    with pytest.raises(DataError, match=r"--cluster author: .*a holds nothing of that name; it holds text, topic"):
        compare(folders, cluster="author")


def test_a_suite_names_what_belongs_together(tmp_path: Path) -> None:
    _, authors, right = by_author()
    items = [
        {"question": f"No. {place}?", "choices": ["yes", "no"], "answer": 0, "author": f"a{author}"}
        for place, author in enumerate(authors.tolist())
    ]
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    entry = {"task": "multiple-choice", "source": "items.jsonl", "prompt": "{question}", "cluster": "author"}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump({"name": "own", "tasks": [entry]}))
    registry = installed_plugins().registry
    (task,) = load_suite(str(tmp_path / "own.yaml"), registry).tasks
    examples = list(read_examples(task, registry.sources, None))
    rows = [
        ScoredExample("quiz", example, group, [], {"accuracy": Statistic(float(value))}, 0)
        for (example, group), value in zip(examples, right.tolist(), strict=True)
    ]
    alone, found = (
        task_scores("quiz", "multiple-choice", 0, METRICS[:1], rows, cluster=cluster)
        for cluster in (None, task.cluster)
    )
    sums = np.bincount(authors, right - right.mean())
    assert found.metrics["accuracy"].stderr == pytest.approx(math.sqrt((sums**2).sum() * 40 / 39) / N)
    assert found.note == f"Standard errors and intervals go by {AUTHORS} clusters of 'author'."
    assert alone.note is None
    for name in "ab":
        (tmp_path / name).mkdir()
        write_scores(tmp_path / name, Scores({}, {"spec": name}, {}, {}, (found,)), rows)
    assert compare([tmp_path / "a", tmp_path / "b"]).notes == (
        f"quiz: intervals and tests go by {AUTHORS} clusters of 'author'.",
    )
    entry["cluster"] = "writer"
    (tmp_path / "own.yaml").write_text(yaml.safe_dump({"name": "own", "tasks": [entry]}))
    (task,) = load_suite(str(tmp_path / "own.yaml"), registry).tasks
    with pytest.raises(DataError, match=r"no column 'writer'; the columns are question, choices, answer, author"):
        list(read_examples(task, registry.sources, None))


def test_groups_of_a_suite_have_clusters_of_their_own() -> None:
    _, authors, right = by_author()
    rows = [
        ScoredExample(
            "quiz",
            Example({"question": f"No. {place}"}, "yes", f"q:{place}", {"author": str(author)}),
            "ab"[author % 2],
            [],
            {"accuracy": Statistic(float(is_right))},
            0,
        )
        for place, (author, is_right) in enumerate(zip(authors.tolist(), right.tolist(), strict=True))
    ]
    alone, found = (
        task_scores("quiz", "multiple-choice", 0, METRICS[:1], rows, cluster=cluster) for cluster in (None, "author")
    )
    assert found.metrics["accuracy"].value == alone.metrics["accuracy"].value
    assert found.metrics["accuracy"].stderr > 1.4 * alone.metrics["accuracy"].stderr
    errors = [figures["accuracy"].stderr for figures in found.groups.values()]
    assert found.metrics["accuracy"].stderr == pytest.approx(math.hypot(*errors) / 2)
