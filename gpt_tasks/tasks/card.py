"""How a task describes its models: text for a model card, and what is shown of an example."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Display = tuple[Mapping[str, str], tuple[str, ...], str]
"""The inputs by field, the right answers, and the one given, each as text."""


@dataclass(frozen=True)
class TaskCard:
    """What a model card says of a task's models.

    `answers` names the kind of answer in a word ("label", "text"), `does` completes "A GPT that ..." and may name
    {task}, `limits` are sentences for users, `baselines` says what the model is compared with, `headline` is the metric
    to quote first. `pipeline_tag` is the hub's, `saved` what is in `model/` next to the language model, `input_example`
    an example of a field whose value is not a text.
    """

    answers: str = "answer"
    does: str = "answers {task}"
    limits: tuple[str, ...] = ()
    baselines: str = ""
    headline: str = ""
    pipeline_tag: str = "text-classification"
    saved: str = "the head (`head.safetensors`) and the task"
    input_example: Mapping[str, str] | None = None
