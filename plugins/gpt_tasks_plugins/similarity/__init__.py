"""How much do two texts mean the same?"""

from typing import ClassVar

from gpt_tasks import DELIMITER, RegressionTask, hookimpl


class Similarity(RegressionTask):
    """Say in numbers how much two texts mean the same; neither of them is the first."""

    name = "similarity"
    columns: ClassVar = {"text_a": "text_a", "text_b": "text_b", "score": "score"}
    prompt = f"{{text_a}}{DELIMITER}{{text_b}}"
    symmetric = True


@hookimpl
def register_tasks() -> list[Similarity]:
    """Register the task."""
    return [Similarity()]
