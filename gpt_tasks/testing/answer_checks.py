"""Checks of what a task and its learner make of answers: from outputs or texts to figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gpt_tasks.tasks.base import Task
from gpt_tasks.testing.checks import SkipError, require
from gpt_tasks.testing.fixture import TaskFixture
from gpt_tasks.types import Example, Features, Generation, LogLikelihood

if TYPE_CHECKING:
    from gpt_tasks.learners.base import Learner

_TOLERANCE = 1e-3


def decoding_survives_anything(fixture: TaskFixture) -> None:
    """Decode outputs, and score predictions and likelihoods, of every sort."""
    from gpt_tasks.learners.base import Learner

    task, examples = fixture.fitted, fixture.examples
    asked = False
    if fixture.learner is not None and type(fixture.learner).predict is Learner.predict:
        asked = _decodes_any_outputs(task, fixture.learner, examples)
    odd = fixture.fixtures.any_predictions
    for prediction in odd(examples[0]) if odd is not None else ():
        asked = True
        _scored(task, examples[0], prediction, repr(str(prediction)[:40]))
    if task.can_be_asked:
        requests = task.requests(examples[0], "")
        if not any(isinstance(request, Generation) for request in requests):
            asked = True
            for value in (0.0, -1e-9, -1e9, -math.inf):
                prediction = task.prediction(examples[0], [LogLikelihood(value, False, 1)] * len(requests))
                _scored(task, examples[0], prediction, f"likelihoods of {value}", finite=value > -1e9)
    if not asked:
        raise SkipError("Nothing is known of the task's predictions: its fixtures() give no `any_predictions`.")


def gold_answers_score_best(fixture: TaskFixture) -> None:
    """Give the right answers, and see that every metric of the reports is at its best."""
    from gpt_tasks.evaluation.statistics import metric_values

    task, examples, gold = fixture.fitted, fixture.examples, fixture.fixtures.gold
    if gold is None:
        raise SkipError("The task's fixtures() give no `gold` predictions.")
    metrics = fixture.plugins.registry.metrics_of(task)
    right = [gold(example) for example in examples]
    wrong = [*right[1:], right[0]] if fixture.fixtures.wrong is None else list(map(fixture.fixtures.wrong, examples))
    best, others = (metric_values(metrics, task, examples, given) for given in (right, wrong))
    asked = [metric for metric in metrics if math.isfinite(best.get(metric.name, math.nan))]
    if not asked:
        raise SkipError("None of the metrics has a value for the rows.")
    for metric in asked:
        value, other = best[metric.name], others[metric.name]
        require(
            not math.isfinite(metric.best) or math.isclose(value, metric.best, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE),
            f"Right answers get {value:.4g} of '{metric.name}', whose best is {metric.best:g}. score() must compare a "
            "prediction with the example's unchanged target.",
        )
        require(
            not math.isfinite(other) or (value >= other if metric.better == "higher" else value <= other),
            f"Metric '{metric.name}' is {value:.4g} of right answers and {other:.4g} of wrong ones, and says that "
            f"{metric.better} is better. Fix its function, or `better`.",
        )


def _decodes_any_outputs(task: Task, learner: Learner[Any], examples: Sequence[Example]) -> bool:
    """Decode numbers of all sizes; return whether the form of the learner's outputs is known."""
    import numpy as np

    features = learner.encode(examples)
    shapes = [_shape(learner, each) for each in features]
    if len(features) != len(examples) or any(shape is None for shape in shapes):
        return False
    random = np.random.default_rng(0)
    drawn = [random.normal(size=shape) for shape in shapes if shape is not None]
    sorts = {"zeros": 0.0, "small numbers": 1.0, "large numbers": 1e4, "huge numbers": 1e30}
    for sort, scale in sorts.items():
        outputs = [(each * scale).astype(np.float32) for each in drawn]
        predictions = list(learner.decode(examples, outputs))
        require(
            len(predictions) == len(examples),
            f"decode() makes {len(predictions)} predictions of {len(examples)} examples ({sort}). Return one for each.",
        )
        for example, prediction in zip(examples, predictions, strict=True):
            _is_prediction(task, prediction, sort)
            if sort != "huge numbers":
                _scored(task, example, prediction, f"outputs of {sort}")
    return True


def _shape(learner: Learner[Any], features: Features) -> tuple[int, ...] | None:
    """Return the shape of a learner's outputs of an example, as far as it is known."""
    from gpt_tasks.learners.base import Learner

    if type(learner).reduce is not Learner.reduce or not learner.outputs:
        return None
    if learner.per_token:
        return len(features), learner.outputs
    if features.choices:
        count = max(features.choices) + 1
        return (count,) if learner.outputs == 1 else (count, learner.outputs)
    return (learner.outputs,)


def _is_prediction(task: Task, prediction: Any, sort: str) -> None:
    said = f"decode() predicts {prediction!r} of outputs of {sort}"
    probabilities = getattr(prediction, "probabilities", None)
    if isinstance(probabilities, dict):
        require(all(0 <= p <= 1 for p in probabilities.values()), f"{said}. Give each label a probability from 0 to 1.")
        given = getattr(prediction, "labels", None) or [getattr(prediction, "label", None)]
        require(set(given) - {None} <= set(probabilities), f"{said}. Predict labels of which there is a probability.")
    if isinstance(prediction, float):
        require(math.isfinite(prediction), f"{said}. Predict a finite number.")
    require(isinstance(task.to_text(prediction), str), f"{said}, of which to_text() makes no text.")


def _scored(task: Task, example: Example, prediction: Any, said: str, *, finite: bool = True) -> None:
    """Score a prediction, of which every additive metric must get finite numbers."""
    statistics = task.score(example, prediction)
    own = [metric.name for metric in task.own_metrics if metric.whole is None and metric.name in task.metrics]
    for name in own or statistics:
        require(
            name in statistics or any(metric.statistic for metric in task.own_metrics if metric.name == name),
            f"score() contributes nothing to '{name}' of {said}. Return a Statistic for each metric.",
        )
        numbers = statistics[name].columns if name in statistics else ()
        require(
            not finite or all(map(math.isfinite, numbers)),
            f"score() contributes {numbers} to '{name}' of {said}. Return finite numbers.",
        )
