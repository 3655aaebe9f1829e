"""The flags of zero-shot evaluation, and the model that a command opens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import typer

from gpt_tasks.cli.flags import listed, pairs
from gpt_tasks.errors import UsageError
from gpt_tasks.plugins import installed_plugins

if TYPE_CHECKING:
    from gpt_tasks.evaluation.answering import AnsweringModel

ZeroShotTask: TypeAlias = Annotated[
    str | None,
    typer.Option("--task", help="Prompt the model for this task without training it.", metavar="TASK"),
]
Shots: TypeAlias = Annotated[int, typer.Option(help="With --task: few-shot examples before each one.", min=0)]
ShotsSampler: TypeAlias = Annotated[
    Literal["random", "fixed"], typer.Option(help="With --task. random: for each example anew. fixed: once for all.")
]
ShotsSeed: TypeAlias = Annotated[int, typer.Option(help="With --task: draws the shots.", min=0)]
Calibrate: TypeAlias = Annotated[
    bool,
    typer.Option("--calibrate", help="With --task: divide by the probabilities after inputs without content."),
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
        help="With --task: an option of the task, as in target_language=zh. Repeatable.",
        metavar="NAME=VALUE",
        show_default=False,
    ),
]


@dataclass(frozen=True)
class Asked:
    """The flags of a model that is prompted without training."""

    task: str | None
    shots: int
    sampler: Literal["random", "fixed"]
    seed: int
    calibrate: bool
    question: str | None
    label_words: Sequence[str]
    options: Sequence[str]

    def refuse(self) -> None:
        """Raise UsageError where a flag is given that is for --task."""
        given = {
            "--shots": self.shots,
            "--shots-sampler": self.sampler != "random",
            "--seed": self.seed != 1234,
            "--calibrate": self.calibrate,
            "--question": self.question is not None,
            "--label-word": self.label_words,
            "--option": self.options,
        }
        for flag, value in given.items():
            if value:
                raise UsageError(f"{flag} is for --task", "Give --task TASK too.")


def open_model(
    model: str,
    asked: Asked,
    device: str,
    precision: str | None,
    decoding: Mapping[str, Any],
    *,
    columns: Mapping[str, str],
    data: str | None = None,
    verify: bool = True,
) -> AnsweringModel:
    """Open a finished run, or with --task a model that is prompted without training; `data` holds few-shot examples.

    Without `verify` the files of a run are not checked.
    """
    if asked.task is None:
        asked.refuse()
        from gpt_tasks.training.run import load

        return load(model, device=device, precision=precision or "auto", decoding=decoding, verify=verify)
    if decoding:
        raise UsageError("--decoding is for a run", "Without training, answers are written greedily: leave it out.")
    from gpt_tasks.evaluation.zero_shot import zero_shot

    task = installed_plugins().registry.tasks[asked.task].zero_shot()
    return zero_shot(
        model,
        task,
        shots=asked.shots,
        data=data,
        sampler=asked.sampler,
        seed=asked.seed,
        calibrated=asked.calibrate,
        question=asked.question,
        label_words=pairs(asked.label_words, "--label-word"),
        column=columns,
        options=listed(task.Options, asked.options, "--option"),
        device=device,
        precision=precision or "float32",
        verify=verify,
    )
