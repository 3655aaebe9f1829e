"""How likely is this text?"""

from gpt_tasks import LanguageModelingTask, hookimpl


class LanguageModeling(LanguageModelingTask):
    """Measure how likely whole texts are. What trains on texts is `generation`."""

    name = "language-modeling"
    trains = False


@hookimpl
def register_tasks() -> list[LanguageModeling]:
    """Bring the task."""
    return [LanguageModeling()]
