from pathlib import Path

import gpt_tasks_token_regression
import pytest
from gpt_tasks_token_regression import TokenRegression

import gpt_tasks
from gpt_tasks import DataError, Row
from gpt_tasks.testing import parametrize_with_checks

SAMPLES = Path(gpt_tasks_token_regression.__file__).parent / "samples"
EXACT = {"device": "cpu", "precision": "float32"}
COLUMNS = {"tokens": "tokens", "scores": "scores"}


@parametrize_with_checks([TokenRegression()])
def test_is_a_good_citizen(task, check):
    check(task)


NAN = float("nan")


@pytest.mark.parametrize(
    ("tokens", "scores"),
    [(["a b"], [1]), ([], []), (["a", "b"], [1]), (["a"], ["x"]), (["a"], [NAN]), (3, [1]), (["a"], 1)],
)
def test_what_cannot_be_read_names_the_row(tokens, scores):
    with pytest.raises(DataError, match="x:1"):
        TokenRegression().example(Row({"tokens": tokens, "scores": scores}, "x:1"), COLUMNS)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return gpt_tasks.finetune("token-regression", output=folder / "run", epochs=2, batch_tokens=64, **EXACT)


def test_training_comes_closer_than_one_number_for_all_words(run):
    assert run.report.metrics["rmse"].value < 0.8 * run.report.baselines["mean"]["rmse"].value
    assert run.report.metrics["pearson"].value > 0.5


def test_a_loaded_run_gives_words_numbers_and_the_same_figures(run):
    loaded = gpt_tasks.load(run.path, **EXACT)
    good, bad = loaded.predict(["The soup was lovely .", {"tokens": ["The", "soup", "was", "terrible", "."]}])
    assert len(good) == len(bad) == 5
    assert good[3] > bad[3]
    report = loaded.evaluate(SAMPLES, split="test")
    assert report.metrics["rmse"].value == pytest.approx(run.report.metrics["rmse"].value)
    assert report.baselines["mean"]["rmse"].value == pytest.approx(run.report.baselines["mean"]["rmse"].value)
    assert len(loaded.predict("good " * 600)) == 600
