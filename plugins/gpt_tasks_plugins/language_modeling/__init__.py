"""How likely is this text?"""

from gpt_tasks import LanguageModelingTask, hookimpl


class LanguageModeling(LanguageModelingTask):
    """Measure how likely whole texts are. What trains on texts is `generation`."""

    name = "language-modeling"
    learner = None


@hookimpl
def register_tasks() -> list[LanguageModeling]:
    """Register the task."""
    return [LanguageModeling()]
