"""`gpt-tasks evaluate`: what a run scores on labelled data, or a model without training."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from gpt_tasks.cli.arguments import Cluster, Column, DecodingSettings, Device, Encoding, Json, NoVerify, SkipInvalid
from gpt_tasks.cli.flags import listed, pairs
from gpt_tasks.cli.output import answering, first_process, tell_undrawn
from gpt_tasks.cli.zero_shot import (
    FOR_TASK,
    Asked,
    Calibrate,
    ChatTemplate,
    LabelWord,
    Question,
    Shots,
    ShotsSampler,
    ShotsSeed,
    TaskOption,
    ZeroShotTask,
    open_model,
    refuse_useless,
)
from gpt_tasks.generation.decoding import Decoding
from gpt_tasks.shown import tell

app = typer.Typer(name="evaluate", rich_markup_mode=None, add_completion=False)


@app.command("evaluate")
def evaluate_run(
    context: typer.Context,
    *,
    run: Annotated[
        str,
        typer.Argument(
            help="The folder of a finished run; with --task any model, as smollm2, FILE.gguf or openai:NAME.",
            metavar="RUN_OR_MODEL",
            show_default=False,
        ),
    ],
    data: Annotated[
        str, typer.Option(help="Labelled data: a file, a folder, or hf:OWNER/NAME.", metavar="SRC", show_default=False)
    ],
    split: Annotated[
        str | None, typer.Option(help="Which split of a source that has several. Default: test.", metavar="SPLIT")
    ] = None,
    by: Annotated[
        str | None, typer.Option(help="Also evaluate every value of this column separately.", metavar="COLUMN")
    ] = None,
    cluster: Cluster = None,
    output: Annotated[
        Path | None, typer.Option(help="A folder for the report, the predictions and the plots.", metavar="DIR")
    ] = None,
    column: Column = None,
    encoding: Encoding = None,
    skip_invalid: SkipInvalid = False,
    task: ZeroShotTask = None,
    shots: Shots = 0,
    shots_sampler: ShotsSampler = "random",
    calibrate: Calibrate = False,
    chat_template: ChatTemplate = None,
    question: Question = None,
    label_word: LabelWord = None,
    option: TaskOption = None,
    seed: ShotsSeed = 1234,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            help="A further metric: a registered one, or evaluate:NAME_OR_FOLDER. Repeatable.",
            metavar="NAME",
            show_default=False,
        ),
    ] = None,
    device: Device = "auto",
    precision: Annotated[
        Literal["auto", "float32", "bf16", "int8"] | None,
        typer.Option(
            help="Default: auto, which is bf16 where that is native; with --task float32. int8: on a CPU, for a run "
            "that writes."
        ),
    ] = None,
    decoding: DecodingSettings = None,
    no_verify: NoVerify = False,
    as_json: Json = False,
) -> None:
    """Evaluate a run on labelled data, next to its baselines; or, with --task, a model without any training."""
    from gpt_tasks.evaluation.tables import print_report

    asked = Asked(task, shots, shots_sampler, seed, calibrate, chat_template, question, label_word or [], option or [])
    # The seed draws the rows of the baselines, too.
    refuse_useless(context, asked, FOR_TASK, ["shots_sampler"])
    settings = listed(Decoding, decoding or [], "--decoding")
    with answering(as_json) as answer:
        columns = pairs(column or [], "--column")
        model = open_model(run, asked, device, precision, settings, columns=columns, verify=not no_verify)
        report = model.evaluate(
            data,
            split=split,
            by=by,
            cluster=cluster,
            column=columns,
            metrics=metric or (),
            encoding=encoding,
            skip_invalid=skip_invalid,
            output=output,
        )
        answer({**report.to_json(), "run" if task is None else "model": run})
    if not as_json and first_process():
        print_report(report)
        if report.verdict:
            tell(report.verdict, sys.stdout)
        if output is not None and report.confusion_matrix:
            from gpt_tasks.evaluation.plots import undrawn

            tell_undrawn(undrawn(report.labels), "confusion_matrix.png")
