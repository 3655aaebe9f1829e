"""How similar in meaning are two texts?"""

from typing import ClassVar

from gpt_tasks import DELIMITER, RegressionTask, hookimpl


class Similarity(RegressionTask):
    """Score how similar in meaning two texts are; their order does not matter."""

    name = "similarity"
    columns: ClassVar = {"text_a": "text_a", "text_b": "text_b", "score": "score"}
    prompt = f"{{text_a}}{DELIMITER}{{text_b}}"
    symmetric = True


@hookimpl
def register_tasks() -> list[Similarity]:
    """Register the task."""
    return [Similarity()]
