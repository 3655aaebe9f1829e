"""Write files so that a crash leaves the old or the new one, and turn what the machine refuses into MachineError."""

from __future__ import annotations

import errno
import glob
import json
import math
import os
import re
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from gpt_tasks.errors import GptTasksError, MachineError, said
from gpt_tasks.signals import uninterrupted

REFUSALS = {
    errno.ENOSPC: "Free some space, or write to another folder.",
    errno.EDQUOT: "Free some of your quota, or write to another folder.",
    errno.EFBIG: "Raise the limit on the size of files, or write to another folder.",
    errno.EROFS: "Give a folder that can be written.",
    errno.EACCES: "Fix the permission, or write to another folder.",
    errno.EPERM: "Fix the permission, or write to another folder.",
    errno.EEXIST: "Give another folder.",
    errno.ENOTDIR: "Give a path that leads through folders only.",
    errno.EISDIR: "Give a file, or another folder.",
    errno.ENOENT: "Give another place: nothing can be made there, or another program has taken it away.",
    errno.ENAMETOOLONG: "Give a shorter path.",
    errno.ELOOP: "Fix the link: it leads back to itself.",
    errno.EMFILE: "Raise the limit on open files (ulimit -n).",
    errno.ENOMEM: "Free some memory; finetune, pretrain and score take a lower --batch-tokens.",
}
_DRAFT = ".draft"
# Libraries written in other languages report a full disk only in the message.
_FULL = re.compile(r"no space left|file too large|\(os error (28|27|122)\)|file write failed|unexpected pos", re.I)
# How libraries say that another process of a run has gone; torch's own errors have classes that are not imported here.
_GONE = re.compile(r"gloo/transport|(closed|reset) by (remote )?peer|broken pipe|NCCL|TCPStore|process group", re.I)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give another name to write a file under, which takes its own only once it is whole."""
    draft = path.with_name(f".{path.name}.{os.getpid()}{_DRAFT}")
    try:
        yield draft
        draft.replace(path)
    except BaseException:
        with uninterrupted():
            draft.unlink(missing_ok=True)
        raise


def remove_drafts(folder: Path) -> None:
    """Remove what processes that were killed had begun to write in a folder. No other process may work there."""
    for draft in folder.rglob(f".*{_DRAFT}"):
        draft.unlink(missing_ok=True)


def is_draft(path: Path) -> bool:
    """Return whether a file is one that is, or was, being written."""
    return path.name[0] == "." and path.name.endswith(_DRAFT)


def remove_left_drafts(path: Path) -> None:
    """Remove what processes that were killed had begun to write in the place of a file. Others may still write it."""
    for draft in path.parent.glob(f".{glob.escape(path.name)}.*{_DRAFT}"):
        number = draft.name.removesuffix(_DRAFT).rpartition(".")[2]
        if number.isdecimal() and not _is_running(int(number)):
            draft.unlink(missing_ok=True)


def _is_running(number: int) -> bool:
    if os.name != "posix":  # Elsewhere there is no such question.
        return True
    try:
        os.kill(number, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        pass  # It is another user's.
    return True


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Make a folder that is gone at the end, also where signals follow one another."""
    folder = tempfile.TemporaryDirectory(prefix="gpt-tasks-")
    try:
        yield Path(folder.name)
    finally:
        with uninterrupted():
            folder.cleanup()


@contextmanager
def atomic_write(path: Path) -> Iterator[TextIO]:
    """Open a text file that takes its name only once it is whole."""
    with atomic_path(path) as draft, draft.open("w", encoding="utf-8", newline="\n") as file:
        yield file


def give_usual_rights(folder: Path) -> None:
    """Give the files in a folder, which some libraries write for their owner alone, the rights that the folder has."""
    for file in folder.iterdir():
        if file.is_file():
            file.chmod(stat.S_IMODE(folder.stat().st_mode) & 0o666)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file that is there as a whole or not at all; a number that is not finite becomes null."""
    with atomic_write(path) as file:
        file.write(f"{json_text(value, indent=2)}\n")


def parse_json(text: str | bytes, read_object: Callable[[list[tuple[str, Any]]], dict[str, Any]] | None = None) -> Any:
    """Read JSON, each object by `read_object` where that is given.

    Raises ValueError for what is none, is nested too deep, or holds a number of thousands of digits.
    """
    try:
        return json.loads(text, object_pairs_hook=read_object)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def json_text(value: Any, *, indent: int | None = None) -> str:
    """Return a value as JSON, on one line without `indent`; a number that is not finite becomes null."""
    return json.dumps(json_safe(value), ensure_ascii=False, indent=indent, allow_nan=False)


def json_safe(value: Any) -> Any:
    """Return a JSON value with null for every number that JSON cannot hold: NaN and the infinities."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: json_safe(part) for name, part in value.items()}
    return [json_safe(part) for part in value] if isinstance(value, list | tuple) else value


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that the machine's memory, or that of its accelerator, is used up."""
    # torch has words only for the memory of a CPU, and is not imported here.
    of_torch = type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in said(error)
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and of_torch)


def _is_of_other_process(error: BaseException) -> bool:
    """Return whether an error of communication means that another process of a run on several has ended."""
    several = os.environ.get("WORLD_SIZE", "1") != "1"
    return several and isinstance(error, RuntimeError) and _GONE.search(said(error)) is not None


@contextmanager
def machine_errors(*, of_files: bool = True) -> Iterator[None]:
    """Raise MachineError, naming the file and the way out, for what the disk, a permission or the memory refuses.

    With `of_files` every error of a file is the machine's, also that it is missing.
    """
    try:
        yield
    except GptTasksError:
        raise
    except OSError as error:
        is_file = of_files and error.filename is not None
        if not is_file and (error.errno not in REFUSALS or error.errno == errno.ENOENT):
            raise
        where = "" if error.filename is None else f"{error.filename}: "
        raise MachineError(
            f"{where}{error.strerror}", REFUSALS.get(error.errno or 0, "Check the file, or give another.")
        ) from error
    except Exception as error:
        if is_out_of_memory(error):
            raise MachineError(
                "The memory is used up", "Shorten the texts; finetune, pretrain and score take a lower --batch-tokens."
            ) from error
        if _is_of_other_process(error):
            raise MachineError(
                "Another process of this run has ended, and this one cannot go on without it",
                "The message of that process says why; where it has none, it was killed. Then continue with --resume.",
            ) from error
        if "re-initialize CUDA in forked" in said(error):
            raise MachineError(
                "A forked process cannot compute on a GPU that its parent has used",
                "Start it by spawn: multiprocessing.get_context('spawn').",
            ) from error
        if not _FULL.search(said(error)):
            raise
        raise MachineError(said(error), REFUSALS[errno.ENOSPC]) from error
