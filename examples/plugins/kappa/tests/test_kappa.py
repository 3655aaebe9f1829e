import numpy as np
import pytest
from gpt_tasks_kappa import kappa


@pytest.mark.parametrize(
    ("references", "predictions", "value"),
    [
        ([0, 1, 2], [0, 1, 2], 1.0),
        ([0, 0, 1, 1], [0, 1, 0, 1], 0.0),
        ([0, 0, 1, 1], [1, 1, 0, 0], -1.0),
        ([0, 0, 0, 0, 1], [0, 0, 0, 1, 1], 6 / 11),
        ([0, 0], [0, 0], 0.0),
    ],
)
def test_kappa_is_what_it_is_by_hand(references, predictions, value):
    assert kappa(np.array(references), np.array(predictions), None, ("a", "b", "c")) == pytest.approx(value)
