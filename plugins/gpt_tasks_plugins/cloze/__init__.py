"""Would the model end this text the same way?"""

from gpt_tasks import ClozeTask, hookimpl


class Cloze(ClozeTask):
    """Predict the ending of a text."""

    name = "cloze"


@hookimpl
def register_tasks() -> list[Cloze]:
    """Register the task."""
    return [Cloze()]
