"""Score a model on a suite: read, ask, measure, write."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpt_tasks.data.sources import ALL, open_source
from gpt_tasks.errors import DataError, ModelError, UsageError
from gpt_tasks.extensions import SourceScheme
from gpt_tasks.files import machine_errors
from gpt_tasks.plugins import installed_plugins
from gpt_tasks.processes import rank, wait
from gpt_tasks.scoring.shots import DEFAULT_SEED, Sampler, shots_for
from gpt_tasks.scoring.suites import LoadedSuite, ScoredTask, load_suite
from gpt_tasks.tasks.classification import LABEL, ClassificationTask
from gpt_tasks.tasks.untrained import SHOT_SEPARATOR
from gpt_tasks.types import Answer, Continuation, Example, Generation, Request, Rolling, Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from gpt_tasks.scoring.cache import AnswerCache
    from gpt_tasks.scoring.engine import EngineName
    from gpt_tasks.scoring.results import Scores

ANSWERS = "answers.jsonl"
HARNESS = "lm-eval:"
SCORES_FOLDER = Path("scores")


@dataclass(frozen=True)
class Asked:
    """An example of a task, the value of the column it is grouped by, and what is asked about it."""

    scored: ScoredTask
    example: Example
    group: str | None
    requests: list[Request]


def score(
    model: str,
    suite: str | LoadedSuite,
    *,
    data_dir: Path | None = None,
    shots: int | None = None,
    shots_sampler: Sampler = "drawn",
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
        if data_dir is not None or chat_template or shots_sampler != "drawn":
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
    examples = [list(read_examples(task, registry.sources, limit)) for task in loaded.tasks]

    # From here on torch is needed: what is wrong with the suite or its data has been told.
    from gpt_tasks.scoring.results import ScoredExample, Scores, task_scores, write_scores
    from gpt_tasks.scoring.scorer import open_scorer

    backbone, scorer = open_scorer(model, **how)
    template = _chat(backbone.tokenizer, model) if chat_template else None
    asked = [
        each
        for task, some in zip(loaded.tasks, examples, strict=True)
        for each in _ask(task, some, registry.sources, shots_sampler, seed, template)
    ]
    identity = {"model": backbone.fingerprint, "precision": scorer.precision, "engine": engine}
    with machine_errors():
        with _cache(folder, identity, say) as cache:
            found = scorer.answer([request for each in asked for request in each.requests], cache)
        answers, cuts = iter(found.answers), iter(found.cut)
        rows: list[ScoredExample] = []
        for each in asked:
            given: list[Answer] = [next(answers) for _ in each.requests]
            parts = each.scored.task.measure(each.example, given)
            wanted = {metric: parts[metric] for metric in each.scored.metrics}
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
            settings={
                "precision": scorer.precision,
                "device": str(scorer.device),
                "engine": found.engine,
                "data_dir": None if data_dir is None else str(data_dir),
                "shots_sampler": shots_sampler,
                "limit": limit,
                "chat_template": chat_template,
                "seed": seed,
            },
            versions=_versions(),
            tasks=tuple(tasks),
            notes=found.notes,
        )
        if rank() == 0:
            write_scores(folder, scores, rows)
        elif cache.path.exists():
            cache.path.unlink()  # the first process has it all by now
        wait()
    return scores, folder


def _cache(folder: Path, identity: Mapping[str, str], say: Callable[[str], None]) -> AnswerCache:
    """Open the first process's file, which takes over what others have left; and for every other one its own."""
    from gpt_tasks.scoring.cache import AnswerCache

    if rank() == 0:
        folder.mkdir(parents=True, exist_ok=True)
        first = AnswerCache(folder / ANSWERS, identity, say, sorted(folder.glob("answers-*.jsonl")))
        wait()
        return first
    wait()
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

    folder = output or SCORES_FOLDER / f"{Path(model).name}-{Path(task).stem}"
    backbone, scorer = open_scorer(model, **how)
    found = score_lm_eval(task, scorer, shots=shots, limit=limit, seed=seed, say=say)
    scores = Scores(
        suite={"name": f"{HARNESS}{task}", "sha256": ""},
        model={"spec": model, "fingerprint": backbone.fingerprint, "parameters": backbone.parameters},
        settings={"precision": scorer.precision, "device": str(scorer.device), "limit": limit, "seed": seed},
        versions={**_versions(), "lm_eval": VERSION},
        tasks=harness_tasks(found),
    )
    with machine_errors():
        if rank() == 0:
            folder.mkdir(parents=True, exist_ok=True)
            write_json(folder / SCORES, scores.to_json())
        wait()
    return scores, folder


def read_examples(
    scored: ScoredTask, schemes: Mapping[str, SourceScheme], limit: int | None
) -> Iterator[tuple[Example, str | None]]:
    """Read the examples of a task, each with its group. Raises DataError where a row cannot be used."""
    for name in scored.groups:
        for example in islice(_examples(scored, scored.source.format(group=name), scored.split, schemes), limit):
            yield example, name
    if scored.groups:
        return
    taken: Counter[str | None] = Counter()
    for example in _examples(scored, scored.source, scored.split, schemes):
        group = None if scored.by is None else example.extra[scored.by]
        taken[group] += 1
        if limit is None or taken[group] <= limit:
            yield example, group
        elif scored.by is None:
            return


def _examples(scored: ScoredTask, source: str, split: str, schemes: Mapping[str, SourceScheme]) -> Iterator[Example]:
    opened = open_source(source, schemes)
    name = ALL if ALL in opened.splits else split
    if name not in opened.splits:
        raise DataError(
            f"{opened.name}: there is no split '{split}'; there are {', '.join(opened.splits)}",
            "Name one of them in the suite (split:).",
        )
    rows = opened.splits[name]()
    first = next(rows, None)
    if first is None:
        raise DataError(f"{opened.name}: there are no rows ({name})", "Give data that holds some.")
    extra = () if scored.by is None else (scored.by,)
    if scored.by is not None and scored.by not in first.values:
        raise DataError(
            f"{opened.name}: there is no column '{scored.by}'; the columns are {', '.join(first.values)}",
            "Name one of them in the suite (by:).",
        )
    columns: dict[str, str] | None = None
    for row in chain([first], rows):
        filled: Row = scored.fields.of(row)
        if columns is None:
            where = row.where.rpartition(":")[0] or opened.name
            columns = scored.task.fields(list(filled.values), {}, where)
            if isinstance(scored.task, ClassificationTask) and LABEL not in columns:
                raise DataError(f"{where}: there is no column '{LABEL}'", "Name it in the suite (fields: label:).")
            if isinstance(scored.task, ClassificationTask):
                scored.task.check_question([field for field in columns if field != LABEL])
        yield scored.task.example(filled, columns, extra)


def _ask(
    scored: ScoredTask,
    examples: list[tuple[Example, str | None]],
    schemes: Mapping[str, SourceScheme],
    sampler: Sampler,
    seed: int,
    template: Callable[[str], str] | None,
) -> Iterator[Asked]:
    every = [example for example, _ in examples]
    # lm-evaluation-harness draws as if the pool were what is scored for tasks without a test split too.
    own = (scored.source, scored.split) == (scored.shots_source, scored.shots_split) or scored.split != "test"
    pool: list[Example] = []
    if scored.shots:
        pool = list(_examples(scored, scored.shots_source, scored.shots_split, schemes))
    shots = shots_for(every, pool, scored.shots, own=own, sampler=sampler, seed=seed)
    for place, (example, group) in enumerate(examples):
        before = "".join(scored.task.shot(shot) + SHOT_SEPARATOR for shot in shots(place))
        requests = scored.task.ask(example, scored.task.introduction + before)
        yield Asked(scored, example, group, [_templated(request, template) for request in requests])


def _templated(request: Request, template: Callable[[str], str] | None) -> Request:
    """The context as one message of a chat, and the continuation as its answer, without the space between them."""
    if template is None or isinstance(request, Rolling):
        return request
    if isinstance(request, Generation):
        return replace(request, context=template(request.context))
    return Continuation(template(request.context), request.text.removeprefix(" "))


def _chat(tokenizer: PreTrainedTokenizerBase, model: str) -> Callable[[str], str]:
    if not tokenizer.chat_template:
        raise ModelError(f"--chat-template: the tokenizer of {model} has none", "Leave the flag out.")

    def template(content: str) -> str:
        messages = [{"role": "user", "content": content}]
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))

    return template


def _versions() -> dict[str, str]:
    from importlib import metadata

    return {name: metadata.version(name) for name in ("gpt-tasks", "torch", "transformers", "tokenizers")}
