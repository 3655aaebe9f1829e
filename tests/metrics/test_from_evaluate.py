"""Modules of evaluate as metrics: what they get, which figure is taken, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpt_tasks
from gpt_tasks.errors import UsageError
from gpt_tasks.evaluation.statistics import whole_figure
from gpt_tasks.extensions import Rows
from gpt_tasks.metrics.from_evaluate import metric_of_module

MODULE = """
import datasets
import evaluate
from datasets import Sequence, Value


class Module(evaluate.Metric):
    def _info(self):
        return evaluate.MetricInfo(
            description="Counts what is right.", citation="", inputs_description="", features={features}
        )

    def _compute(self, predictions, references, **settings):
        {body}
"""


def pair(predictions: str, references: str) -> str:
    return f"datasets.Features({{'predictions': {predictions}, 'references': {references}}})"


INTEGER, STRING, STRINGS = "Value('int32')", "Value('string')", "Sequence(Value('string'))"
SHARE = "return {'share': sum(p == r for p, r in zip(predictions, references)) / len(predictions)}"
LABELS = Rows(
    ["a", "b", "a", "b"], ["a", "a", "a", "b"], ("a", "b"), np.array([[0.9, 0.1], [0.6, 0.4], [0.7, 0.3], [0.2, 0.8]])
)
TEXTS = Rows([("x",), ("y",), ("z",)], ["x", "y", "q"])
SEVERAL = Rows([("x", "y"), ("z",)], ["y", "q"])
NUMBERS = Rows([(1.0,), (2.5,)], [1.0, 2.0])
SETS = Rows([("a", "b"), ()], [("a",), ("b",)], ("a", "b"))


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Write a module of evaluate and return its name as a metric."""

    def write(features: str, body: str = "return {'given': [predictions, references]}", name: str = "mine") -> str:
        folder = tmp_path / name
        folder.mkdir()
        (folder / f"{name}.py").write_text(MODULE.format(features=features, body=body))
        return f"evaluate:{folder}"

    return write


SHOWN = "import json; open({!r}, 'w').write(json.dumps([predictions, references])); return {{'shown': 1.0}}"


@pytest.mark.parametrize(
    ("features", "rows", "given"),
    [
        (pair(INTEGER, INTEGER), LABELS, [[0, 0, 0, 1], [0, 1, 0, 1]]),
        (pair(STRING, STRING), LABELS, [["a", "a", "a", "b"], ["a", "b", "a", "b"]]),
        (pair("Value('float32')", "Value('int64')"), LABELS, [[0.1, 0.4, 0.3, 0.8], [0, 1, 0, 1]]),
        (pair(STRING, STRING), TEXTS, [["x", "y", "q"], ["x", "y", "z"]]),
        (pair(STRING, STRINGS), SEVERAL, [["y", "q"], [["x", "y"], ["z"]]]),
        (f"[{pair(STRING, STRING)}, {pair(STRING, STRINGS)}]", SEVERAL, [["y", "q"], [["x", "y"], ["z"]]]),
        (pair("Value('float64')", "Value('float64')"), NUMBERS, [[1.0, 2.0], [1.0, 2.5]]),
        (pair("Sequence(Value('int32'))", "Sequence(Value('int32'))"), SETS, [[[1, 0], [0, 1]], [[1, 1], [0, 0]]]),
        (pair(STRINGS, STRINGS), SETS, [[["a"], ["b"]], [["a", "b"], []]]),
        (
            pair(
                "{'id': Value('string'), 'prediction_text': Value('string')}",
                "{'id': Value('string'), 'answers': Sequence({'text': Value('string'), "
                "'answer_start': Value('int32')})}",
            ),
            SEVERAL,
            [
                [{"id": "0", "prediction_text": "y"}, {"id": "1", "prediction_text": "q"}],
                [
                    {"id": "0", "answers": {"text": ["x", "y"], "answer_start": [0, 0]}},
                    {"id": "1", "answers": {"text": ["z"], "answer_start": [0]}},
                ],
            ],
        ),
    ],
    ids=["codes", "names", "chances", "texts", "references", "second form", "numbers", "sets", "set names", "squad"],
)  # fmt: skip
def test_what_a_module_gets(features: str, rows: Rows, given: Any, module: Callable[..., str], tmp_path: Path) -> None:
    metric = metric_of_module(module(features, SHOWN.format(str(tmp_path / "shown"))))
    assert metric.whole is not None
    assert metric.whole(rows) == 1.0
    found = json.loads((tmp_path / "shown").read_text())
    assert np.allclose(*map(np.array, (found, given))) if "float" in features else found == given


def test_scores_of_roc_auc(module: Callable[..., str]) -> None:
    features = "datasets.Features({'prediction_scores': Value('float'), 'references': Value('int32')})"
    name = module(features, "pass")
    place = Path(name.removeprefix("evaluate:")) / "mine.py"
    code = place.read_text().replace("predictions, references, **", "prediction_scores, references, **")
    place.write_text(code.replace("pass", "return {'mean': float(sum(prediction_scores)) / len(references)}"))
    metric = metric_of_module(name)
    assert metric.whole is not None
    assert metric.whole(LABELS) == pytest.approx(0.4)


def test_its_figure_has_the_interval_of_a_bootstrap(module: Callable[..., str]) -> None:
    metric = metric_of_module(module(pair(INTEGER, INTEGER), SHARE))
    many = LABELS.take(np.arange(100) % 4)
    score = whole_figure(metric, many)
    assert (score.value, score.n) == (0.75, 100)
    assert 0.6 < score.low < 0.7
    assert 0.8 < score.high < 0.9
    assert metric.better == "higher"


def test_settings_and_the_key(module: Callable[..., str]) -> None:
    body = "return {'a': settings.get('scale', 0), 'b': len(settings.get('average', ''))}"
    name = module(pair(STRING, STRING), body)
    for ending, value in (("#a", 0), ("?scale=3#a", 3), ("?average=macro&scale=2#b", 5)):
        whole = metric_of_module(name + ending).whole
        assert whole is not None
        assert whole(TEXTS) == value
    for ending, said in (("", "computes a, b: which of them is not said"), ("#c", "computes a, b: there is no 'c'")):
        whole = metric_of_module(name + ending).whole
        assert whole is not None
        with pytest.raises(UsageError, match=said):
            whole(TEXTS)


def test_the_figure_of_its_own_name_is_taken(module: Callable[..., str]) -> None:
    whole = metric_of_module(module(pair(STRING, STRING), "return {'wer': 0.5, 'n': 3}", "wer")).whole
    assert whole is not None
    assert whole(TEXTS) == 0.5


def test_error_rates_improve_downward(module: Callable[..., str]) -> None:
    assert metric_of_module(module(pair(STRING, STRING), name="wer")).better == "lower"


@pytest.mark.parametrize(
    ("features", "rows", "said"),
    [
        (pair(INTEGER, INTEGER), TEXTS, "it wants int32, and an answer is 'x'"),
        (pair(STRING, STRING), NUMBERS, "it wants string, and an answer is '1.0'"),
        (pair(STRING, STRING), SEVERAL, "wants one of references .* and a row has 2"),
        (pair(STRINGS, STRINGS), TEXTS, "an answer is 'x'"),
        (pair("{'image': Value('string')}", STRING), TEXTS, "it wants {'image'"),
    ],
)
def test_answers_of_another_kind_are_refused(features: str, rows: Rows, said: str, module: Callable[..., str]) -> None:
    whole = metric_of_module(module(features)).whole
    assert whole is not None
    with pytest.raises(UsageError, match=rf"does not fit the answers: .*{said}"):
        whole(rows)


def test_a_module_that_wants_more_says_what(module: Callable[..., str]) -> None:
    name = module("datasets.Features({'sources': Value('string'), 'predictions': Value('string')})")
    with pytest.raises(
        UsageError, match=r"wants sources: .*string.*, predictions: .* and an evaluation has predictions"
    ):
        metric_of_module(name)


@pytest.mark.parametrize("name", ["no/such/folder", "nosuchmetric"])
def test_a_module_that_is_not_there(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UsageError, match=rf"'evaluate:{name}' cannot be loaded"):
        metric_of_module(f"evaluate:{name}")


def test_a_training_and_an_evaluation_report_it(module: Callable[..., str], tmp_path: Path) -> None:
    name = module(pair(INTEGER, INTEGER), SHARE)
    run = gpt_tasks.finetune("sentiment", output=tmp_path / "run", limit=40, method="head", metric=[name])
    assert run.report.metrics[name].value == run.report.metrics["accuracy"].value
    text = (tmp_path / "run" / "README.md").read_text()
    assert name in text
    report = gpt_tasks.zero_shot("tiny", "sentiment").evaluate(_labelled(tmp_path), metrics=[name])
    assert report.metrics[name].value == report.metrics["accuracy"].value


def _labelled(folder: Path) -> Path:
    rows = [{"text": f"A film, number {i}.", "label": ("positive", "negative")[i % 2]} for i in range(8)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "rows.jsonl"
