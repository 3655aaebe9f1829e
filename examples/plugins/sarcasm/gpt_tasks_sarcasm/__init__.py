"""Is this headline sarcastic?"""

from gpt_tasks import ClassificationTask, hookimpl


class Sarcasm(ClassificationTask):
    """Distinguish sarcastic headlines from earnest ones."""

    name = "sarcasm"
    columns = {"text": "headline", "label": "is_sarcastic"}
    labels = ("earnest", "sarcastic")
    prompt = "Headline: {text}\nTone:"


@hookimpl
def register_tasks():
    return [Sarcasm()]
