"""What does this text say, in a sentence or two?"""

from collections.abc import Mapping

from gpt_tasks import ROUGE, Example, TextToTextTask, first_words, hookimpl, rouge


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
        return {"first_words": first_words(example.inputs["document"], str(example.target))}


@hookimpl
def register_tasks() -> list[Summarization]:
    """Register the task."""
    return [Summarization()]
