from pathlib import Path

import gpt_tasks_preference
import pytest
from gpt_tasks_preference import Preference

import gpt_tasks
from gpt_tasks.testing import parametrize_with_checks

SAMPLES = Path(gpt_tasks_preference.__file__).parent / "samples"
EXACT = {"device": "cpu", "precision": "float32"}


@parametrize_with_checks([Preference()])
def test_is_a_good_citizen(task, check):
    check(task)


@pytest.fixture(scope="module", params=["full", "lora"])
def run(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    return gpt_tasks.finetune("preference", output=folder, epochs=1, method=request.param, batch_tokens=512, **EXACT)


def test_training_makes_chosen_answers_likelier(run):
    report = run.report
    assert report.metrics["margin"].value > report.baselines["before"]["margin"].value
    assert report.metrics["pair_accuracy"].value >= report.baselines["before"]["pair_accuracy"].value
    assert report.metrics["pair_accuracy"].value > 0.5


def test_a_loaded_run_returns_which_is_preferred_and_gives_the_same_figures(run):
    loaded = gpt_tasks.load(run.path, **EXACT)
    pair = {"prompt": "Guest: Where is the sauna?\nClerk:", "chosen": " Let me see.", "rejected": " Ask somebody else."}
    turned = {**pair, "chosen": pair["rejected"], "rejected": pair["chosen"]}
    one, other = loaded.predict([pair, turned])
    assert one.margin == pytest.approx(-other.margin, abs=1e-3)
    assert {one.answer, other.answer} == {"chosen", "rejected"}
    report = loaded.evaluate(SAMPLES, split="test")
    assert report.metrics["margin"].value == pytest.approx(run.report.metrics["margin"].value, rel=1e-4)
