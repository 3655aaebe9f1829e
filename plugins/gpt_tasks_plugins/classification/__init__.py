"""Which of several labels does this text, or this pair of texts, have?"""

from gpt_tasks import DELIMITER, ClassificationTask, hookimpl


class Classification(ClassificationTask):
    """Classify texts, or pairs of texts, by your own labels."""

    name = "classification"
    pair_prompt = f"{{text_a}}{DELIMITER}{{text_b}}"


@hookimpl
def register_tasks() -> list[Classification]:
    """Register the task."""
    return [Classification()]
