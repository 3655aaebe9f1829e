"""A suite that asks a model to count; its data are next to it."""

from pathlib import Path

from gpt_tasks import Suite, hookimpl

GPT_TASKS_HOOKS = 1


@hookimpl
def register_suites():
    return [Suite("counting", Path(__file__).with_name("counting.yaml"))]
