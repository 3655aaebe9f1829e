"""What the threads of one process do one after the other, and what a fork leaves in order for the child."""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache, cached_property, update_wrapper
from typing import Any, Generic, TypeVar

T = TypeVar("T")

LOADING = threading.RLock()
"""Held by the thread that opens or builds a model.

Meanwhile transformers replaces functions of torch and of itself: a second thread that did the same would put back what
the first had replaced, for good.
"""
_locks = {"training": threading.RLock()}


@contextmanager
def one_training() -> Iterator[None]:
    """Wait until no other thread of this process trains: a training draws from the global random generators."""
    with _locks["training"]:
        yield


def shared(switch: Callable[[], AbstractContextManager[None]]) -> Callable[[], AbstractContextManager[None]]:
    """Let threads share a context that turns a switch of the whole process.

    The first that enters turns it, and the last that leaves turns it back: what another thread had turned meanwhile
    would otherwise be put back too early, or for good.
    """
    lock, entered = threading.Lock(), list[AbstractContextManager[None]]()

    @contextmanager
    def context() -> Iterator[None]:
        with lock:
            entered.append(entered[0] if entered else switch())
            if len(entered) == 1:
                entered[0].__enter__()
        try:
            yield
        finally:
            with lock:
                last = entered.pop()
                if not entered:
                    last.__exit__(None, None, None)

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
        self._lock = threading.RLock()
        self.cache_clear = self._computed.cache_clear
        update_wrapper(self, function)

    def __call__(self) -> T:
        """Return the value."""
        with self._lock:
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
    _locks["training"] = threading.RLock()
    LOADING.release()
    if "tokenizers" in sys.modules:
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


if hasattr(os, "register_at_fork"):
    # A fork waits for a model that is being opened: the child would have but a half of it.
    os.register_at_fork(before=LOADING.acquire, after_in_parent=LOADING.release, after_in_child=_in_child)
