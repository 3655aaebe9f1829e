"""Is this text negative or positive about what it speaks of?"""

from gpt_tasks import ClassificationTask, hookimpl


class Sentiment(ClassificationTask):
    """Tell negative from positive reviews and remarks."""

    name = "sentiment"
    labels = ("negative", "positive")
    question = "Review: {text}\nSentiment:"


@hookimpl
def register_tasks() -> list[Sentiment]:
    """Register the task."""
    return [Sentiment()]
