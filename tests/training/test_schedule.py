"""No update is wasted: the learning rate warms up from above 0, and then falls as transformers has it."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from transformers import get_scheduler

from gpt_tasks.training.schedule import rate_at


def rates(updates: int, warmup: int, decay: Literal["linear", "cosine"]) -> list[float]:
    return [rate_at(step, warmup=warmup, updates=updates, decay=decay) for step in range(updates)]


@pytest.mark.parametrize("decay", ["linear", "cosine"])
@pytest.mark.parametrize(("updates", "warmup"), [(1, 0), (10, 1), (29, 2), (200, 20), (5, 4)])
def test_every_update_learns(updates: int, warmup: int, decay: Literal["linear", "cosine"]) -> None:
    found = rates(updates, warmup, decay)
    assert min(found) > 0
    assert max(found) == found[warmup] == 1
    steps = [after - before for before, after in zip([0.0, *found], found[: warmup + 1], strict=False)]
    assert steps == pytest.approx([1 / (warmup + 1)] * (warmup + 1))


@pytest.mark.parametrize("decay", ["linear", "cosine"])
def test_after_the_warmup_the_rate_is_that_of_transformers(decay: Literal["linear", "cosine"]) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = get_scheduler(decay, optimizer, num_warmup_steps=7, num_training_steps=50)
    theirs = []
    for _ in range(50):
        theirs.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert theirs[0] == 0
    assert rates(50, 7, decay)[7:] == theirs[7:]
