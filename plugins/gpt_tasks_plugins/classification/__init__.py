"""Which of several labels does this text, or this pair of texts, bear?"""

from gpt_tasks import DELIMITER, ClassificationTask, hookimpl


class Classification(ClassificationTask):
    """Sort texts, or pairs of texts, by labels of your own."""

    name = "classification"
    pair_prompt = f"{{text_a}}{DELIMITER}{{text_b}}"


@hookimpl
def register_tasks() -> list[Classification]:
    """Register the task."""
    return [Classification()]
