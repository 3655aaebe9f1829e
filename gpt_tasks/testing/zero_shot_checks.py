"""The check of what a task asks of a model as it is, without training."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from gpt_tasks.tasks.classification import ClassificationTask
from gpt_tasks.tasks.untrained import SHOT_SEPARATOR, UntrainedTask
from gpt_tasks.testing.checks import SkipError, require
from gpt_tasks.testing.fixture import TaskFixture
from gpt_tasks.types import Generation, Request, Rolling

_ASKED = 2
_MOST_TOKENS = 8


def zero_shot_works(fixture: TaskFixture) -> None:
    """Put what the task asks to a model, without a shot and with one, and measure what that answers."""
    import torch

    from gpt_tasks.backbone.load import open_backbone
    from gpt_tasks.scoring.scorer import Scorer

    task: Any = fixture.fitted.untrained()
    if not isinstance(task, UntrainedTask | ClassificationTask):
        raise SkipError("The task is answered by a head alone.")
    backbone = open_backbone(fixture.backbone)
    scorer = Scorer(backbone, device=torch.device("cpu"), precision="float32", engine="plain", batch_tokens=1024)
    *examples, shot = [task.example(row, fixture.columns) for row in fixture.rows[: _ASKED + 1]]
    takes_shots = task.takes_shots if isinstance(task, UntrainedTask) else True
    for before in ("", task.shot(shot) + SHOT_SEPARATOR) if takes_shots else ("",):
        for example in examples:
            requests = task.ask(example, before)
            require(bool(requests), f"{example.where}: ask() asks nothing. Return at least one request.")
            for request in requests:
                require(
                    isinstance(request, Rolling) or request.context.startswith(before),
                    f"{example.where}: ask() leaves out what stands `before`: {request!r}. Put it in front of the "
                    "context, or say `takes_shots = False`.",
                )
            parts = task.measure(example, scorer.answer([_short(request) for request in requests]).answers)
            brought = {name: part.columns for name, part in parts.items()}
            for name in ("accuracy",) if isinstance(task, ClassificationTask) else getattr(task, "asked_metrics", ()):
                require(
                    name in brought and all(map(math.isfinite, brought[name])),
                    f"{example.where}: measure() brings {brought.get(name)} to '{name}' of what a model answered. "
                    "Bring finite numbers to every metric.",
                )


def _short(request: Request) -> Request:
    """Ask for few tokens: what a model of random weights writes is of no use."""
    return replace(request, max_tokens=_MOST_TOKENS) if isinstance(request, Generation) else request
