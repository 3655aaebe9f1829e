"""lm-evaluation-harness on our engine: its own command with our model in it, and its tasks alongside our suites."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from gpt_tasks.errors import DataError, GptTasksError, UsageError
from gpt_tasks.files import machine_errors
from gpt_tasks.metrics.intervals import Z, bounded_interval
from gpt_tasks.paths import user_path
from gpt_tasks.processes import broadcast
from gpt_tasks.scoring.harness_model import HarnessModel
from gpt_tasks.scoring.results import TaskScores
from gpt_tasks.shown import tell
from gpt_tasks.types import Score

if TYPE_CHECKING:
    from gpt_tasks.scoring.scorer import Scorer

NAME = "gpt-tasks"
VERSION = "0.4.13"


def run_harness(arguments: Sequence[str]) -> int:
    """Run lm-evaluation-harness's own command, with our engine in it as the model `gpt-tasks`; return its exit code.

    Raises UsageError or DataError for what it refuses, and what the model raises.
    """
    # Its own models first: they are entered only into an empty registry.
    import lm_eval.models  # type: ignore[import-untyped]  # noqa: F401
    from lm_eval.__main__ import cli_evaluate  # type: ignore[import-untyped]
    from lm_eval.api.registry import register_model  # type: ignore[import-untyped]

    register_model(NAME)(HarnessModel)
    _check_version(tell)
    before = sys.argv
    sys.argv = ["lm-eval", *arguments]
    try:
        with _harness_errors():
            cli_evaluate()
    except SystemExit as end:
        if isinstance(end.code, str):
            tell(end.code)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        sys.argv = before
    return 0


def score_lm_eval(
    task: str,
    scorer: Scorer,
    *,
    shots: int | None,
    limit: int | None,
    seed: int,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Score a model on a task (a group, a tag) of lm-evaluation-harness, or on one in a YAML file of its kind.

    Returns its `results`, `n-samples` and `versions`, by task. `shots` None leaves each task its own number; a task
    that fixes it at 0 stays at 0. Raises UsageError for a task that it does not know.
    """
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager  # type: ignore[import-untyped]

    _check_version(say)
    is_file = Path(task).suffix in (".yaml", ".yml")
    task = str(user_path(task)) if is_file else task
    with _harness_errors():
        manager = TaskManager(include_defaults=not is_file)
    if is_file and not Path(task).is_file():
        raise UsageError(f"lm-eval:{task}: there is no such file", "Check the path.")
    if not is_file and task not in manager.task_index:
        near = get_close_matches(task, manager.all_tasks, n=3)
        raise UsageError(
            f"lm-evaluation-harness has no task '{task}'",
            f"Did you mean {' or '.join(near)}?" if near else "gpt-tasks lm-eval ls tasks shows them all.",
        )
    with _harness_errors():
        found = simple_evaluate(
            model=HarnessModel(scorer, say),
            tasks=[task],
            num_fewshot=shots,
            limit=limit,
            fewshot_random_seed=seed,
            task_manager=manager,
            log_samples=False,
        )
    # The first process of each machine has the results.
    return broadcast({key: found[key] for key in ("results", "n-samples", "versions")} if found else {})


def harness_tasks(found: Mapping[str, Any]) -> tuple[TaskScores, ...]:
    """Return the figures of `score_lm_eval` in our form; what a filter other than `none` chose is named by it."""
    tasks = []
    for name, values in found["results"].items():
        n = found["n-samples"].get(name, {}).get("effective", 0)
        figures = {}
        for key, value in values.items():
            metric, _, chosen = key.partition(",")
            if not chosen or metric.endswith("_stderr") or not isinstance(value, int | float):
                continue
            told = values.get(f"{metric}_stderr,{chosen}")
            stderr = float(told) if isinstance(told, int | float) else math.nan
            label = metric if chosen == "none" else f"{metric} ({chosen})"
            figures[label] = Score(float(value), *_interval(float(value), stderr, n), n, stderr)
        tasks.append(TaskScores(name, name, n, int(values.get("n-shot", 0) or 0), 0, figures))
    return tuple(tasks)


def _interval(value: float, stderr: float, n: int) -> tuple[float, float]:
    """Return an interval by a standard error; within 0 and 1 where it can be that of a mean of such values."""
    if 0 <= value <= 1 and n > 1 and stderr**2 <= value * (1 - value) / (n - 1) * 1.01:
        return bounded_interval(value, stderr, n)
    return value - Z * stderr, value + Z * stderr


@contextmanager
def _harness_errors() -> Iterator[None]:
    """Report what lm-evaluation-harness refuses as an error of the user's; our own exceptions pass through."""
    try:
        with machine_errors():
            yield
    except GptTasksError:
        raise
    except Exception as error:
        if _is_ours(error.__traceback__):
            raise
        kind = DataError if isinstance(error, OSError) else UsageError
        cause = " ".join(str(error).split()) or type(error).__name__
        raise kind(f"lm-evaluation-harness: {cause}", "gpt-tasks lm-eval --help; --trace shows where.") from error


def _is_ours(traceback: TracebackType | None) -> bool:
    """Whether an error comes from a model of ours that lm-evaluation-harness called."""
    rooms = []
    while traceback is not None:
        rooms.append(traceback.tb_frame.f_globals.get("__name__", "").partition(".")[0])
        traceback = traceback.tb_next
    return "gpt_tasks" in rooms[rooms.index("lm_eval") :] if "lm_eval" in rooms else True


def _check_version(say: Callable[[str], None]) -> None:
    version = metadata.version("lm_eval")
    if version != VERSION:
        say(f"lm-evaluation-harness {version} is installed; gpt-tasks is checked against {VERSION}.")
