"""Is this text negative or positive about what it speaks of?"""

from gpt_tasks import ClassificationTask, hookimpl


class Sentiment(ClassificationTask):
    """Classify reviews and remarks as negative or positive."""

    name = "sentiment"
    labels = ("negative", "positive")
    question = "Review: {text}\nSentiment:"


@hookimpl
def register_tasks() -> list[Sentiment]:
    """Register the task."""
    return [Sentiment()]
