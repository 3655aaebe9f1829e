"""What a task and its learner make of examples: what a model is shown, and what it learns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gpt_tasks.tasks.base import Task
from gpt_tasks.types import Continuation, Example, Features, Generation, Rolling

if TYPE_CHECKING:
    from gpt_tasks.learners.base import Learner

IGNORE_INDEX = -100
_TOLERANCE = 1e-3


def shown_to_model(task: Task, learner: Learner[Any] | None, example: Example) -> list[Any]:
    """Return all that a model is shown of an example before it answers, as requests and as tokens."""
    shown: list[Any] = []
    if task.can_be_asked:
        requests = task.requests(example, "")
        compared = len(requests) > 1 and not any(isinstance(request, Generation | Rolling) for request in requests)
        for request in requests:
            if isinstance(request, Generation):
                shown.append(request)
            elif isinstance(request, Continuation) and not any(isinstance(each, Generation) for each in requests):
                # What is compared are choices, or labels; a single ending is the right answer.
                shown.append(request if compared else request.context)
    if learner is None:
        return shown
    prompt = learner.prompt_tokens(example)
    if prompt is not None:
        return [*shown, prompt]
    return [*shown, *(plain(each.sequences) for each in learner.encode([example]))]


def learned(features: Sequence[Features]) -> list[float]:
    """Return the labels of tokens that are learned, in their order."""
    return [label for each in features for label in plain(_token_labels(each)) if label != IGNORE_INDEX]


def learned_stretches(features: Features) -> list[list[int]]:
    """Return the stretches of tokens that are learned."""
    stretches: list[list[int]] = []
    before: float = IGNORE_INDEX
    for label in plain(_token_labels(features)):
        if label != IGNORE_INDEX:
            if before == IGNORE_INDEX:
                stretches.append([])
            stretches[-1].append(int(label))
        before = label
    return stretches


def plain(value: Any) -> Any:
    """Return sequences and arrays as lists, so that they can be compared."""
    import numpy as np

    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return [plain(part) for part in value] if isinstance(value, list | tuple) else value


def _token_labels(features: Features) -> Sequence[float]:
    return () if features.token_labels is None else features.token_labels


def are_alike(ones: Sequence[Features], others: Sequence[Features]) -> bool:
    """Return whether features are the same; of values that a model computed, but for rounding."""
    import numpy as np

    exact = [
        [plain([each.sequences, each.labels, each.token_labels, each.choices]) for each in some]
        for some in (ones, others)
    ]
    return exact[0] == exact[1] and all(
        np.allclose(one.values, other.values, atol=_TOLERANCE, rtol=_TOLERANCE)
        for one, other in zip(ones, others, strict=True)
    )
