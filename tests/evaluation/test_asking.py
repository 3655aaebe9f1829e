"""Labels of a prompted model are calibrated by the mean of normalized probabilities after inputs without content."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest

from gpt_tasks.evaluation.asking import CONTENT_FREE, Prompting, ZeroShotPredictor
from gpt_tasks.plugins import installed_plugins
from gpt_tasks.scoring.responder import Responses
from gpt_tasks.types import Continuation, Example, LogLikelihood

# The probabilities of negative and positive after each text; the second one's are a hundred times as large.
SAID = {"N/A": (0.004, 0.001), "": (0.1, 0.4), "[MASK]": (0.003, 0.002), "Fine.": (0.02, 0.03)}


class Responder:
    """Answers with what is above."""

    def literal(self, example: Example) -> Example:
        return example

    def answer(self, requests: Sequence[Continuation], cache: Any = None) -> Responses:
        answers: list[Any] = []
        for request in requests:
            text = next(text for text in ("N/A", "[MASK]", "Fine.", "") if text in request.context)
            place = ["negative", "positive"].index(request.text.strip())
            answers.append(LogLikelihood(math.log(SAID[text][place]), False))
        return Responses(answers, [0] * len(answers))


def test_each_input_without_content_counts_alike() -> None:
    task = installed_plugins().registry.tasks["sentiment"].zero_shot()
    responder: Any = Responder()
    example = Example({"text": "Fine."}, None, "here:1")
    (found,) = ZeroShotPredictor(task, responder, (), Prompting(calibrated=True), own=False).predict([example])
    shares = [SAID[content][0] / sum(SAID[content]) for content in CONTENT_FREE]
    bias = sum(shares) / len(shares)
    expected = 0.4 / bias, 0.6 / (1 - bias)
    assert found.probabilities["negative"] == pytest.approx(expected[0] / sum(expected))
    # As the paper's code does, the second input would decide nearly alone.
    raw = [sum(SAID[content][label] for content in CONTENT_FREE) for label in (0, 1)]
    theirs = 0.4 / (raw[0] / sum(raw)), 0.6 / (raw[1] / sum(raw))
    assert found.probabilities["negative"] != pytest.approx(theirs[0] / sum(theirs), abs=0.1)
