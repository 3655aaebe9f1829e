"""`gpt-tasks evaluate`: what a run scores on labelled data, or a model without training."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import typer

from gpt_tasks.cli.arguments import Column, DecodingSettings, Device, Json
from gpt_tasks.cli.flags import pairs
from gpt_tasks.cli.output import answering, first_process
from gpt_tasks.errors import UsageError
from gpt_tasks.plugins import installed_plugins
from gpt_tasks.tasks.classification import ClassificationTask
from gpt_tasks.tasks.untrained import UntrainedTask

app = typer.Typer(name="evaluate", rich_markup_mode=None, add_completion=False)


@app.command("evaluate")
def evaluate_run(
    *,
    run: Annotated[
        str,
        typer.Argument(
            help="The folder of a finished run; with --task a preset, a folder or a hub id.",
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
        str | None, typer.Option(help="Evaluate every value of this column by itself, too.", metavar="COLUMN")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="A folder for the report, the predictions and the plots.", metavar="DIR")
    ] = None,
    column: Column = None,
    task: Annotated[
        str | None, typer.Option(help="Ask the model as it is, without training, about this task.", metavar="TASK")
    ] = None,
    shots: Annotated[int, typer.Option(help="With --task: examples before each one.", min=0)] = 0,
    shots_sampler: Annotated[
        Literal["random", "fixed"],
        typer.Option(help="With --task. random: for each example anew. fixed: once for all."),
    ] = "random",
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="With --task: divide by what it says of inputs without content.")
    ] = False,
    question: Annotated[
        str | None, typer.Option(help="With --task: how an example reads before its label.", metavar="TEXT")
    ] = None,
    label_word: Annotated[
        list[str] | None,
        typer.Option(
            help="With --task: the word that stands for a label. Repeatable.", metavar="LABEL=WORD", show_default=False
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            help="With --task: an option of the task, as in target_language=zh. Repeatable.",
            metavar="NAME=VALUE",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="With --task: draws the shots.", min=0)] = 1234,
    device: Device = "auto",
    precision: Annotated[
        Literal["auto", "float32", "bf16", "int8"] | None,
        typer.Option(
            help="Default: auto, which is bf16 where that is native; with --task float32. int8: on a CPU, for a run "
            "that writes."
        ),
    ] = None,
    decoding: DecodingSettings = None,
    as_json: Json = False,
) -> None:
    """Evaluate a run on labelled data, beside its baselines; or, with --task, a model without any training."""
    from gpt_tasks.evaluation.tables import print_report

    columns = pairs(column or [], "--column")
    words = pairs(label_word or [], "--label-word")
    if task is None:
        if shots or calibrate or question is not None or words or option:
            raise UsageError(
                "--shots, --calibrate, --question, --label-word and --option are for --task", "Give --task TASK too."
            )
        from gpt_tasks.training.run import load

        with answering(as_json) as answer:
            loaded = load(
                run, device=device, precision=precision or "auto", decoding=pairs(decoding or [], "--decoding")
            )
            report = loaded.evaluate(data, split=split, by=by, column=columns, output=output)
            answer({**report.to_json(), "run": run})
        if not as_json:
            print_report(report)
        return
    if decoding:
        raise UsageError("--decoding is for a run", "Without training, answers are written greedily: leave it out.")
    from gpt_tasks.training.config import validated

    plugins = installed_plugins()
    chosen = plugins.registry.tasks[task].untrained()
    if isinstance(chosen, UntrainedTask):
        if calibrate or question is not None or words or by:
            raise UsageError(
                f"Task '{task}' compares no labels: --calibrate, --question, --label-word and --by are not for it",
                "Give --option prompt=TEXT for another prompt, or write a suite: see docs/suites.md.",
            )
        asked = chosen.configured(validated(chosen.Options, pairs(option or [], "--option")))
        _score(run, asked, data, split, columns, shots, shots_sampler, seed, device, precision, output, as_json)
        return
    if option:
        raise UsageError(f"--option is not for task '{task}'", "Give --question and --label-word.")
    if not isinstance(chosen, ClassificationTask):
        raise UsageError(f"Task '{task}' cannot be asked of a model without training", "Fine-tune one to it.")
    from gpt_tasks.scoring.untrained import evaluate_untrained

    with answering(as_json) as answer:
        report = evaluate_untrained(
            run,
            chosen,
            data,
            plugins,
            split=split,
            shots=shots,
            sampler=shots_sampler,
            seed=seed,
            calibrated=calibrate,
            question=question,
            label_words=words,
            by=by,
            column=columns,
            output=output,
            device=device,
            precision=precision or "float32",
        )
        answer({**report.to_json(), "model": run})
    if not as_json and first_process():
        print_report(report)


def _score(
    model: str,
    task: UntrainedTask,
    data: str,
    split: str | None,
    columns: Mapping[str, str],
    shots: int,
    sampler: Literal["random", "fixed"],
    seed: int,
    device: str,
    precision: str | None,
    output: Path | None,
    as_json: bool,
) -> None:
    from gpt_tasks.cli.score import show_scores
    from gpt_tasks.scoring.score import score
    from gpt_tasks.scoring.suites import single_task

    with answering(as_json) as answer, tempfile.TemporaryDirectory(prefix="gpt-tasks-") as scratch:
        scores, folder = score(
            model,
            single_task(task, data, split=split, shots=shots, columns=columns),
            shots_sampler=sampler,
            seed=seed,
            device=device,
            precision=precision or "float32",
            output=output or Path(scratch),
            say=lambda line: print(line, file=sys.stderr),
        )
        answer({**scores.to_json(), "folder": None if output is None else str(folder)})
    if not as_json and first_process():
        show_scores(scores, output)
