"""Checks of what a task makes of answers: from logits or texts to figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gpt_tasks.tasks.base import Task
from gpt_tasks.tasks.classification import ClassificationTask
from gpt_tasks.tasks.cloze import ClozeTask
from gpt_tasks.tasks.headed import HeadTask, MeasuredTask
from gpt_tasks.tasks.language_modeling import LanguageModelingTask
from gpt_tasks.tasks.measures import Measure
from gpt_tasks.tasks.multiple_choice import MultipleChoiceTask
from gpt_tasks.tasks.regression import RegressionTask
from gpt_tasks.tasks.span import SpanTask
from gpt_tasks.tasks.span_answers import Span
from gpt_tasks.tasks.text_to_text import TextToTextTask
from gpt_tasks.testing.checks import SkipError, require
from gpt_tasks.testing.fixture import TaskFixture
from gpt_tasks.types import Example, LogLikelihood, MultiLabelPrediction, Prediction, SpanAnswer

if TYPE_CHECKING:
    import numpy

ODD_TEXTS = (
    "",
    " ",
    "\n\n",
    "\x00",
    "?!...",
    "(",
    "\\1 {0} {text} %s",
    "1234567890",
    "3.5e400",
    "é ß 漢字 العربية 👩‍👧",
    "\u202eback to front",
    "the " * 2000,
    "assistant: user: </s> <|endoftext|>",
)
SURE = 30.0
"""A logit that leaves nothing to doubt."""
_UNIT = {"accuracy", "exact_match", "macro_f1", "micro_f1", "samples_f1", "f1", "mcc", "lrap"}
_TOLERANCE = 1e-3


def decoding_survives_anything(fixture: TaskFixture) -> None:
    """Decode logits, measure texts and likelihoods of every sort."""
    task, examples = fixture.fitted, fixture.examples
    if isinstance(task, HeadTask):
        _decodes_any_logits(task, examples)
    if isinstance(task, SpanTask):
        for text in ODD_TEXTS:
            _measured(task, examples[0], SpanAnswer(text, 0, len(text), 0.5, ()), repr(text[:40]))
    elif isinstance(task, TextToTextTask):
        for text in ODD_TEXTS:
            _measured(task, examples[0], [text], repr(text[:40]))
    elif isinstance(task, ClassificationTask | MultipleChoiceTask | ClozeTask | LanguageModelingTask):
        asked = len(task.ask(examples[0], ""))
        for value in (0.0, -1e-9, -1e9, -math.inf):
            answers = [LogLikelihood(value, False, 1)] * asked
            _measured(task, examples[0], answers, f"likelihoods of {value}", finite=value > -1e9)
    elif not isinstance(task, HeadTask):
        raise SkipError("The task is of no family of which answers are known.")


def gold_answers_score_best(fixture: TaskFixture) -> None:
    """Give the right answers, and see that every metric of the reports is at its best."""
    task, examples = fixture.fitted, fixture.examples
    if isinstance(task, ClassificationTask):
        _gold_labels_score_best(fixture, task, examples)
    given = gold_answers(task, examples)
    if not given and not isinstance(task, ClassificationTask):
        raise SkipError("The task is of no family of which right answers are known.")
    for said in given:
        measures: Sequence[Measure] = task.measures  # type: ignore[attr-defined]
        brought = [parts_of(task, example, answer) for example, answer in zip(examples, said, strict=True)]
        for measure in measures:
            if measure.name in task.metrics and all(measure.name in parts for parts in brought):
                _is_best(measure.name, _figure(measure, brought), _best(measure))


def _decodes_any_logits(task: HeadTask, examples: Sequence[Example]) -> None:
    import numpy as np

    drawn = np.random.default_rng(0).normal(size=(len(examples), _outputs(task, examples)))
    sorts = {"zeros": drawn * 0, "small numbers": drawn, "large numbers": drawn * 1e4, "huge numbers": drawn * 1e30}
    for sort, logits in sorts.items():
        answers = list(task.decode(logits.astype(np.float32)))
        require(
            len(answers) == len(logits),
            f"decode() makes {len(answers)} answers of {len(logits)} rows of logits ({sort}). Return one for each row.",
        )
        for example, answer in zip(examples, answers, strict=True):
            _is_answer(task, answer, sort)
            if isinstance(task, MeasuredTask) and sort != "huge numbers":
                _measured(task, example, answer, f"logits of {sort}")


def _is_answer(task: HeadTask, answer: Any, sort: str) -> None:
    told = f"decode() answers {answer!r} to logits of {sort}"
    if isinstance(answer, Prediction | MultiLabelPrediction):
        probabilities = list(answer.probabilities.values())
        require(all(0 <= p <= 1 for p in probabilities), f"{told}. Give each label a probability between 0 and 1.")
        given = [answer.label] if isinstance(answer, Prediction) else answer.labels
        require(set(given) <= set(answer.probabilities), f"{told}. Answer labels of which it gives a probability.")
    elif isinstance(task, RegressionTask):
        require(isinstance(answer, float) and math.isfinite(answer), f"{told}. Answer a finite number.")


def _measured(task: Any, example: Example, answer: Any, told: str, *, finite: bool = True) -> None:
    """Measure an answer, of which every metric must get a number."""
    parts = parts_of(task, example, answer)
    for name in task.metrics if not isinstance(task, ClassificationTask) else ("accuracy",):
        if isinstance(task, MultipleChoiceTask) or name in parts:
            numbers = parts[name].columns
            require(
                not finite or all(map(math.isfinite, numbers)),
                f"measure() brings {numbers} to '{name}' of the answer {told}. Bring finite numbers.",
            )
        else:
            require(False, f"measure() brings nothing to '{name}' of the answer {told}. Bring a part to each metric.")


def parts_of(task: Any, example: Example, answer: Any) -> Mapping[str, Any]:
    """Return what an answer brings to each measure."""
    parts: Mapping[str, Any] = task.measure(example, answer)
    return parts


def _outputs(task: HeadTask, examples: Sequence[Example]) -> int:
    return max(len(each.choices) for each in examples) if isinstance(task, MultipleChoiceTask) else task.outputs


def gold_answers(task: Task, examples: Sequence[Example]) -> list[list[Any]]:
    """Return the right answers to examples, in each of the ways in which the task can be answered."""
    import numpy as np

    found: list[list[Any]] = []
    if isinstance(task, MeasuredTask):
        goals = task.goals([str(example.target) for example in examples])
        if task.loss == "choice":
            logits = np.where(np.arange(_outputs(task, examples)) == goals[:, None], SURE, -SURE)
        else:
            logits = goals.reshape(len(examples), -1) if task.loss == "squared" else (2 * goals - 1) * SURE
        found.append(list(task.decode(logits.astype(np.float32))))
    if isinstance(task, SpanTask):
        # Where nothing is right, no answer is.
        spans = [next(iter(task.right(example)), Span("", 0)) for example in examples]
        found.append([SpanAnswer(each.text, each.start, each.end, 1.0, ()) for each in spans])
    elif isinstance(task, TextToTextTask):
        found.append([[str(example.target)] for example in examples])
    elif isinstance(task, MultipleChoiceTask | ClassificationTask):
        found.append([_likeliest(task, example) for example in examples])
    elif isinstance(task, ClozeTask | LanguageModelingTask):
        found.append([[LogLikelihood(0.0, True, 1)] for _ in examples])
    return found


def _likeliest(task: MultipleChoiceTask | ClassificationTask, example: Example) -> list[LogLikelihood]:
    labels = task.labels if isinstance(task, ClassificationTask) else tuple(map(str, range(len(example.choices))))
    return [LogLikelihood(-1.0 if label == example.target else -SURE * 100, False, 1) for label in labels]


def _gold_labels_score_best(fixture: TaskFixture, task: ClassificationTask, examples: Sequence[Example]) -> None:
    import numpy as np

    from gpt_tasks.metrics.intervals import compute

    places = task.goals([str(example.target) for example in examples])
    logits = np.where(np.arange(task.outputs) == places[:, None], SURE, -SURE).astype(np.float32)
    answers = task.decode(logits)
    require(
        [answer.label for answer in answers] == [example.target for example in examples],
        "decode() answers other labels than the logits are highest for. Labels stand in the order of `labels`.",
    )
    probabilities = np.array([[answer.probabilities[label] for label in task.labels] for answer in answers])
    for name in task.metrics:
        metric = fixture.plugins.registry.metrics[name]
        right, wrong = (
            compute(metric, (places, given, _rolled(probabilities, shift), task.labels))
            for shift, given in ((0, places), (1, (places + 1) % task.outputs))
        )
        best = 1.0 if name in _UNIT else 0.0 if name == "ece" else None
        _is_best(name, right, best)
        require(
            right >= wrong if metric.better == "higher" else right <= wrong,
            f"Metric '{name}' is {right:.4g} of right answers and {wrong:.4g} of wrong ones, and says that "
            f"{metric.better} is better. Fix its function, or `better`.",
        )


def _rolled(probabilities: numpy.ndarray, shift: int) -> numpy.ndarray:
    import numpy as np

    return np.roll(probabilities, shift, axis=1)


def _figure(measure: Measure, brought: Sequence[Mapping[str, Any]]) -> float:
    from gpt_tasks.scoring.results import figure

    return figure(measure, [parts[measure.name] for parts in brought]).value


def _best(measure: Measure) -> float | None:
    """Return the best value that a measure can have, as far as it can be told."""
    if measure.highest is not None and measure.better == "higher":
        return measure.highest
    if measure.form == "exponential":
        return 1.0
    if measure.better == "lower":
        return 0.0
    return 1.0 if measure.form in ("correlation", "micro_f1", "macro_f1") or measure.name in _UNIT else None


def _is_best(name: str, value: float, best: float | None) -> None:
    if math.isnan(value):
        raise SkipError(f"'{name}' has no value for the rows.")
    require(
        best is None or math.isclose(value, best, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE),
        f"Right answers get {value:.4g} of '{name}', whose best is {best}. measure() must compare an answer with "
        "the target as it stands in the example, and decode() must answer what the logits say.",
    )
