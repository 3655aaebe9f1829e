"""Signals that end a process: it unwinds, and what it clears up on the way is cleared up as a whole."""

from __future__ import annotations

import signal
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn

from gpt_tasks.errors import Terminated

_ENDING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
# A signal that is sent again comes after the callback in which its error was dropped has returned.
_SECONDS = 0.01


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, as the handler of `unwind_on_signals` raises it."""

    number = signal.SIGINT


@dataclass
class _Pending:
    """The last signal that must end the process; `error` is what its handler raised, None once that was `taken`."""

    number: int = 0
    error: weakref.ref[BaseException] | None = None


_PENDING = _Pending()


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
        if isinstance(dropped.exc_value, Interrupted | Terminated):
            _watch(dropped.exc_value)
        else:
            before(dropped)

    sys.unraisablehook = hook


def signal_behind(error: BaseException) -> Terminated | KeyboardInterrupt | None:
    """Return what a signal raised, where that is what an error was raised from: libraries wrap what they meet."""
    link: BaseException | None = error
    while link is not None and not isinstance(link, Terminated | KeyboardInterrupt):
        link = link.__cause__ or link.__context__
    return _error(_PENDING.number) if link is None and _PENDING.error is not None else link


def taken() -> None:
    """Let no signal come again that has come so far: what was to be done about it is done."""
    _PENDING.error = None


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
    holding = True
    before = {number: handler for number in _ENDING if callable(handler := signal.getsignal(number))}

    def hold(number: int, frame: FrameType | None) -> None:
        if holding:
            held.append(number)
        else:  # It comes while the handlers are put back, and may leave this one in its place.
            before[number](number, frame)

    try:
        for number in before:
            signal.signal(number, hold)
        yield
    finally:
        holding = False
        for number, handler in before.items():
            signal.signal(number, handler)
        if held:
            signal.raise_signal(held[0])


def _unwind(number: int, frame: FrameType | None) -> NoReturn:
    taken()  # Of several signals the last one counts.
    error = _error(number)
    # Of Ctrl-C a program may make something of its own, but not while it is imported.
    if number != signal.SIGINT or _is_importing(frame):
        _watch(error)
    try:
        raise error
    finally:
        del error  # Its traceback holds this frame, and the frame would hold it.


def _error(number: int) -> Terminated | Interrupted:
    return Interrupted() if number == signal.SIGINT else Terminated(number)


def _watch(error: Terminated | Interrupted) -> None:
    """Send the error's signal again as soon as nobody holds the error, unless it was taken or another has come."""
    _PENDING.number, _PENDING.error = error.number, weakref.ref(error, _send_again)


def _send_again(dropped: weakref.ref[BaseException]) -> None:
    """Send it from another thread: what is raised here, where an object goes, would be dropped, too."""

    def send() -> None:
        main = threading.main_thread().ident
        if _PENDING.error is not dropped or main is None:
            return
        if hasattr(signal, "pthread_kill"):
            signal.pthread_kill(main, _PENDING.number)  # It wakes what waits in the main thread.
        else:
            signal.raise_signal(_PENDING.number)

    timer = threading.Timer(_SECONDS, send)
    timer.daemon = True
    timer.start()


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_globals.get("__name__") not in ("importlib._bootstrap", "_frozen_importlib"):
        frame = frame.f_back
    return frame is not None
