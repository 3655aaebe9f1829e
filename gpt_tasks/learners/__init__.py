"""How models are trained on families of tasks, and answer. A task names its learner, which is loaded when needed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from importlib import import_module
from typing import Any

from gpt_tasks.extensions import LearnerSpec
from gpt_tasks.hookspecs import hookimpl

_LEARNERS = {
    "classification": ("labels", "ClassificationLearner", "One of several labels, by a head."),
    "multi-label": ("labels", "MultiLabelLearner", "All labels that are right, by a head."),
    "regression": ("labels", "RegressionLearner", "A number, by a head."),
    "multiple-choice": ("choice", "MultipleChoiceLearner", "One of an example's choices, by a head."),
    "span": ("span", "SpanLearner", "A span of a context, by a head on its tokens."),
    "text-to-text": ("causal", "TextLearner", "A generated text, by the language model."),
    "language-modeling": ("causal", "LanguageModelingLearner", "Plain texts, by the language model."),
}


@hookimpl
def register_learners() -> Sequence[LearnerSpec]:
    """Return the learners of the built-in families."""
    return [
        LearnerSpec(name, description, partial(_load, module, kind))
        for name, (module, kind, description) in _LEARNERS.items()
    ]


def _load(module: str, kind: str) -> type[Any]:
    loaded: type[Any] = getattr(import_module(f"gpt_tasks.learners.{module}"), kind)
    return loaded
