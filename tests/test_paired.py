"""The paired bootstrap of the benchmarks distinguishes two systems where they differ, and nowhere else."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest


@pytest.fixture(scope="module")
def paired_bootstrap() -> Iterator[Any]:
    """The function, imported as a benchmark imports it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
        import _paired  # type: ignore[import-not-found]

        yield _paired.paired_bootstrap
        sys.modules.pop("_paired", None)


def test_paired_bootstrap_agrees_with_the_paired_z_test(paired_bootstrap) -> None:
    random = np.random.default_rng(2)
    correct_a, correct_b = random.random(1000) < 0.84, random.random(1000) < 0.80
    found = paired_bootstrap(correct_a, correct_b)
    differences = correct_a.astype(float) - correct_b
    error = differences.std() / math.sqrt(1000)
    expected = 2 * (1 - NormalDist().cdf(abs(differences.mean()) / error))
    assert found.value == pytest.approx(differences.mean())
    assert found.p_value == pytest.approx(expected, abs=0.02)
    assert found.low == pytest.approx(differences.mean() - 1.96 * error, abs=0.003)
    assert found.high == pytest.approx(differences.mean() + 1.96 * error, abs=0.003)
    assert found.n == 1000


def test_paired_bootstrap_knows_equal_from_different(paired_bootstrap) -> None:
    same = np.array([True, False, True])
    assert paired_bootstrap(same, same).p_value == 1
    far = paired_bootstrap(np.ones(200), np.tile([1 / 3, 2 / 3, 1, 0], 50))
    assert far.p_value == pytest.approx(1 / 10_001)
    assert far.low > 0
    swapped = paired_bootstrap(np.tile([1 / 3, 2 / 3, 1, 0], 50), np.ones(200))
    assert swapped.value == pytest.approx(-far.value)
    with pytest.raises(ValueError, match="same examples"):
        paired_bootstrap(np.ones(2), np.ones(3))
