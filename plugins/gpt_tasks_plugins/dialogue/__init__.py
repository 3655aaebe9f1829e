"""What does the assistant say next?"""

from gpt_tasks import DialogueTask, hookimpl


class Dialogue(DialogueTask):
    """Answer a user, turn by turn."""

    name = "dialogue"


@hookimpl
def register_tasks() -> list[Dialogue]:
    """Register the task."""
    return [Dialogue()]
