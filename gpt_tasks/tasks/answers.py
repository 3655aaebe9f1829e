"""What a model can answer, as JSON and as a line to be read."""

from __future__ import annotations

from typing import Any

from gpt_tasks.types import MultiLabelPrediction, Prediction, SpanAnswer

Answer = Prediction | MultiLabelPrediction | SpanAnswer | float | str
"""One of several labels, all that are right, a stretch of a context, a number, or a text."""


def answer_as_json(answer: Answer) -> dict[str, Any]:
    """Return an answer as JSON values; labels stand with the probability of every one."""
    if isinstance(answer, Prediction | MultiLabelPrediction):
        label = answer.label if isinstance(answer, Prediction) else list(answer.labels)
        probabilities = {label: round(p, 6) for label, p in answer.probabilities.items()}
        return {"predicted": label, "probabilities": probabilities}
    if isinstance(answer, SpanAnswer):
        return {**_span(answer), "n_best": [_span(candidate) for candidate in answer.candidates]}
    return {"predicted": round(answer, 6) if isinstance(answer, float) else answer}


def answer_as_text(answer: Answer) -> str:
    """Return an answer as a line, without probabilities; a dash where no label is given."""
    if isinstance(answer, MultiLabelPrediction):
        return ", ".join(answer.labels) or "-"
    if isinstance(answer, Prediction):
        return answer.label
    if isinstance(answer, SpanAnswer):
        return answer.text or "-"
    return f"{answer:.3g}" if isinstance(answer, float) else answer


def _span(answer: SpanAnswer) -> dict[str, Any]:
    told = {"predicted": answer.text, "start": answer.start, "end": answer.end}
    return {**told, "probability": round(answer.probability, 6)}
