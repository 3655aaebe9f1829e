"""Signals that end a process: it unwinds, and what it clears up on the way is cleared up as a whole."""

from __future__ import annotations

import signal
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

from gpt_tasks.errors import Terminated

_UNWINDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
_ENDING = [signal.SIGINT, *_UNWINDING]


_watched: dict[weakref.ref[BaseException], int] = {}
"""What handlers have raised and nobody has dealt with, and the numbers of the signals."""
_again: list[int] = []
"""Signals whose errors were dropped, until they have come again."""
_AT_ONCE = 0.01


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, as the handler of `unwind_on_signals` raises it."""


def unwind_on_signals() -> None:
    """Unwind on SIGTERM and SIGHUP as on Ctrl-C. A signal that is ignored, as nohup has it, stays so.

    What the handlers raise can meet code that drops it, as the imports of libraries do: then the signal comes again.
    """
    for number in _ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _unwind)


def send_dropped_again() -> None:
    """Let a signal come again whose error Python can only print, as one within `__del__` or a callback."""
    before = sys.unraisablehook

    def hook(dropped: sys.UnraisableHookArgs) -> None:
        error = dropped.exc_value
        if not isinstance(error, Terminated | KeyboardInterrupt):
            before(dropped)
            return
        _watched.clear()
        _send_again(int(str(error.code)) - 128 if isinstance(error, Terminated) else signal.SIGINT)

    sys.unraisablehook = hook


def signal_behind(error: BaseException) -> Terminated | KeyboardInterrupt | None:
    """Return what a signal raised, where that is what an error was raised from: libraries wrap what they meet."""
    link: BaseException | None = error
    while link is not None and not isinstance(link, Terminated | KeyboardInterrupt):
        link = link.__cause__ or link.__context__
    return _raised(_again[0]) if link is None and _again else link


def taken() -> None:
    """Let no signal come again that has come so far: what was to be done about it is done."""
    _watched.clear()
    _again.clear()


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


def _unwind(number: int, frame: FrameType | None) -> NoReturn:
    _again.clear()
    error = _raised(number)
    # Of Ctrl-C a program may make something of its own, but not while it is imported.
    if number != signal.SIGINT or _is_importing(frame):
        _watched[weakref.ref(error, _dropped)] = number
    try:
        raise error
    finally:
        del error  # Its traceback holds this frame, and the frame would hold it.


def _raised(number: int) -> Terminated | KeyboardInterrupt:
    return Interrupted() if number == signal.SIGINT else Terminated(128 + number)


def _dropped(watch: weakref.ref[Any]) -> None:
    number = _watched.pop(watch, None)
    if number is not None:
        _send_again(number)


def _send_again(number: int) -> None:
    """Send a signal from another thread: what is raised here, where an object goes, would be dropped, too."""
    _again.append(number)

    def send() -> None:
        main = threading.main_thread().ident
        if number not in _again or main is None:
            return
        if hasattr(signal, "pthread_kill"):
            signal.pthread_kill(main, number)  # It wakes what waits in the main thread.
        else:
            signal.raise_signal(number)

    timer = threading.Timer(_AT_ONCE, send)
    timer.daemon = True
    timer.start()


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_globals.get("__name__") not in ("importlib._bootstrap", "_frozen_importlib"):
        frame = frame.f_back
    return frame is not None
