"""Which labels does a text have: none, one or several?"""

from gpt_tasks import MultiLabelTask, hookimpl


class MultiLabel(MultiLabelTask):
    """Assign to texts all the labels that apply."""

    name = "multi-label"
    former_names = ("tagging",)


@hookimpl
def register_tasks() -> list[MultiLabel]:
    """Register the task."""
    return [MultiLabel()]
