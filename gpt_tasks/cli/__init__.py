"""The command line. Its commands come through the hook, as a plugin's do, so that no plugin can take their names."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from gpt_tasks.cli import (
    chat,
    compare,
    evaluate,
    finetune,
    generate,
    list_names,
    lm_eval,
    new,
    plugins,
    predict,
    pretrain,
    score,
)
from gpt_tasks.hookspecs import hookimpl


@hookimpl
def register_commands() -> Sequence[typer.Typer]:
    """Register the commands of gpt-tasks itself."""
    return [
        finetune.app,
        evaluate.app,
        predict.app,
        pretrain.app,
        score.app,
        compare.app,
        generate.app,
        generate.next_app,
        chat.app,
        lm_eval.app,
        plugins.app,
        new.app,
        list_names.app,
    ]
