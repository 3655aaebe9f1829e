"""What does the model write in answer?"""

from gpt_tasks import TextToTextTask, hookimpl


class TextToText(TextToTextTask):
    """Write an answer, and compare it with the reference."""

    name = "text-to-text"


@hookimpl
def register_tasks() -> list[TextToText]:
    """Register the task."""
    return [TextToText()]
