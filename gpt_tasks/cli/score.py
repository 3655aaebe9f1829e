"""`gpt-tasks score`: models on suites."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from gpt_tasks.cli.arguments import Cluster, Device, Json, NoVerify
from gpt_tasks.cli.output import answering, first_process
from gpt_tasks.errors import UsageError
from gpt_tasks.paths import user_path
from gpt_tasks.scoring.shots import Sampler
from gpt_tasks.shown import print_table, tell

if TYPE_CHECKING:
    from gpt_tasks.scoring.results import Scores

app = typer.Typer(name="score", rich_markup_mode=None, add_completion=False)


@app.command("score")
def score_model(
    *,
    models: Annotated[
        list[str],
        typer.Argument(
            help="A preset, a folder, a GGUF file, a hub id, a run, a responder's model as in openai:NAME; or several.",
            metavar="MODEL",
            show_default=False,
        ),
    ],
    suite: Annotated[
        list[str],
        typer.Option(
            help="A built-in suite (gpt-tasks list suites), or a YAML file; several with commas, as in piqa,copa. "
            "Repeatable.",
            metavar="NAME",
            show_default=False,
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
        Sampler | None,
        typer.Option(
            help="random: for each example anew. fixed: once for all. similar: the nearest by their words. "
            "Default: random."
        ),
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
        Path | None,
        typer.Option(
            help="A folder for scores and answers; of several models or suites, for a folder MODEL-SUITE of each. "
            "[default: scores/MODEL-SUITE]",
            metavar="DIR",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Draws the shots. Default: 1234.", min=0)] = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Let the model run its own Python code.")
    ] = False,
    no_verify: NoVerify = False,
    as_json: Json = False,
) -> None:
    """Score models on suites of tasks, without further training."""
    from gpt_tasks.scoring.score import score, score_all

    suites = _split(suite)
    settings: dict[str, Any] = {
        "data_dir": data_dir,
        "shots": shots,
        "shots_sampler": shots_sampler,
        "limit": limit,
        "cluster": cluster,
        "chat_template": chat_template,
        "precision": precision,
        "device": device,
        "engine": engine,
        "batch_tokens": batch_tokens,
        "output": output,
        "seed": seed,
        "trust_remote_code": trust_remote_code,
        "verify": not no_verify,
        "say": tell,
    }
    with answering(as_json) as answer:
        if len(models) == len(suites) == 1:
            found = [score(models[0], suites[0], **settings)]
            scores, folder = found[0]
            answer({**scores.to_json(), "folder": str(folder)})
        else:
            found = score_all(models, suites, **settings)
            answer({"scores": [{**scores.to_json(), "folder": str(folder)} for scores, folder in found]})
    if as_json or not first_process():
        return
    if len(found) == 1:
        show_scores(scores, folder)
    else:
        show_all(found)


def _split(given: Sequence[str]) -> list[str]:
    """Return the suites that are named, with commas or separately; the path of a file may hold commas itself."""
    names = [
        name.strip()
        for text in given
        for name in ([text] if "," in text and user_path(text, "--suite").exists() else text.split(","))
    ]
    for name in names:
        if not name:
            raise UsageError(f"--suite {','.join(given)}: a name is empty", "Write NAME,NAME without an empty place.")
        if names.count(name) > 1:
            raise UsageError(f"--suite {name} is given twice", "Give each value once.")
    return names


def show_all(found: Sequence[tuple[Scores, Path]]) -> None:
    """Print the figures of several models and suites as one table, then the notes of each."""
    columns: dict[tuple[str, str, str], str] = {}
    cells: dict[str, dict[tuple[str, str, str], str]] = {}
    for scores, _ in found:
        suite = str(scores.suite["name"])
        for task in scores.tasks:
            for metric, figure in task.metrics.items():
                key = (suite, task.name, metric)
                columns[key] = " ".join(dict.fromkeys(key))
                cells.setdefault(str(scores.model["spec"]), {})[key] = (
                    f"{figure.value:.4f} ({figure.low:.4f} to {figure.high:.4f})"
                )
    rows = [(model, *(own.get(key, "") for key in columns)) for model, own in cells.items()]
    print_table(("model", *columns.values()), rows)
    for scores, _ in found:
        _show_notes(scores, f"{scores.model['spec']}, {scores.suite['name']}: ")
    print()
    tell("Each figure is followed by its 95 % interval.", sys.stdout)
    for _, folder in found:
        tell(f"The scores are in {folder}.", sys.stdout)


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
    _show_notes(scores)
    if folder is not None:
        print()
        tell(f"The scores are in {folder}.", sys.stdout)


def _show_notes(scores: Scores, of: str = "") -> None:
    for task in scores.tasks:
        if task.truncated:
            cut = f"{task.truncated:,} of {task.n:,} examples were longer than the model's window."
            tell(f"{of}{task.name}: {cut}", sys.stdout)
        for metric, signature in task.signatures.items():
            tell(f"{of}{task.name}: {metric} is {signature}", sys.stdout)
    for note in scores.notes:
        tell(f"{of}{note}", sys.stdout)
