"""What in this text answers that question?"""

from gpt_tasks import SpanTask, hookimpl


class QuestionAnswering(SpanTask):
    """Find the answer to a question in a text, or that there is none."""

    name = "qa"


@hookimpl
def register_tasks() -> list[QuestionAnswering]:
    """Register the task."""
    return [QuestionAnswering()]
