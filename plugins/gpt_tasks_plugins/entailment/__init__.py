"""Does a text follow from another, contradict it, or neither?"""

from types import MappingProxyType
from typing import ClassVar

from gpt_tasks import DELIMITER, ClassificationTask, hookimpl


class Entailment(ClassificationTask):
    """Classify whether a hypothesis follows from a premise."""

    name = "entailment"
    columns: ClassVar = {"premise": "premise", "hypothesis": "hypothesis", "label": "label"}
    labels = ("entailment", "neutral", "contradiction")
    prompt = f"{{premise}}{DELIMITER}{{hypothesis}}"
    question = "{premise}\nQuestion: {hypothesis} True, False, or Neither?\nAnswer:"
    label_words = MappingProxyType({"entailment": "True", "neutral": "Neither", "contradiction": "False"})


@hookimpl
def register_tasks() -> list[Entailment]:
    """Register the task."""
    return [Entailment()]
