"""`gpt-tasks predict`: what a run, or a model without training, answers to texts, to a file, or to lines of stdin."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from gpt_tasks.cli.arguments import (
    Column,
    DecodingSettings,
    Device,
    Encoding,
    Json,
    NoVerify,
    SkipInvalid,
    WritingPrecision,
)
from gpt_tasks.cli.flags import pairs
from gpt_tasks.cli.output import answering, show_table
from gpt_tasks.cli.zero_shot import (
    Asked,
    Calibrate,
    LabelWord,
    Question,
    Shots,
    ShotsSampler,
    ShotsSeed,
    TaskOption,
    ZeroShotTask,
    open_model,
)
from gpt_tasks.errors import UsageError
from gpt_tasks.files import atomic_write

app = typer.Typer(name="predict", rich_markup_mode=None, add_completion=False)


@app.command("predict")
def predict_texts(
    *,
    run: Annotated[
        str,
        typer.Argument(
            help="The folder of a finished run; with --task a preset, a folder, a hub id or openai:NAME.",
            metavar="RUN_OR_MODEL",
            show_default=False,
        ),
    ],
    texts: Annotated[
        list[str] | None, typer.Argument(help="Texts to answer.", metavar="TEXT", show_default=False)
    ] = None,
    source: Annotated[
        str | None,
        typer.Option("--input", help="A file to answer, or - for stdin, one text a line.", metavar="FILE"),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Write the answers to --input there, instead of stdout.", metavar="FILE")
    ] = None,
    column: Column = None,
    encoding: Encoding = None,
    skip_invalid: SkipInvalid = False,
    task: ZeroShotTask = None,
    data: Annotated[
        str | None,
        typer.Option(help="With --task: labelled data, from which few-shot examples and labels come.", metavar="SRC"),
    ] = None,
    shots: Shots = 0,
    shots_sampler: ShotsSampler = "random",
    calibrate: Calibrate = False,
    question: Question = None,
    label_word: LabelWord = None,
    option: TaskOption = None,
    seed: ShotsSeed = 1234,
    device: Device = "auto",
    precision: WritingPrecision | None = None,
    decoding: DecodingSettings = None,
    no_verify: NoVerify = False,
    as_json: Json = False,
) -> None:
    """Answer texts: with a label and the probability of every one, or in the model's own words.

    Texts are answered in a table, or with --json in one object; a file is answered with one JSON object a line. With
    --skip-invalid a row that cannot be used has null for its answer, and the reason beside it.
    """
    if bool(texts) == bool(source):
        raise UsageError("predict: what to answer?", "Give texts, or a file with --input, and not both.")
    of_input = {"--output": output, "--column": column, "--encoding": encoding, "--skip-invalid": skip_invalid}
    for name, value in of_input.items():
        if texts and value and not (name == "--column" and data):
            raise UsageError(f"{name} belongs to --input", "Give a file with --input.")
    if data is not None and task is None:
        raise UsageError("--data is for --task", "Give --task TASK too, or answer a file with --input.")
    if source and as_json:
        raise UsageError("--json belongs to texts", "Leave it out: the answers to --input are JSON lines already.")
    if output and (output.is_dir() or not output.parent.is_dir()):
        raise UsageError(f"--output {output} cannot be a file", "Give a file in a folder that is there.")

    from gpt_tasks.evaluation.answering import given_example, predictions_as_json

    asked = Asked(task, shots, shots_sampler, seed, calibrate, question, label_word or [], option or [])
    columns = pairs(column or [], "--column")
    with answering(as_json) as answer:
        settings = pairs(decoding or [], "--decoding")
        model = open_model(run, asked, device, precision, settings, columns=columns, data=data, verify=not no_verify)
        if source and source != "-":
            rows = model.predict_rows(source, column=columns, encoding=encoding, skip_invalid=skip_invalid)
            _write(predictions_as_json(rows, model.task), output)
            return
        given = texts or [line.rstrip("\r\n") for line in sys.stdin]
        predictions = model.predict(given)
        examples = [given_example(model.task, text, "") for text in given]
        lines = predictions_as_json(zip(examples, predictions, strict=True), model.task)
        if source:
            _write(lines, output)
        elif as_json:
            answer({"run" if task is None else "model": run, "predictions": [json.loads(line) for line in lines]})
        else:
            rows_shown = [model.task.table_row(text, each) for text, each in zip(given, predictions, strict=True)]
            show_table(tuple(rows_shown[0]), [tuple(row.values()) for row in rows_shown])


def _write(lines: Iterable[str], output: Path | None) -> None:
    """Write lines to stdout, or to a file that is written completely or not at all."""
    if output is None:
        for line in lines:
            print(line)
        return
    with atomic_write(output) as file:
        file.writelines(f"{line}\n" for line in lines)
