"""One run on several processes: the rank of this one, and communication between them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

from gpt_tasks.errors import UsageError
from gpt_tasks.files import remove_drafts
from gpt_tasks.signals import uninterrupted

LOCK = ".lock"
"""The file by which a process has a folder to itself; where it was killed, the file is left and says nothing."""

T = TypeVar("T")
_by_itself: ContextVar[bool] = ContextVar("by_itself", default=False)


def rank() -> int:
    """Return this process's rank in the run; rank 0 prints and writes."""
    return 0 if _by_itself.get() else int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """Return the number of processes of the run, as torchrun and accelerate set it."""
    return 1 if _by_itself.get() else int(os.environ.get("WORLD_SIZE", "1"))


def init_processes(device: str) -> None:
    """Join the process group, if there are other processes. `device` is the requested one."""
    if world_size() > 1:
        from accelerate import PartialState

        PartialState(cpu=device == "cpu")


def broadcast(value: T) -> T:
    """Return the first process's value on all of them."""
    if world_size() == 1:
        return value
    from torch import distributed

    values = [value]
    distributed.broadcast_object_list(values, src=0)
    return values[0]


def all_gather(value: T) -> list[T]:
    """Return the values of all processes, in the order of their ranks, on all of them."""
    if world_size() == 1:
        return [value]
    from torch import distributed

    values: list[Any] = [None] * world_size()
    distributed.all_gather_object(values, value)
    return values


def barrier() -> None:
    """Wait until every process has reached this point."""
    if world_size() > 1:
        from torch import distributed

        distributed.barrier()


@contextmanager
def by_itself() -> Iterator[None]:
    """Let this process do something without the others, which take no part in it."""
    token = _by_itself.set(True)
    try:
        yield
    finally:
        _by_itself.reset(token)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep a second run out of a folder while this one, on all its processes, works in it. Raises UsageError.

    What a process that was killed there was just writing is removed.
    """
    if rank() > 0:
        yield
        return
    from filelock import FileLock, Timeout

    lock = FileLock(folder / LOCK, timeout=0)
    try:
        with uninterrupted():
            try:
                lock.acquire()
            except Timeout:
                raise UsageError(f"Another process works in {folder}", "Wait for it, or end it first.") from None
            remove_drafts(folder)
        yield
    finally:
        if lock.is_locked:
            with uninterrupted():
                lock.release()
                (folder / LOCK).unlink(missing_ok=True)
