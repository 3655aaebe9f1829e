"""Short names for two more backbones: one of the hub, and one on a shelf of your own."""

import os

from gpt_tasks import BackbonePreset, UsageError, hookimpl

GPT_TASKS_HOOKS = 1


def on_the_hub():
    return "distilbert/distilgpt2"


def on_the_shelf():
    if "GPT_SHELF" not in os.environ:
        raise UsageError("--backbone shelf: GPT_SHELF is not set", "Set it to the folder that holds the model.")
    return os.environ["GPT_SHELF"]


@hookimpl
def register_backbones():
    return [
        BackbonePreset("distilgpt2", "DistilGPT-2: 82 M parameters, 1024 tokens of context", on_the_hub),
        BackbonePreset("shelf", "The model in the folder that GPT_SHELF names", on_the_shelf),
    ]
