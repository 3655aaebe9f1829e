"""Would the model end this text as it was ended?"""

from gpt_tasks import ClozeTask, hookimpl


class Cloze(ClozeTask):
    """Foretell the ending of a text."""

    name = "cloze"


@hookimpl
def register_tasks() -> list[Cloze]:
    """Register the task."""
    return [Cloze()]
