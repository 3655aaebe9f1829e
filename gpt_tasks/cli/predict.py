"""`gpt-tasks predict`: what a run answers to texts, to a file, or to the lines of stdin."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from gpt_tasks.cli.arguments import Column, DecodingSettings, Device, Json, RunPath, WritingPrecision
from gpt_tasks.cli.flags import pairs
from gpt_tasks.cli.output import answering, show_predictions
from gpt_tasks.errors import UsageError
from gpt_tasks.files import atomic_write
from gpt_tasks.types import Example

app = typer.Typer(name="predict", rich_markup_mode=None, add_completion=False)


@app.command("predict")
def predict_texts(
    *,
    run: RunPath,
    texts: Annotated[
        list[str] | None, typer.Argument(help="Texts to answer.", metavar="TEXT", show_default=False)
    ] = None,
    source: Annotated[
        str | None,
        typer.Option("--input", help="A file to answer, or - for stdin, one text a line.", metavar="FILE"),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Where the answers to --input go, instead of stdout.", metavar="FILE")
    ] = None,
    column: Column = None,
    device: Device = "auto",
    precision: WritingPrecision = "auto",
    decoding: DecodingSettings = None,
    as_json: Json = False,
) -> None:
    """Answer texts: with a label and the probability of every one, or in the model's own words.

    Texts are answered in a table, or with --json in one object; a file is answered with one JSON object a line.
    """
    if bool(texts) == bool(source):
        raise UsageError("predict: what to answer?", "Give texts, or a file with --input, and not both.")
    for name, value in (("--output", output), ("--column", column)):
        if texts and value:
            raise UsageError(f"{name} belongs to --input", "Give a file with --input.")
    if source and as_json:
        raise UsageError("--json belongs to texts", "Leave it out: the answers to --input are JSON lines as they are.")
    if output and (output.is_dir() or not output.parent.is_dir()):
        raise UsageError(f"--output {output} cannot be a file", "Give a file in a folder that is there.")

    from gpt_tasks.training.run import load, predictions_as_json

    with answering(as_json) as answer:
        loaded = load(run, device=device, precision=precision, decoding=pairs(decoding or [], "--decoding"))
        if source and source != "-":
            rows = loaded.predict_rows(source, column=pairs(column or [], "--column"))
            lines = predictions_as_json(rows, loaded.task)
            _write(lines, output)
            return
        given = texts or [line.rstrip("\r\n") for line in sys.stdin]
        answered = list(zip(given, loaded.predict(given), strict=True))
        lines = predictions_as_json((Example({"text": text}, None, ""), answer) for text, answer in answered)
        if source:
            _write(lines, output)
        elif as_json:
            answer({"run": str(run), "predictions": [json.loads(line) for line in lines]})
        else:
            show_predictions(answered)


def _write(lines: Iterable[str], output: Path | None) -> None:
    """Write lines to stdout, or to a file that is there as a whole or not at all."""
    if output is None:
        for line in lines:
            print(line)
        return
    with atomic_write(output) as file:
        file.writelines(f"{line}\n" for line in lines)
