import pytest
from gpt_tasks_kappa import kappa

from gpt_tasks import Rows


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
    rows = Rows(*(["abc"[code] for code in codes] for codes in (references, predictions)), labels=("a", "b", "c"))
    assert kappa(rows) == pytest.approx(value)
