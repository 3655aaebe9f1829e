"""The flags of zero-shot evaluation, and the model that a command opens."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from gpt_tasks.cli.flags import listed, pairs
from gpt_tasks.cli.strict import refuse_given
from gpt_tasks.errors import UsageError
from gpt_tasks.plugins import installed_plugins
from gpt_tasks.scoring.shots import Sampler

if TYPE_CHECKING:
    from gpt_tasks.evaluation.answering import AnsweringModel

ZeroShotTask: TypeAlias = Annotated[
    str | None,
    typer.Option("--task", help="Prompt the model for this task without training it.", metavar="TASK"),
]
Shots: TypeAlias = Annotated[int, typer.Option(help="With --task: few-shot examples before each one.", min=0)]
ShotsSampler: TypeAlias = Annotated[
    Sampler,
    typer.Option(
        help="With --task. random: for each example anew. fixed: once for all. similar: the nearest by their words."
    ),
]
ShotsSeed: TypeAlias = Annotated[int, typer.Option(help="With --task: draws the shots.", min=0)]
Calibrate: TypeAlias = Annotated[
    bool,
    typer.Option("--calibrate", help="With --task: divide by the probabilities after inputs without content."),
]
ChatTemplate: TypeAlias = Annotated[
    bool | None,
    typer.Option(
        help="With --task: ask by the model's chat template. Default: where that answers more training rows right.",
        show_default=False,
    ),
]
Question: TypeAlias = Annotated[
    str | None, typer.Option(help="With --task: how an example reads before its label.", metavar="TEXT")
]
LabelWord: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(help="With --task: the word for a label. Repeatable.", metavar="LABEL=WORD", show_default=False),
]
TaskOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        help="An option of the task, as in target_language=zh; of a run that is evaluated, one that says how data are "
        "read, as in answers=from-1. Repeatable.",
        metavar="NAME=VALUE",
        show_default=False,
    ),
]


@dataclass(frozen=True)
class Asked:
    """The flags of a model that is prompted without training."""

    task: str | None
    shots: int
    sampler: Sampler
    seed: int
    calibrate: bool
    chat_template: bool | None
    question: str | None
    label_words: Sequence[str]
    options: Sequence[str]


FOR_TASK = ("shots", "shots_sampler", "seed", "calibrate", "chat_template", "question", "label_word")


def refuse_useless(context: typer.Context, asked: Asked, for_task: Collection[str], for_shots: Collection[str]) -> None:
    """Raise UsageError for a flag that is given and has no effect: one of --task, of few-shot examples, of a run."""
    if asked.task is None:
        refuse_given(context, for_task, "is for --task", "Give --task TASK too.")
        return
    refuse_given(context, ["decoding"], "is for a run", "Without training, answers are written greedily: leave it out.")
    if not asked.shots:
        refuse_given(context, for_shots, "draws few-shot examples, and there are none", "Give --shots.")


def open_model(
    model: str,
    asked: Asked,
    device: str,
    precision: str | None,
    decoding: Mapping[str, Any],
    *,
    columns: Mapping[str, str],
    data: str | None = None,
    encoding: str | None = None,
    skip_invalid: bool = False,
    verify: bool = True,
) -> AnsweringModel:
    """Open a finished run, or with --task a model that is prompted without training; `data` holds few-shot examples.

    `data` is read in `encoding`; with `skip_invalid` rows of it that cannot be used are left out. Without `verify` the
    files of a run are not checked.
    """
    if asked.task is None:
        from gpt_tasks.training.run import load

        how: dict[str, Any] = {"device": device, "precision": precision or "auto", "decoding": decoding}
        return load(model, **how, options=pairs(asked.options, "--option", "NAME=VALUE"), verify=verify)
    from gpt_tasks.evaluation.zero_shot import zero_shot

    task = installed_plugins().registry.tasks[asked.task].zero_shot()
    if data is not None and not asked.shots and ("labels" not in task.Options.model_fields or task.labels):
        raise UsageError(
            f"--data {data} has no effect: task '{task.name}' takes no labels from it, and there are no shots",
            "Give --shots, or leave it out.",
        )
    return zero_shot(
        model,
        task,
        shots=asked.shots,
        data=data,
        sampler=asked.sampler,
        seed=asked.seed,
        calibrated=asked.calibrate,
        chat_template=asked.chat_template,
        question=asked.question,
        label_words=pairs(asked.label_words, "--label-word", "LABEL=WORD, as in positive=good"),
        column=columns,
        options=listed(task.Options, asked.options, "--option"),
        device=device,
        precision=precision or "float32",
        verify=verify,
        encoding=encoding,
        skip_invalid=skip_invalid,
    )
