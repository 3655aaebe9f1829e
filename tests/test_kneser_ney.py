"""The n-gram model that the embedded GPT is measured against is a real one."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

FILE = Path(__file__).parents[1] / "benchmarks" / "kneser_ney.py"
spec = importlib.util.spec_from_file_location("kneser_ney", FILE)
assert spec is not None
assert spec.loader is not None
kneser_ney = importlib.util.module_from_spec(spec)
spec.loader.exec_module(kneser_ney)

VOCABULARY = 7


@pytest.fixture(scope="module")
def train() -> np.ndarray:
    """Tokens of which each depends on the two before it; token 6 is never seen."""
    draw = np.random.default_rng(0)
    tokens = [0, 1]
    for _ in range(3000):
        likely = (tokens[-1] + 2 * tokens[-2]) % 6
        tokens.append(likely if draw.random() < 0.7 else int(draw.integers(0, 6)))
    return np.array(tokens)


@pytest.mark.parametrize("context", [[0, 1, 2, 3], [5, 5, 5, 5], [6, 6, 6, 6], [6, 1, 2, 3], [0], [6]])
@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_the_probabilities_of_all_next_tokens_add_up_to_one(train, context, order) -> None:
    nats = [kneser_ney.kneser_ney_nats(train, np.array([*context, token]), VOCABULARY, order)[-1] for token in range(7)]
    assert np.exp(-np.array(nats)).sum() == pytest.approx(1)


def test_it_learns_what_a_trigram_model_can(train) -> None:
    by_order = {n: kneser_ney.kneser_ney_nats(train[:2500], train[2500:], VOCABULARY, n).mean() for n in (1, 2, 3, 5)}
    # The source's own entropy: 0.75 for the likely token, 0.05 for each of the five others.
    entropy = -(0.75 * np.log(0.75) + 0.25 * np.log(0.05))
    assert by_order[3] == pytest.approx(entropy, abs=0.1)
    assert by_order[3] < by_order[2] - 0.3
    assert by_order[5] < entropy + 0.3


def test_a_small_case_by_hand() -> None:
    """Bigrams of "0 1 0 1 0 2": (0 1) twice, (1 0) twice, (0 2) once; lower order: what follows how many tokens."""
    train = np.array([0, 1, 0, 1, 0, 2])
    nats = kneser_ney.kneser_ney_nats(train, np.array([0, 1]), 3, order=2)
    # One bigram seen once, two seen twice: Y = 1 / (1 + 2 * 2) = 0.2, D1 = 1 - 2 * 0.2 * 2 = 0.2, and with no bigram
    # seen three times, counted as one, D2 = 2 - 3 * 0.2 * 1 / 2 = 1.7.
    # Each token follows one other: three unigrams of count one; n2 is taken as one: Y = 3 / 5, D1 = 1 - 2 * 0.6 / 3.
    unigram = (1 - 0.6) / 3 + 3 * 0.6 / 3 / 3
    bigram = (2 - 1.7) / 3 + (0.2 + 1.7) / 3 * unigram
    assert np.exp(-nats[0]) == pytest.approx(bigram)
