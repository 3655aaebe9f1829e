"""Signals that end a process: it unwinds, and what it clears up on the way is cleared up as a whole."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from gpt_tasks.errors import Terminated

_UNWINDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
_ENDING = [signal.SIGINT, *_UNWINDING]


def unwind_on_signals() -> None:
    """Unwind on SIGTERM and SIGHUP as on Ctrl-C. One that is ignored, as nohup has it, stays so."""
    for number in _UNWINDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _terminate)


def ignore_signals() -> None:
    """Let nothing break off the exit of a process that has done its work."""
    for number in _ENDING:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold signals back until the end of a block: a second Ctrl-C does not break off what the first one has begun."""
    if threading.current_thread() is not threading.main_thread():
        # The handlers of signals run in the main thread alone.
        yield
        return
    held: list[int] = []
    before = {number: handler for number in _ENDING if callable(handler := signal.getsignal(number))}
    try:
        for number in before:
            signal.signal(number, lambda number, frame: held.append(number))
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if held:
            signal.raise_signal(held[0])


def _terminate(number: int, frame: object) -> NoReturn:
    raise Terminated(128 + number)
