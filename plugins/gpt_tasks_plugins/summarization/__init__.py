"""What does this text say, in a sentence or two?"""

from collections.abc import Mapping

from gpt_tasks import ROUGE, Example, TextToTextTask, hookimpl, rouge


class Summarization(TextToTextTask):
    """Summarize a text."""

    name = "summarization"
    prompt = "{document}\nTL;DR:"
    answer = " {summary}"
    own_metrics = tuple(map(rouge, ROUGE))
    metrics = ROUGE
    best_metric = "rougeL"

    def baselines(self, example: Example) -> Mapping[str, str]:
        """The first words of the text, as many as a summary has."""
        length = len(str(example.target).split())
        return {"first_words": " ".join(example.inputs["document"].split()[:length])}


@hookimpl
def register_tasks() -> list[Summarization]:
    """Register the task."""
    return [Summarization()]
