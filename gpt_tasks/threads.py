"""What the threads of one process do one after the other, and what a fork leaves in order for the child."""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cache, cached_property, update_wrapper
from typing import Any, Generic, TypeVar
from weakref import WeakSet

T = TypeVar("T")

LOADING = threading.RLock()
"""Held by the thread that opens or builds a model.

Meanwhile transformers replaces functions of torch and of itself: a second thread that did the same would put back what
the first had replaced, for good. A fork waits for it: the child would have but a half of what is being built.
"""


class Lock:
    """A lock that the thread which holds it can take again, and that is free in a forked process.

    There, no thread is left that would release it. What it guards must be whole at any moment, or change under LOADING.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._holder: list[int] = []  # as often as that thread has taken it
        _LOCKS.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()
        self._holder.append(threading.get_ident())

    def __exit__(self, *_: object) -> None:
        self._holder.pop()
        self._lock.release()

    def leave_to_this_thread(self) -> None:
        """Make it free where another thread holds it: after a fork that thread is gone."""
        if threading.get_ident() not in self._holder:
            self._lock, self._holder = threading.RLock(), []


_LOCKS: WeakSet[Lock] = WeakSet()
_FORKED: list[Callable[[], None]] = []
_TRAINING = Lock()


@contextmanager
def one_training() -> Iterator[None]:
    """Wait until no other thread of this process trains: a training draws from the global random generators."""
    with _TRAINING:
        yield


def shared(switch: Callable[[], AbstractContextManager[None]]) -> Callable[[], AbstractContextManager[None]]:
    """Let threads share a context that turns a switch of the whole process.

    The first that enters turns it, and the last that leaves turns it back: what another thread had turned meanwhile
    would otherwise be put back too early, or for good. In a forked process only the thread that forked is in it.
    """
    lock, inside, turned = Lock(), list[int](), ExitStack()

    @contextmanager
    def context() -> Iterator[None]:
        with lock:
            if not inside:
                turned.enter_context(switch())
            inside.append(threading.get_ident())
        try:
            yield
        finally:
            leave(threading.get_ident())

    def leave(thread: int) -> None:
        with lock:
            inside.remove(thread)
            if not inside:
                turned.close()

    def only_this_thread() -> None:
        for thread in [each for each in inside if each != threading.get_ident()]:
            leave(thread)

    _FORKED.append(only_this_thread)
    return context


@shared
@contextmanager
def ignoring_warnings() -> Iterator[None]:
    """Show no warnings of Python, while any thread wants it so."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class once(Generic[T]):  # noqa: N801 - a decorator
    """A function without arguments whose value is computed once in a process, by one thread while the others wait."""

    def __init__(self, function: Callable[[], T]) -> None:
        self._computed = cache(function)
        self.cache_clear = self._computed.cache_clear
        update_wrapper(self, function)

    def __call__(self) -> T:
        """Return the value."""
        with LOADING:
            return self._computed()


class loaded_once(cached_property[T]):  # noqa: N801 - as the class that it extends
    """A cached property that one thread computes while the others wait, and that waits for other models to be open."""

    def __get__(self, instance: Any, owner: type[Any] | None = None) -> Any:
        with LOADING:
            return super().__get__(instance, owner)


def spin_briefly() -> None:
    """Let threads that wait for others go to sleep soon, where the user has not said how they wait.

    By default GNU's OpenMP spins for milliseconds. Where another process has the core of one of the threads, the others
    spin until it gets it back: a fine-tuning then takes several times as long (`benchmarks/busy_machine.py`). It is
    read once, when torch is loaded.
    """
    if not os.environ.keys() & {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}:
        os.environ["GOMP_SPINCOUNT"] = "1000"


def _in_child() -> None:
    """Leave a forked process in order: its locks free, and without the threads of OpenMP, which no fork copies.

    GNU's OpenMP would wait for them forever. tokenizers turns its threads off, with a warning unless this is set.
    """
    for lock in list(_LOCKS):
        lock.leave_to_this_thread()
    LOADING.release()
    for leave_others in _FORKED:
        leave_others()
    if "tokenizers" in sys.modules:
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=LOADING.acquire, after_in_parent=LOADING.release, after_in_child=_in_child)
