"""Which labels does a text bear: none, one or several?"""

from gpt_tasks import MultiLabelTask, hookimpl


class Tagging(MultiLabelTask):
    """Give texts all the labels that are right for them."""

    name = "tagging"


@hookimpl
def register_tasks() -> list[Tagging]:
    """Bring the task."""
    return [Tagging()]
