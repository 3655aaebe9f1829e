"""What does this text say, in a sentence or two?"""

from gpt_tasks import TextToTextTask, hookimpl
from gpt_tasks.tasks.text_measures import ROUGE, rouge


class Summarization(TextToTextTask):
    """Say in short what a text says."""

    name = "summarization"
    prompt = "{document}\nTL;DR:"
    answer = " {summary}"
    measures = tuple(map(rouge, ROUGE))
    metrics = ROUGE


@hookimpl
def register_tasks() -> list[Summarization]:
    """Bring the task."""
    return [Summarization()]
