"""`gpt-tasks predict`: what a run, or a model without training, answers to texts, to a file, or to lines of stdin."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

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
from gpt_tasks.cli.flags import listed, pairs
from gpt_tasks.cli.input import stdin_text
from gpt_tasks.cli.output import answering
from gpt_tasks.cli.strict import given, refuse_given
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
from gpt_tasks.errors import UsageError
from gpt_tasks.generation.decoding import Decoding
from gpt_tasks.paths import user_path
from gpt_tasks.progress import counted
from gpt_tasks.shown import as_json as printable
from gpt_tasks.shown import print_table
from gpt_tasks.types import Row

app = typer.Typer(name="predict", rich_markup_mode=None, add_completion=False)


@app.command("predict")
def predict_texts(
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
    texts: Annotated[
        list[str] | None, typer.Argument(help="Texts to answer.", metavar="TEXT", show_default=False)
    ] = None,
    source: Annotated[
        str | None,
        typer.Option("--input", help="A file to answer; of a .txt every line, as of - for stdin.", metavar="FILE"),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="A .csv, .tsv, .jsonl, .xlsx or .parquet for the rows of --input with their answers; - for stdout.",
            metavar="FILE",
        ),
    ] = None,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="With --output: all there is of an answer, as columns.")
    ] = False,
    top_k: Annotated[
        int,
        typer.Option(help="So many labels, the answer first, in the table or as columns of --output.", min=1),
    ] = 1,
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
    chat_template: ChatTemplate = None,
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

    Texts are answered in a table, or with --json in one object; a file is answered with one JSON object a line, or
    with --output in a file, whose columns are those of the input and what was answered. With --skip-invalid a row that
    cannot be used has null for its answer, and a reason.
    """
    if bool(texts) == bool(source):
        raise UsageError("predict: what to answer?", "Give texts, or a file with --input, and not both.")
    asked = Asked(task, shots, shots_sampler, seed, calibrate, chat_template, question, label_word or [], option or [])
    _refuse_useless(context, asked, source, data)

    from gpt_tasks.evaluation.answer_files import AnswerColumns, check_answer_file, predictions_as_json, write_answers
    from gpt_tasks.evaluation.answering import given_example

    if output is not None:
        output = user_path(output, "--output")
        check_answer_file(output, [source, data, run])
    columns = pairs(column or [], "--column")
    with answering(as_json) as answer:
        settings = listed(Decoding, decoding or [], "--decoding")
        model = open_model(
            run,
            asked,
            device,
            precision,
            settings,
            columns=columns,
            data=data,
            encoding=encoding,
            skip_invalid=skip_invalid,
            verify=not no_verify,
        )
        skips = skip_invalid and source not in (None, "-")
        if source and source != "-":
            # With --data the columns are those of the examples there too.
            given_columns = columns if data is None else {}
            answered = model.answered_rows(source, column=given_columns, encoding=encoding, skip_invalid=skip_invalid)
        else:
            asked_texts = texts or [line.rstrip("\r\n") for line in io.StringIO(stdin_text())]
            predictions = model.predict(asked_texts)
            examples = [
                given_example(model.task, text, f"text {place}") for place, text in enumerate(asked_texts, start=1)
            ]
            rows = [Row(example.inputs, example.where) for example in examples]
            answered = zip(rows, examples, predictions, strict=True)
        answered = counted(answered, "answers", show=task is None and not (sys.stdout.isatty() and output is None))
        if output:
            shown = AnswerColumns(probabilities, top_k, reason=skips)
            write_answers(output, answered, model.task, shown)
        elif texts and not as_json:
            cells = AnswerColumns(top_k=top_k)
            table = [
                {**_shown(cells.of(model.task, example, each)), "text": text}
                if top_k > 1
                else model.task.table_row(text, each)
                for text, example, each in zip(asked_texts, examples, predictions, strict=True)
            ]
            free = [name for name in table[0] if name in ("text", "answer")]
            print_table(tuple(table[0]), [tuple(row.values()) for row in table], texts=free)
        else:
            rows_and_answers = ((example, prediction) for _, example, prediction in answered)
            lines = predictions_as_json(rows_and_answers, model.task, reason=skips)
            if as_json:
                answer({"run" if task is None else "model": run, "predictions": [json.loads(line) for line in lines]})
            else:
                for line in lines:
                    print(printable(line))


def _shown(columns: Mapping[str, Any]) -> dict[str, str]:
    """Return an answer's columns as the cells of a table; what is a number in them is a probability."""
    return {name: f"{value:.1%}" if isinstance(value, float) else str(value) for name, value in columns.items()}


def _refuse_useless(context: typer.Context, asked: Asked, source: str | None, data: str | None) -> None:
    """Raise UsageError for a flag that is given and has no effect."""
    if source is None:
        refuse_given(context, ["output"], "belongs to --input", "Give a file with --input.")
    else:
        hint = "Leave it out: the answers to --input are JSON lines already."
        refuse_given(context, ["as_json"], "belongs to texts", hint)
    if source in (None, "-") and data is None:
        refuse_given(context, ["encoding", "skip_invalid"], "belongs to --input with a file", "Leave it out.")
        refuse_given(context, ["column"], "belongs to --input with a file of columns", "Give one, or leave it out.")
    if not given(context, ["output"]):
        hint = "Give --output, or read the JSON lines, which hold all there is."
        refuse_given(context, ["probabilities"], "is for the columns of --output", hint)
        if source is not None or given(context, ["as_json"]):
            refuse_given(context, ["top_k"], "is for a table, or the columns of --output", hint)
    refuse_useless(context, asked, ["data", "option", *FOR_TASK], ["shots_sampler", "seed"])
