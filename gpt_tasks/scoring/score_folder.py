"""The folder of a scoring: whose it is, what is in it, and the cache of its answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpt_tasks.errors import UsageError
from gpt_tasks.events import Observers
from gpt_tasks.files import parse_json
from gpt_tasks.paths import check_place, output_folder, user_path
from gpt_tasks.processes import barrier, rank

if TYPE_CHECKING:
    from gpt_tasks.scoring.cache import AnswerCache
    from gpt_tasks.scoring.results import TaskScores

ANSWERS = "answers.jsonl"
SCORES_FOLDER = Path("scores")
# What a scoring leaves in its folder, where observers may write too; and what only others leave.
_OWN = re.compile(r"scores\.json|answers(-\d+)?\.jsonl")
_OTHERS = {"run.json", "metrics.json", "pretrain.json", "config.json"}


def file_name(model: str) -> str:
    """A model's name as part of a folder's, without the colons that Windows refuses."""
    return user_path(model).absolute().name.replace(":", "-")


def score_folder(output: str | Path | None, default: str) -> Path:
    """Return the folder of a scoring: the given one, or the default under ./scores.

    Raises UsageError where it is no folder or holds files of something else, before anything is loaded.
    """
    folder = SCORES_FOLDER / default if output is None else user_path(output, "--output")
    check_place(folder)
    if not folder.exists():
        return folder
    if not folder.is_dir():
        raise UsageError(f"--output {folder} is a file", "Give a folder.")
    names = {path.name for path in folder.iterdir() if path.name[0] != "."}
    others = names & _OTHERS or (set() if any(map(_OWN.fullmatch, names)) else names)
    if others:
        raise UsageError(
            f"--output {folder} holds other files than those of a scoring: {min(others)}",
            "Give a folder that is empty, not there yet, or of a scoring before.",
        )
    return folder


def scores_folder(output: str | Path | None) -> Path:
    """Return the folder that holds the folders of several scorings: the given one, or ./scores.

    Raises UsageError where it is no folder, or itself that of a scoring or of something else.
    """
    folder = SCORES_FOLDER if output is None else user_path(output, "--output")
    check_place(folder)
    if not folder.exists():
        return folder
    if not folder.is_dir():
        raise UsageError(f"--output {folder} is a file", "Give a folder.")
    names = [path.name for path in folder.iterdir()]
    taken = sorted(name for name in names if name in _OTHERS or _OWN.fullmatch(name))
    if taken:
        raise UsageError(
            f"--output {folder} holds files of something else: {taken[0]}",
            "Give a folder for the folders of all scorings, as in --output scores.",
        )
    return folder


def refuse_others(folder: Path, asked: Mapping[str, Any]) -> None:
    """Raise UsageError where the folder holds scores with other settings."""
    file = folder / "scores.json"
    try:
        saved = parse_json(file.read_text(encoding="utf-8"))
        held = {"model": saved["model"]["fingerprint"], "suite": saved["suite"]["sha256"], **saved["settings"]}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return  # nothing there, or nothing to be lost
    if held.get("shots_sampler") == "drawn":
        held["shots_sampler"] = "random"  # its current name
    for name, value in asked.items():
        if name not in ("device", "cluster") and held.get(name) != value:
            raise UsageError(
                f"{folder} holds scores of another {name.replace('_', ' ')}: {held.get(name)}, not {value}",
                "Give another folder with --output, or remove this one.",
            )


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Make the folder, and let no other process work in it. What fails leaves its answers there, and nothing else."""
    with output_folder(folder if rank() == 0 else None, keep="answers*.jsonl"):
        yield


def open_cache(folder: Path, identity: Mapping[str, str], say: Callable[[str], None]) -> AnswerCache:
    """Open the first process's file, which takes over the answers of the others; every other process gets its own."""
    from gpt_tasks.scoring.cache import AnswerCache

    if rank() == 0:
        first = AnswerCache(folder / ANSWERS, identity, say, sorted(folder.glob("answers-*.jsonl")))
        barrier()
        return first
    barrier()
    return AnswerCache(folder / f"answers-{rank()}.jsonl", identity, say)


def report(observers: Observers, tasks: Sequence[TaskScores], artifacts: Sequence[Path]) -> None:
    """Send the figures of each task to observers, and what the scoring leaves."""
    for reported in tasks:
        observers.send("evaluated", {"task": reported.name, **reported.values()})
    observers.finish({}, artifacts)


def versions() -> dict[str, str]:
    """Return the versions of the libraries that figures depend on."""
    from importlib import metadata

    return {name: metadata.version(name) for name in ("gpt-tasks", "torch", "transformers", "tokenizers")}
