"""Write like these texts."""

from gpt_tasks import LanguageModelingTask, hookimpl


class Generation(LanguageModelingTask):
    """Write as these texts are written: plain .txt, or rows of texts."""

    name = "generation"
    metrics = ("perplexity", "word_perplexity", "bits_per_byte")


@hookimpl
def register_tasks() -> list[Generation]:
    """Register the task."""
    return [Generation()]
