"""Score a model on a suite: read, ask, measure, write."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpt_tasks.errors import UsageError
from gpt_tasks.files import machine_errors
from gpt_tasks.plugins import installed_plugins
from gpt_tasks.processes import alone_in, barrier, rank
from gpt_tasks.scoring.prompting import ask, read_examples
from gpt_tasks.scoring.prompting import chat_template as chat
from gpt_tasks.scoring.shots import DEFAULT_SEED, Sampler
from gpt_tasks.scoring.suites import LoadedSuite, load_suite
from gpt_tasks.types import Response

if TYPE_CHECKING:
    from gpt_tasks.scoring.cache import AnswerCache
    from gpt_tasks.scoring.engine import EngineName
    from gpt_tasks.scoring.results import Scores

ANSWERS = "answers.jsonl"
HARNESS = "lm-eval:"
SCORES_FOLDER = Path("scores")


def score(
    model: str,
    suite: str | LoadedSuite,
    *,
    data_dir: Path | None = None,
    shots: int | None = None,
    shots_sampler: Sampler = "random",
    limit: int | None = None,
    chat_template: bool = False,
    precision: str = "float32",
    device: str = "auto",
    engine: EngineName = "trie",
    batch_tokens: int | None = None,
    output: Path | None = None,
    seed: int = DEFAULT_SEED,
    trust_remote_code: bool = False,
    say: Callable[[str], None] = print,
) -> tuple[Scores, Path]:
    """Score a backbone or a finished run on a suite: a name, a YAML file's path, or one that is loaded.

    Returns the scores, and the folder that holds them. What was answered before in that folder is not computed again.
    `limit` takes so many examples of each task (of each group, where it has groups). Raises UsageError, DataError,
    ModelError or MachineError.
    """
    how: dict[str, Any] = {
        "device": device,
        "precision": precision,
        "engine": engine,
        "batch_tokens": batch_tokens,
        "trust_remote_code": trust_remote_code,
    }
    if limit is not None and limit < 1:
        raise UsageError(f"--limit {limit} leaves nothing to score", "Give at least 1.")
    if isinstance(suite, str) and suite.startswith(HARNESS):
        if data_dir is not None or chat_template or shots_sampler != "random":
            raise UsageError(
                f"--suite {suite}: --data-dir, --chat-template and --shots-sampler are for our own suites",
                "gpt-tasks lm-eval has lm-evaluation-harness's own flags.",
            )
        return _score_harness(
            model, suite.removeprefix(HARNESS), shots=shots, limit=limit, seed=seed, output=output, say=say, **how
        )
    registry = installed_plugins().registry
    loaded = load_suite(suite, registry, data_dir=data_dir, shots=shots) if isinstance(suite, str) else suite
    folder = output or SCORES_FOLDER / f"{Path(model).name}-{loaded.name}"
    _check_folder(folder)
    parts = [part for task in loaded.tasks for part in task.parts()]
    examples = [list(read_examples(part, registry.sources, limit)) for part in parts]

    # From here on torch is needed: what is wrong with the suite or its data has been told.
    from gpt_tasks.scoring.results import ScoredExample, Scores, task_scores, write_scores
    from gpt_tasks.scoring.scorer import open_scorer

    backbone, scorer = open_scorer(model, **how)
    template = chat(backbone.tokenizer, model) if chat_template else None
    asked = [
        each
        for part, some in zip(parts, examples, strict=True)
        for each in ask(part, some, registry.sources, shots_sampler, seed, template)
    ]
    settings = {
        "precision": scorer.precision,
        "device": str(scorer.device),
        "engine": engine,
        "data_dir": None if data_dir is None else str(data_dir),
        "sources": [part.source for part in parts],
        "shots": [part.shots for part in parts],
        "shots_sampler": shots_sampler,
        "limit": limit,
        "chat_template": chat_template,
        "seed": seed,
    }
    _refuse_others(folder, {"model": backbone.fingerprint, "suite": loaded.sha256, **settings})
    identity = {"model": backbone.fingerprint, "precision": scorer.precision, "engine": engine}
    with machine_errors(), _working_in(folder):
        with _cache(folder, identity, say) as cache:
            found = scorer.answer([request for each in asked for request in each.requests], cache)
        answers, cuts = iter(found.answers), iter(found.cut)
        rows: list[ScoredExample] = []
        for each in asked:
            given: list[Response] = [next(answers) for _ in each.requests]
            brought = each.scored.task.measure(each.example, given)
            wanted = {metric: brought[metric] for metric in each.scored.metrics}
            cut = max([next(cuts) for _ in each.requests])
            rows.append(ScoredExample(each.scored.name, each.example, each.group, given, wanted, cut))
        tasks = []
        for task in loaded.tasks:
            measures = [measure for measure in task.task.measures if measure.name in task.metrics]
            own = [row for row in rows if row.task == task.name]
            tasks.append(task_scores(task.name, task.task.name, task.shots, measures, own))
        scores = Scores(
            suite={"name": loaded.name, "sha256": loaded.sha256},
            model={"spec": model, "fingerprint": backbone.fingerprint, "parameters": backbone.parameters},
            settings={**settings, "engine_used": found.engine},
            versions=_versions(),
            tasks=tuple(tasks),
            notes=found.notes,
        )
        if rank() == 0:
            write_scores(folder, scores, rows)
        elif cache.path.exists():
            cache.path.unlink()  # the first process has it all by now
        barrier()
    return scores, folder


def _check_folder(folder: Path) -> None:
    """Raise UsageError where something else than a folder stands there, before anything is loaded."""
    for path in (folder, *folder.parents):
        if path.exists():
            if not path.is_dir():
                raise UsageError(f"--output {folder}: {path} is a file", "Give a folder.")
            return


@contextmanager
def _working_in(folder: Path) -> Iterator[None]:
    if rank() == 0:
        folder.mkdir(parents=True, exist_ok=True)
    with alone_in(folder):
        yield


def _refuse_others(folder: Path, asked: Mapping[str, Any]) -> None:
    """Raise UsageError where the folder holds the scores of something else than what is asked now."""
    file = folder / "scores.json"
    try:
        saved = json.loads(file.read_text(encoding="utf-8"))
        held = {"model": saved["model"]["fingerprint"], "suite": saved["suite"]["sha256"], **saved["settings"]}
    except (OSError, ValueError, KeyError, TypeError):
        return  # nothing there, or nothing to be lost
    if held.get("shots_sampler") == "drawn":
        held["shots_sampler"] = "random"  # what it is called since
    for name, value in asked.items():
        if name != "device" and held.get(name) != value:
            raise UsageError(
                f"{folder} holds scores of another {name.replace('_', ' ')}: {held.get(name)}, not {value}",
                "Give another folder with --output, or remove this one.",
            )


def _cache(folder: Path, identity: Mapping[str, str], say: Callable[[str], None]) -> AnswerCache:
    """Open the first process's file, which takes over what others have left; and for every other one its own."""
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

    folder = output or SCORES_FOLDER / f"{Path(model).name}-lm-eval-{Path(task).stem}"
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
    found = score_lm_eval(task, scorer, shots=shots, limit=limit, seed=seed, say=say)
    scores = Scores(
        suite={"name": name, "sha256": name},
        model={"spec": model, "fingerprint": backbone.fingerprint, "parameters": backbone.parameters},
        settings=settings,
        versions={**_versions(), "lm_eval": VERSION},
        tasks=harness_tasks(found),
    )
    with machine_errors(), _working_in(folder):
        if rank() == 0:
            write_json(folder / SCORES, scores.to_json())
        barrier()
    return scores, folder


def _versions() -> dict[str, str]:
    from importlib import metadata

    return {name: metadata.version(name) for name in ("gpt-tasks", "torch", "transformers", "tokenizers")}
