"""Score models on suites: check everything, then ask one model after another, and write."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpt_tasks.errors import UsageError
from gpt_tasks.paths import user_path
from gpt_tasks.processes import rank
from gpt_tasks.scoring.opened_suite import OpenedSuite, ScoreSettings, open_suite
from gpt_tasks.scoring.responder import open_responder
from gpt_tasks.scoring.score_folder import file_name, refuse_others, score_folder, scores_folder
from gpt_tasks.scoring.score_harness import HARNESS, score_harness
from gpt_tasks.scoring.shots import DEFAULT_SEED, Sampler
from gpt_tasks.scoring.suites import LoadedSuite, refuse_unread

if TYPE_CHECKING:
    from gpt_tasks.scoring.engine import EngineName
    from gpt_tasks.scoring.results import Scores


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
    `shots_sampler` ("random", "fixed" or "similar") and `seed` (1234) say how few-shot examples are drawn, where there
    are some. `limit` takes so many examples of each task (of each group, where it has groups); `cluster` names a column
    or field whose equal values belong together, for every task: intervals go by it. Without `verify` the files of a run
    are taken as they are. Raises UsageError, DataError, ModelError or MachineError.
    """
    settings = ScoreSettings(
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
        seed=seed,
        trust_remote_code=trust_remote_code,
        verify=verify,
    )
    if isinstance(suite, str) and suite.startswith(HARNESS):
        _check(settings)
        return _score_harness(model, suite, settings, output, say)
    (opened,) = _open_suites([suite], settings)
    folder = score_folder(output, f"{file_name(model)}-{opened.suite.name}")
    ((scores, folder),) = _score([(model, opened, folder)], settings, say)
    return scores, folder


def score_all(
    models: Sequence[str],
    suites: Sequence[str | LoadedSuite],
    *,
    output: str | Path | None = None,
    say: Callable[[str], None] = print,
    **settings: Any,
) -> list[tuple[Scores, Path]]:
    """Score each model on each suite; every suite is read, and every model opened, before any is scored.

    Returns the scores of each pair and their folder, `output`/MODEL-SUITE (without `output` scores/MODEL-SUITE), model
    by model. `settings` are those of `score`. Raises UsageError, DataError, ModelError or MachineError.
    """
    given = ScoreSettings(**settings)
    harness = [suite for suite in suites if isinstance(suite, str) and suite.startswith(HARNESS)]
    if harness:
        raise UsageError(
            f"--suite {harness[0]}: a task of lm-evaluation-harness is scored alone",
            "Give one model and this suite only.",
        )
    opened = _open_suites(suites, given)
    parent = scores_folder(output)
    pairs: list[tuple[str, OpenedSuite, Path]] = []
    for model in models:
        for suite in opened:
            folder = score_folder(parent / f"{file_name(model)}-{suite.suite.name}", "")
            for other, of, taken in pairs:
                if taken == folder:
                    both = f"{other} on {of.suite.name} and {model} on {suite.suite.name}"
                    raise UsageError(
                        f"{both} would be scored into one folder, {folder}", "Score one of them by another command."
                    )
            pairs.append((model, suite, folder))
    return _score(pairs, given, say)


def _score(
    pairs: Sequence[tuple[str, OpenedSuite, Path]], settings: ScoreSettings, say: Callable[[str], None]
) -> list[tuple[Scores, Path]]:
    """Score models on suites, into folders; a model's pairs follow each other."""
    for _, suite, folder in pairs:
        refuse_others(folder, suite.known)
    for suite in dict.fromkeys(suite for _, suite, _ in pairs):
        suite.read()
    # From here on a local model needs torch: errors in the suites or their data have been reported.
    models = list(dict.fromkeys(model for model, _, _ in pairs))
    found: list[tuple[Scores, Path]] = []
    if len(models) > 1:
        for model in models:
            responder = open_responder(model, **settings.opening)
            for _, suite, folder in (pair for pair in pairs if pair[0] == model):
                suite.asked_of(model, responder, folder)
            del responder  # so that no two models are in memory
            gc.collect()
    for model in models:
        responder = open_responder(model, **settings.opening)
        asked = [suite.asked_of(model, responder, folder) for name, suite, folder in pairs if name == model]
        for each in asked:
            if len(pairs) > 1 and rank() == 0:
                say(f"{model} on {each.suite.name} ({len(found) + 1} of {len(pairs)})")
            found.append((each.score(say), each.folder))
        del asked, responder
        gc.collect()
    return found


def _open_suites(suites: Sequence[str | LoadedSuite], settings: ScoreSettings) -> list[OpenedSuite]:
    _check(settings)
    opened = [open_suite(suite, settings) for suite in suites]
    if settings.data_dir is not None:
        refuse_unread(user_path(settings.data_dir), [each.suite for each in opened])
    return opened


def _check(settings: ScoreSettings) -> None:
    if settings.limit is not None and settings.limit < 1:
        raise UsageError(f"--limit {settings.limit} leaves nothing to score", "Give at least 1.")


def _score_harness(
    model: str, suite: str, settings: ScoreSettings, output: str | Path | None, say: Callable[[str], None]
) -> tuple[Scores, Path]:
    ours = {name: getattr(settings, name) for name in ("data_dir", "shots_sampler", "cluster")}
    for name, value in {**ours, "chat_template": settings.chat_template or None}.items():
        if value is not None:
            flag = f"--{name.replace('_', '-')}" + ("" if isinstance(value, bool) else f" {value}")
            raise UsageError(
                f"{flag} is for our own suites, and not for --suite {suite}",
                "gpt-tasks lm-eval has lm-evaluation-harness's own flags.",
            )
    return score_harness(
        model,
        suite.removeprefix(HARNESS),
        shots=settings.shots,
        limit=settings.limit,
        seed=DEFAULT_SEED if settings.seed is None else settings.seed,
        output=output,
        say=say,
        **settings.opening,
    )
