"""Score a model on a suite: read, prompt, score, write."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpt_tasks.errors import UsageError
from gpt_tasks.events import observed
from gpt_tasks.extensions import Metric
from gpt_tasks.files import machine_errors
from gpt_tasks.paths import user_path
from gpt_tasks.plugins import installed_plugins
from gpt_tasks.processes import barrier, rank
from gpt_tasks.scoring.prompting import (
    ExampleRequests,
    ask,
    notes_of,
    read_examples,
    refuse_useless_template,
    shots_pool,
)
from gpt_tasks.scoring.prompting import chat_template as chat
from gpt_tasks.scoring.responder import RegisteredResponder, open_responder
from gpt_tasks.scoring.score_folder import (
    file_name,
    open_cache,
    refuse_others,
    report,
    score_folder,
    versions,
    working_in,
)
from gpt_tasks.scoring.score_harness import HARNESS, score_harness
from gpt_tasks.scoring.shots import DEFAULT_SEED, Sampler
from gpt_tasks.scoring.suites import LoadedSuite, load_suite
from gpt_tasks.types import Request, Response

if TYPE_CHECKING:
    from gpt_tasks.scoring.engine import EngineName
    from gpt_tasks.scoring.responder import Responses
    from gpt_tasks.scoring.results import ScoredExample, Scores, TaskScores


def score(
    model: str,
    suite: str | LoadedSuite,
    *,
    data_dir: str | Path | None = None,
    shots: int | None = None,
    shots_sampler: Sampler | None = None,
    limit: int | None = None,
    cluster: str | None = None,
    chat_template: bool = False,
    precision: str = "float32",
    device: str = "auto",
    engine: EngineName = "trie",
    batch_tokens: int | None = None,
    output: str | Path | None = None,
    seed: int | None = None,
    trust_remote_code: bool = False,
    verify: bool = True,
    say: Callable[[str], None] = print,
) -> tuple[Scores, Path]:
    """Score a model on a suite: a name, a YAML file's path, or one that is loaded.

    `model` is a preset, a folder, a finished run or a hub id, or a registered responder's as in `openai:NAME`.
    Returns the scores, and the folder that holds them. What was answered before in that folder is not computed again.
    `shots_sampler` ("random" or "fixed") and `seed` (1234) say how few-shot examples are drawn, where there are some.
    `limit` takes so many examples of each task (of each group, where it has groups); `cluster` names a column or field
    whose equal values belong together, for every task: intervals go by it. Without `verify` the files of a run are
    taken as they are. Raises UsageError, DataError, ModelError or MachineError.
    """
    data_dir = None if data_dir is None else user_path(data_dir, "--data-dir")
    how: dict[str, Any] = {
        "device": device,
        "precision": precision,
        "engine": engine,
        "batch_tokens": batch_tokens,
        "trust_remote_code": trust_remote_code,
        "verify": verify,
    }
    if limit is not None and limit < 1:
        raise UsageError(f"--limit {limit} leaves nothing to score", "Give at least 1.")
    if isinstance(suite, str) and suite.startswith(HARNESS):
        ours = {"data_dir": data_dir, "shots_sampler": shots_sampler, "cluster": cluster}
        for name, value in {**ours, "chat_template": chat_template or None}.items():
            if value is not None:
                flag = f"--{name.replace('_', '-')}" + ("" if isinstance(value, bool) else f" {value}")
                raise UsageError(
                    f"{flag} is for our own suites, and not for --suite {suite}",
                    "gpt-tasks lm-eval has lm-evaluation-harness's own flags.",
                )
        return score_harness(
            model,
            suite.removeprefix(HARNESS),
            shots=shots,
            limit=limit,
            seed=DEFAULT_SEED if seed is None else seed,
            output=output,
            say=say,
            **how,
        )
    plugins = installed_plugins()
    registry = plugins.registry
    loaded = load_suite(suite, registry, data_dir=data_dir, shots=shots) if isinstance(suite, str) else suite
    loaded = loaded if cluster is None else loaded.clustered(cluster)
    folder = score_folder(output, f"{file_name(model)}-{loaded.name}")
    drawn: dict[str, Any] = {
        "shots_sampler": shots_sampler or "random",
        "limit": limit,
        "chat_template": chat_template,
        "seed": DEFAULT_SEED if seed is None else seed,
    }
    refuse_others(folder, {"suite": loaded.sha256, **drawn})
    _refuse_useless(loaded, {"shots": shots or None, "shots_sampler": shots_sampler, "seed": seed})
    parts = [part for task in loaded.tasks for part in task.parts()]
    examples = [list(read_examples(part, registry.sources, limit)) for part in parts]
    refuse_useless_template(parts, examples, chat=chat_template)

    # From here on a local model needs torch: errors in the suite or its data have been reported.
    from gpt_tasks.scoring.results import EXAMPLES, SCORES, Scores, task_scores, write_scores

    responder = open_responder(model, **how)
    template = chat(responder.tokenizer, model) if chat_template else None
    pools = [shots_pool(part, registry.sources) for part in parts]
    asked = [
        each
        for part, some, pool in zip(parts, examples, pools, strict=True)
        for each in ask(part, some, pool, drawn["shots_sampler"], drawn["seed"], template, responder.literal)
    ]
    notes = notes_of(asked, parts, pools, responder.trained_rows, chat=chat_template)
    for note in notes if rank() == 0 else ():
        say(note)
    settings = {
        **responder.settings,
        "data_dir": None if data_dir is None else str(data_dir),
        "sources": [part.source for part in parts],
        "shots": [part.shots for part in parts],
        "cluster": cluster,
        **drawn,
    }
    fingerprint = responder.identity["model"]
    refuse_others(folder, {"model": fingerprint, "suite": loaded.sha256, **settings})
    configuration = {"model": model, "suite": loaded.name, "tasks": [task.name for task in loaded.tasks], **settings}
    with (
        machine_errors(),
        working_in(folder),
        observed(plugins, "score", folder, configuration) as observers,
    ):
        with open_cache(folder, responder.identity, say) as cache:
            if isinstance(responder, RegisteredResponder):
                responder.try_requests(_by_task(asked), cache)
            found = responder.answer([request for each in asked for request in each.requests], cache)
        metrics = {task.name: registry.metrics_of(task.task, task.metrics) for task in loaded.tasks}
        rows = list(_scored(asked, found, metrics))
        tasks = []
        for task in loaded.tasks:
            own = [row for row in rows if row.task == task.name]
            tasks.append(
                task_scores(task.name, task.task.name, task.shots, metrics[task.name], own, cluster=task.cluster)
            )
        scores = Scores(
            suite={"name": loaded.name, "sha256": loaded.sha256},
            model={"spec": model, "fingerprint": fingerprint, "parameters": responder.parameters},
            settings=settings if found.engine is None else {**settings, "engine_used": found.engine},
            versions=versions(),
            tasks=tuple(tasks),
            notes=(*notes, *found.notes, *_without_shots(loaded, shots), *_notes_of(tasks)),
        )
        if rank() == 0:
            write_scores(folder, scores, rows)
            report(observers, tasks, [folder / SCORES, folder / EXAMPLES])
        elif cache.path.exists():
            cache.path.unlink()  # the first process has it all by now
        barrier()
    return scores, folder


def _scored(
    asked: Sequence[ExampleRequests], found: Responses, metrics: Mapping[str, Sequence[Metric]]
) -> Iterator[ScoredExample]:
    """Yield each example with its answers and what these contribute to its task's metrics."""
    from gpt_tasks.scoring.results import ScoredExample

    answers, cuts = iter(found.answers), iter(found.cut)
    for each in asked:
        given: list[Response] = [next(answers) for _ in each.requests]
        scored = each.scored
        prediction = scored.task.prediction(each.example, given)
        statistics = scored.task.contributions(metrics[scored.name], each.example, prediction)
        cut = max([next(cuts) for _ in each.requests])
        yield ScoredExample(scored.name, each.example, each.group, given, statistics, cut)


def _notes_of(tasks: Sequence[TaskScores]) -> list[str]:
    return [f"{task.name}: {task.note}" for task in tasks if task.note]


def _by_task(asked: Sequence[ExampleRequests]) -> dict[str, list[Request]]:
    found: dict[str, list[Request]] = {}
    for each in asked:
        found.setdefault(each.scored.name, []).extend(each.requests)
    return found


def _refuse_useless(suite: LoadedSuite, given: Mapping[str, Any]) -> None:
    """Raise UsageError for what is given of few-shot examples where a suite is scored without any."""
    takes_shots = any(task.task.takes_shots for task in suite.tasks)
    for name, value in given.items():
        if value is not None and not any(task.shots for task in suite.tasks):
            raise UsageError(
                f"--{name.replace('_', '-')} {value} is for few-shot examples, and {suite.name} is scored without any",
                "Give --shots, or leave it out." if takes_shots else "Leave it out.",
            )


def _without_shots(suite: LoadedSuite, shots: int | None) -> list[str]:
    """Return a note on the tasks that `shots` has no effect on."""
    names = [task.name for task in suite.tasks if shots and not task.task.takes_shots]
    return [f"--shots {shots} has no effect on {', '.join(names)}."] if names else []
