"""Which labels does a text bear: none, one or several?"""

from gpt_tasks import MultiLabelTask, hookimpl


class MultiLabel(MultiLabelTask):
    """Give texts all the labels that are right for them."""

    name = "multi-label"
    former_names = ("tagging",)


@hookimpl
def register_tasks() -> list[MultiLabel]:
    """Register the task."""
    return [MultiLabel()]
