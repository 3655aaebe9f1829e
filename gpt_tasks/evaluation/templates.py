"""Whether a model that is prompted without training is asked by its chat template."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import TYPE_CHECKING

from gpt_tasks.errors import DataError
from gpt_tasks.evaluation.asking import Prompting, ZeroShotPredictor
from gpt_tasks.scoring.prompting import Template, are_compared, chat_template
from gpt_tasks.tasks.base import Task
from gpt_tasks.types import Example, Prediction

if TYPE_CHECKING:
    from gpt_tasks.data.examples import Examples
    from gpt_tasks.scoring.responder import RegisteredResponder
    from gpt_tasks.scoring.scorer import Scorer

FEWEST_ROWS, MOST_ROWS = 20, 50
_NOT_APPLIED = "The model's chat template is not applied; --chat-template applies it."


def choose_template(
    prompting: Prompting,
    task: Task,
    responder: Scorer | RegisteredResponder,
    labelled: Examples | Sequence[Example],
    by: Callable[[Template | None], ZeroShotPredictor],
    *,
    model: str,
) -> tuple[Template | None, tuple[str, ...]]:
    """Return the chat template that a model is to be asked by, or None, and notes on it.

    Where the user has not said and the model has one, answers that are compared are tried both ways on at most 50
    `labelled` examples: the template is taken if more answers are right with it. Where there are less than 20 of them,
    or too few for the shots of each, and for answers that are written, it is left out. `by` makes what answers from the
    template; `model` is the name that the user gave. Raises ModelError where the user asks for one and there is none.
    """
    tokenizer, wanted = responder.tokenizer, prompting.chat_template
    if wanted is False or (wanted is None and not getattr(tokenizer, "chat_template", None)):
        return None, ()
    template = chat_template(tokenizer, model)
    if wanted:
        return template, ()
    tried = _tried(task, labelled, prompting.seed)
    if not tried:
        return None, (_NOT_APPLIED,)
    try:
        plain, chat = (_right(by(each), tried) for each in (None, template))
    except DataError:  # There are too few others for the shots of one of them.
        return None, (_NOT_APPLIED,)
    return template if chat > plain else None, (
        f"The model's chat template is {'' if chat > plain else 'not '}applied: of {len(tried)} training rows {chat} "
        f"are answered right with it, {plain} without it.",
    )


def _tried(task: Task, labelled: Examples | Sequence[Example], seed: int) -> list[Example]:
    """Return the examples to try; none where there are too few, or where answers are not compared."""
    if len(labelled) < FEWEST_ROWS or not are_compared(task.requests(labelled[0], "")):
        return []
    places = Random(seed).sample(range(len(labelled)), min(MOST_ROWS, len(labelled)))
    return [labelled[place] for place in sorted(places)]


def _right(predictor: ZeroShotPredictor, examples: Sequence[Example]) -> int:
    answers = predictor.predict(examples)
    return sum(
        isinstance(answer, Prediction) and answer.label == example.target
        for example, answer in zip(examples, answers, strict=True)
    )
