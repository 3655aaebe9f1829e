"""`gpt-tasks score`: a model on a suite."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gpt_tasks.cli.arguments import Cluster, Device, Json, NoVerify
from gpt_tasks.cli.output import answering, first_process
from gpt_tasks.shown import print_table, tell

if TYPE_CHECKING:
    from gpt_tasks.scoring.results import Scores

app = typer.Typer(name="score", rich_markup_mode=None, add_completion=False)


@app.command("score")
def score_model(
    *,
    model: Annotated[
        str,
        typer.Argument(
            help="A preset, a folder, a GGUF file, a hub id, a run, or a responder's model, as in openai:NAME.",
            metavar="MODEL",
            show_default=False,
        ),
    ],
    suite: Annotated[
        str,
        typer.Option(
            help="A built-in suite (gpt-tasks list suites), or a YAML file.", metavar="NAME", show_default=False
        ),
    ],
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Read the suite from local files in this folder instead of the hub.", metavar="DIR"),
    ] = None,
    shots: Annotated[
        int | None, typer.Option(help="Examples before each one. Default: the suite's own number.", min=0)
    ] = None,
    shots_sampler: Annotated[
        Literal["random", "fixed"] | None,
        typer.Option(help="random: for each example anew. fixed: once for all. Default: random."),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Score only this number of examples of each task.", min=1)] = None,
    cluster: Cluster = None,
    chat_template: Annotated[
        bool, typer.Option("--chat-template", help="Apply the model's chat template to prompts.")
    ] = False,
    precision: Annotated[
        Literal["auto", "float32", "bf16"], typer.Option(help="auto: bf16 where it is native.")
    ] = "float32",
    device: Device = "auto",
    engine: Annotated[
        Literal["trie", "plain"], typer.Option(help="trie: shared prefixes once. plain: every text separately.")
    ] = "trie",
    batch_tokens: Annotated[int | None, typer.Option(help="Tokens of one forward pass.", min=1)] = None,
    output: Annotated[
        Path | None, typer.Option(help="A folder for scores and answers. [default: scores/MODEL-SUITE]", metavar="DIR")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Draws the shots. Default: 1234.", min=0)] = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Let the model run its own Python code.")
    ] = False,
    no_verify: NoVerify = False,
    as_json: Json = False,
) -> None:
    """Score a model on a suite of tasks, without further training."""
    from gpt_tasks.scoring.score import score

    with answering(as_json) as answer:
        scores, folder = score(
            model,
            suite,
            data_dir=data_dir,
            shots=shots,
            shots_sampler=shots_sampler,
            limit=limit,
            cluster=cluster,
            chat_template=chat_template,
            precision=precision,
            device=device,
            engine=engine,
            batch_tokens=batch_tokens,
            output=output,
            seed=seed,
            trust_remote_code=trust_remote_code,
            verify=not no_verify,
            say=tell,
        )
        answer({**scores.to_json(), "folder": str(folder)})
    if not as_json and first_process():
        show_scores(scores, folder)


def show_scores(scores: Scores, folder: Path | None) -> None:
    """Print the figures as a table, then the notes."""
    print_table(
        ("task", "metric", "value", "stderr", "95 % interval", "n", "shots"),
        [
            (
                name,
                metric,
                f"{figure.value:.4f}",
                f"{figure.stderr:.4f}",
                f"{figure.low:.4f} to {figure.high:.4f}",
                f"{figure.n:,}",
                str(task.shots),
            )
            for task in scores.tasks
            for name, figures in [(task.name, task.metrics), *((f"- {group}", of) for group, of in task.groups.items())]
            for metric, figure in figures.items()
        ],
    )
    out = sys.stdout
    for task in scores.tasks:
        if task.truncated:
            tell(f"{task.name}: {task.truncated:,} of {task.n:,} examples were longer than the model's window.", out)
        for metric, signature in task.signatures.items():
            tell(f"{task.name}: {metric} is {signature}", out)
    for note in scores.notes:
        tell(note, out)
    if folder is not None:
        print()
        tell(f"The scores are in {folder}.", out)
