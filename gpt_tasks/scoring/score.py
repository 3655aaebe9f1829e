"""Score a model on a suite: read, prompt, score, write."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpt_tasks.errors import UsageError
from gpt_tasks.events import Observers, observed
from gpt_tasks.extensions import Metric
from gpt_tasks.files import check_place, machine_errors
from gpt_tasks.plugins import installed_plugins
from gpt_tasks.processes import alone_in, barrier, rank
from gpt_tasks.scoring.prompting import (
    ExampleRequests,
    ask,
    notes_of,
    read_examples,
    shots_pool,
)
from gpt_tasks.scoring.prompting import chat_template as chat
from gpt_tasks.scoring.responder import RegisteredResponder, find_responder, open_responder
from gpt_tasks.scoring.shots import DEFAULT_SEED, Sampler
from gpt_tasks.scoring.suites import LoadedSuite, load_suite
from gpt_tasks.types import Request, Response

if TYPE_CHECKING:
    from gpt_tasks.scoring.cache import AnswerCache
    from gpt_tasks.scoring.engine import EngineName
    from gpt_tasks.scoring.responder import Responses
    from gpt_tasks.scoring.results import ScoredExample, Scores, TaskScores

ANSWERS = "answers.jsonl"
HARNESS = "lm-eval:"
SCORES_FOLDER = Path("scores")
# What a scoring leaves in its folder, where observers may write too; and what only others leave.
_OWN = re.compile(r"scores\.json|answers(-\d+)?\.jsonl")
_OTHERS = {"run.json", "metrics.json", "pretrain.json", "config.json"}


def score(
    model: str,
    suite: str | LoadedSuite,
    *,
    data_dir: Path | None = None,
    shots: int | None = None,
    shots_sampler: Sampler = "random",
    limit: int | None = None,
    cluster: str | None = None,
    chat_template: bool = False,
    precision: str = "float32",
    device: str = "auto",
    engine: EngineName = "trie",
    batch_tokens: int | None = None,
    output: Path | None = None,
    seed: int = DEFAULT_SEED,
    trust_remote_code: bool = False,
    verify: bool = True,
    say: Callable[[str], None] = print,
) -> tuple[Scores, Path]:
    """Score a model on a suite: a name, a YAML file's path, or one that is loaded.

    `model` is a preset, a folder, a finished run or a hub id, or a registered responder's as in `openai:NAME`.
    Returns the scores, and the folder that holds them. What was answered before in that folder is not computed again.
    `limit` takes so many examples of each task (of each group, where it has groups); `cluster` names a column or field
    whose equal values belong together, for every task: intervals go by it. Without `verify` the files of a run are
    taken as they are. Raises UsageError, DataError, ModelError or MachineError.
    """
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
        if data_dir is not None or chat_template or shots_sampler != "random" or cluster is not None:
            raise UsageError(
                f"--suite {suite}: --data-dir, --chat-template, --shots-sampler and --cluster are for our own suites",
                "gpt-tasks lm-eval has lm-evaluation-harness's own flags.",
            )
        return _score_harness(
            model, suite.removeprefix(HARNESS), shots=shots, limit=limit, seed=seed, output=output, say=say, **how
        )
    plugins = installed_plugins()
    registry = plugins.registry
    loaded = load_suite(suite, registry, data_dir=data_dir, shots=shots) if isinstance(suite, str) else suite
    loaded = loaded if cluster is None else loaded.clustered(cluster)
    folder = output or SCORES_FOLDER / f"{_file_name(model)}-{loaded.name}"
    _check_folder(folder)
    drawn = {"shots_sampler": shots_sampler, "limit": limit, "chat_template": chat_template, "seed": seed}
    _refuse_others(folder, {"suite": loaded.sha256, **drawn})
    _refuse_useless(loaded, shots_sampler, seed)
    parts = [part for task in loaded.tasks for part in task.parts()]
    examples = [list(read_examples(part, registry.sources, limit)) for part in parts]

    # From here on a local model needs torch: errors in the suite or its data have been reported.
    from gpt_tasks.scoring.results import EXAMPLES, SCORES, Scores, task_scores, write_scores

    responder = open_responder(model, **how)
    template = chat(responder.tokenizer, model) if chat_template else None
    pools = [shots_pool(part, registry.sources) for part in parts]
    asked = [
        each
        for part, some, pool in zip(parts, examples, pools, strict=True)
        for each in ask(part, some, pool, shots_sampler, seed, template, responder.literal)
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
    _refuse_others(folder, {"model": fingerprint, "suite": loaded.sha256, **settings})
    configuration = {"model": model, "suite": loaded.name, "tasks": [task.name for task in loaded.tasks], **settings}
    with (
        machine_errors(),
        _working_in(folder),
        observed(plugins, "score", folder, configuration) as observers,
    ):
        with _cache(folder, responder.identity, say) as cache:
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
            versions=_versions(),
            tasks=tuple(tasks),
            notes=(*notes, *found.notes, *_without_shots(loaded, shots), *_notes_of(tasks)),
        )
        if rank() == 0:
            write_scores(folder, scores, rows)
            _report(observers, tasks, [folder / SCORES, folder / EXAMPLES])
        elif cache.path.exists():
            cache.path.unlink()  # the first process has it all by now
        barrier()
    return scores, folder


def _file_name(model: str) -> str:
    """A model's name as part of a folder's, without the colons that Windows refuses."""
    return Path(model).name.replace(":", "-")


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


def _report(observers: Observers, tasks: Sequence[TaskScores], artifacts: Sequence[Path]) -> None:
    for reported in tasks:
        observers.send("evaluated", {"task": reported.name, **reported.values()})
    observers.finish({}, artifacts)


def _by_task(asked: Sequence[ExampleRequests]) -> dict[str, list[Request]]:
    found: dict[str, list[Request]] = {}
    for each in asked:
        found.setdefault(each.scored.name, []).extend(each.requests)
    return found


def _refuse_useless(suite: LoadedSuite, sampler: Sampler, seed: int) -> None:
    """Raise UsageError for what draws few-shot examples where a suite is scored without any."""
    for flag, value, default in (("--shots-sampler", sampler, "random"), ("--seed", seed, DEFAULT_SEED)):
        if value != default and not any(task.shots for task in suite.tasks):
            raise UsageError(
                f"{flag} {value} draws few-shot examples, and {suite.name} is scored without any",
                "Give --shots, or leave it out.",
            )


def _without_shots(suite: LoadedSuite, shots: int | None) -> list[str]:
    """Return a note on the tasks that `shots` has no effect on."""
    names = [task.name for task in suite.tasks if shots and not task.task.takes_shots]
    return [f"--shots {shots} has no effect on {', '.join(names)}."] if names else []


def _check_folder(folder: Path) -> None:
    """Raise UsageError where the path is not a folder or holds files of something else, before anything is loaded."""
    check_place(folder)
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UsageError(f"--output {folder} is a file", "Give a folder.")
    names = {path.name for path in folder.iterdir() if path.name[0] != "."}
    others = names & _OTHERS or (set() if any(map(_OWN.fullmatch, names)) else names)
    if others:
        raise UsageError(
            f"--output {folder} holds other files than those of a scoring: {min(others)}",
            "Give a folder that is empty, not there yet, or of a scoring before.",
        )


@contextmanager
def _working_in(folder: Path) -> Iterator[None]:
    if rank() == 0:
        folder.mkdir(parents=True, exist_ok=True)
    with alone_in(folder):
        yield


def _refuse_others(folder: Path, asked: Mapping[str, Any]) -> None:
    """Raise UsageError where the folder holds scores with other settings."""
    file = folder / "scores.json"
    try:
        saved = json.loads(file.read_text(encoding="utf-8"))
        held = {"model": saved["model"]["fingerprint"], "suite": saved["suite"]["sha256"], **saved["settings"]}
    except (OSError, ValueError, KeyError, TypeError):
        return  # nothing there, or nothing to be lost
    if held.get("shots_sampler") == "drawn":
        held["shots_sampler"] = "random"  # its current name
    for name, value in asked.items():
        if name not in ("device", "cluster") and held.get(name) != value:
            raise UsageError(
                f"{folder} holds scores of another {name.replace('_', ' ')}: {held.get(name)}, not {value}",
                "Give another folder with --output, or remove this one.",
            )


def _cache(folder: Path, identity: Mapping[str, str], say: Callable[[str], None]) -> AnswerCache:
    """Open the first process's file, which takes over the answers of the others; every other process gets its own."""
    from gpt_tasks.scoring.cache import AnswerCache

    if rank() == 0:
        first = AnswerCache(folder / ANSWERS, identity, say, sorted(folder.glob("answers-*.jsonl")))
        barrier()
        return first
    barrier()
    return AnswerCache(folder / f"answers-{rank()}.jsonl", identity, say)


def _score_harness(
    model: str,
    task: str,
    *,
    shots: int | None,
    limit: int | None,
    seed: int,
    output: Path | None,
    say: Callable[[str], None],
    **how: Any,
) -> tuple[Scores, Path]:
    """Score a model on a task of lm-evaluation-harness, by its own code; the folder holds the figures only."""
    from gpt_tasks.files import write_json
    from gpt_tasks.scoring.lm_eval import VERSION, harness_tasks, score_lm_eval
    from gpt_tasks.scoring.results import SCORES, Scores
    from gpt_tasks.scoring.scorer import open_scorer

    if find_responder(model) is not None:
        raise UsageError(
            f"--suite {HARNESS}{task}: lm-evaluation-harness evaluates a model on this machine, not {model}",
            "It has its own models for endpoints.",
        )
    folder = output or SCORES_FOLDER / f"{_file_name(model)}-lm-eval-{Path(task).stem}"
    _check_folder(folder)
    backbone, scorer = open_scorer(model, **how)
    settings = {
        "precision": scorer.precision,
        "device": str(scorer.device),
        "shots": shots,
        "limit": limit,
        "seed": seed,
    }
    name = f"{HARNESS}{task}"
    _refuse_others(folder, {"model": backbone.fingerprint, "suite": name, **settings})
    configuration = {"model": model, "suite": name, "tasks": [task], **settings}
    with machine_errors(), observed(installed_plugins(), "score", folder, configuration) as observers:
        found = score_lm_eval(task, scorer, shots=shots, limit=limit, seed=seed, say=say)
        scores = Scores(
            suite={"name": name, "sha256": name},
            model={"spec": model, "fingerprint": backbone.fingerprint, "parameters": backbone.parameters},
            settings=settings,
            versions={**_versions(), "lm_eval": VERSION},
            tasks=harness_tasks(found),
        )
        with _working_in(folder):
            if rank() == 0:
                write_json(folder / SCORES, scores.to_json())
                _report(observers, scores.tasks, [folder / SCORES])
            barrier()
    return scores, folder


def _versions() -> dict[str, str]:
    from importlib import metadata

    return {name: metadata.version(name) for name in ("gpt-tasks", "torch", "transformers", "tokenizers")}
