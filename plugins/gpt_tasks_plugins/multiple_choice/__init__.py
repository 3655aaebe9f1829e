"""Which of several texts is the best continuation?"""

from gpt_tasks import MultipleChoiceTask, hookimpl


class MultipleChoice(MultipleChoiceTask):
    """Choose the likeliest of several texts."""

    name = "multiple-choice"


@hookimpl
def register_tasks() -> list[MultipleChoice]:
    """Register the task."""
    return [MultipleChoice()]
