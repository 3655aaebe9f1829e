"""The check of a task's zero-shot requests."""

from __future__ import annotations

import math
from dataclasses import replace

from gpt_tasks.tasks.base import SHOT_SEPARATOR
from gpt_tasks.testing.checks import SkipError, require
from gpt_tasks.testing.fixture import TaskFixture
from gpt_tasks.types import Generation, Request, Rolling

_ASKED = 2
_MOST_TOKENS = 8


def zero_shot_works(fixture: TaskFixture) -> None:
    """Answer the task's requests, without a shot and with one, and score the answers."""
    import torch

    from gpt_tasks.backbone.load import open_backbone
    from gpt_tasks.scoring.scorer import Scorer

    task = fixture.fitted.zero_shot()
    if not task.can_be_asked:
        raise SkipError("The task cannot be evaluated zero-shot: it has no requests().")
    backbone = open_backbone(fixture.backbone)
    scorer = Scorer(backbone, device=torch.device("cpu"), precision="float32", engine="plain", batch_tokens=1024)
    metrics = fixture.plugins.registry.metrics_of(task, task.zero_shot_metrics)
    *examples, shot = [fixture.example(row, task) for row in fixture.rows[: _ASKED + 1]]
    for context in ("", task.fewshot_example(shot) + SHOT_SEPARATOR) if task.takes_shots else ("",):
        for example in examples:
            requests = task.requests(example, context)
            require(bool(requests), f"{example.where}: requests() returns nothing. Return at least one request.")
            for request in requests:
                require(
                    isinstance(request, Rolling) or request.context.startswith(context),
                    f"{example.where}: requests() leaves out the `context`: {request!r}. Put it in front of the "
                    "request's own, or say `takes_shots = False`.",
                )
            responses = scorer.answer([_short(request) for request in requests]).answers
            statistics = task.contributions(metrics, example, task.prediction(example, responses))
            for metric in metrics:
                numbers = statistics[metric.name].columns if metric.name in statistics else None
                require(
                    metric.whole is not None or (numbers is not None and all(map(math.isfinite, numbers))),
                    f"{example.where}: {numbers} is contributed to '{metric.name}' of what a model answered. "
                    "score() must contribute finite numbers to every metric.",
                )


def _short(request: Request) -> Request:
    """Ask for few tokens: what a model of random weights writes is of no use."""
    return replace(request, max_tokens=_MOST_TOKENS) if isinstance(request, Generation) else request
