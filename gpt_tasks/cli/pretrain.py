"""`gpt-tasks pretrain`: train a backbone from raw text; its flags are made from the configuration."""

from __future__ import annotations

import sys
from typing import Any

import typer

from gpt_tasks.cli.flags import flag, flags, given, taking
from gpt_tasks.cli.output import answering, first_process
from gpt_tasks.pretraining.config import PretrainConfig
from gpt_tasks.shown import quoted, tell
from gpt_tasks.tasks.options import validated

app = typer.Typer(name="pretrain", rich_markup_mode=None, add_completion=False)


def _pretrain(**values: Any) -> None:
    from gpt_tasks.pretraining.pretrain import pretrain

    config = validated(PretrainConfig, given(PretrainConfig, values))
    with answering(values["json"]) as answer:
        measured = pretrain(config, say=tell)
        answer({**measured, "output": str(config.output)})
    if first_process() and not values["json"]:
        told = f"The model is in {config.output}. Use it: gpt-tasks finetune TASK --backbone {quoted(config.output)}"
        tell(told, sys.stdout)


app.command("pretrain", help="Train a backbone from raw text.")(
    taking(
        _pretrain,
        [
            *flags(PretrainConfig),
            flag("json", bool, "Print one JSON object on stdout, and nothing else there.", "--json", default=False),
        ],
    )
)
