from pathlib import Path

import gpt_tasks_embedding
import numpy as np
import pytest
from gpt_tasks_embedding import Embedding, ranks

import gpt_tasks
from gpt_tasks import Rows
from gpt_tasks.testing import parametrize_with_checks

SAMPLES = Path(gpt_tasks_embedding.__file__).parent / "samples"
EXACT = {"device": "cpu", "precision": "float32"}


@parametrize_with_checks([Embedding()])
def test_is_a_good_citizen(task, check):
    check(task)


def test_ties_count_against_an_anchor_and_equal_texts_once():
    a, b = [1.0, 0.0], [0.0, 1.0]
    rows = Rows([[("x", a)], [("y", a)], [("z", b)], [("z", b)]], [a, a, b, a])
    assert ranks(rows) == [1, 1, 0, 2]


@pytest.fixture(scope="module", params=["mean", "last"])
def runs(request, tmp_path_factory):
    """A run whose weights hardly moved, and one that was trained."""
    folder, options = tmp_path_factory.mktemp("runs"), {"pooling": request.param, "batch_examples": 8}
    settings = {"options": options, **EXACT}
    one = {"epochs": 1, **settings}
    still = gpt_tasks.finetune("embedding", output=folder / "still", limit=8, limit_test=12, learning_rate=1e-12, **one)
    return still, gpt_tasks.finetune("embedding", output=folder / "trained", epochs=2, **settings)


def test_training_moves_pairs_together(runs):
    before, after = (run.report.metrics["ndcg"] for run in runs)
    assert after.value > before.value
    assert 0 <= after.low <= after.value <= after.high <= 1
    assert set(runs[1].report.metrics) == set(runs[1].report.baselines["words"]) == {*Embedding.metrics}


def test_a_loaded_run_gives_vectors_and_the_same_figures(runs):
    run = gpt_tasks.load(runs[1].path, **EXACT)
    one = run.predict("When does the pool open?")
    many = run.predict(["The pool opens at six.", {"anchor": "A cat sleeps."}])
    assert [len(one)] * 2 == list(map(len, many))
    assert np.linalg.norm(one) == pytest.approx(1)
    assert np.dot(one, many[0]) > np.dot(one, many[1])
    figures, before = run.evaluate(SAMPLES, split="test").metrics, runs[1].report.metrics
    assert figures["ndcg"].value == pytest.approx(before["ndcg"].value)
