"""How far something is: a bar with a rate and the time left in a terminal, and elsewhere a line every half minute."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeVar

from gpt_tasks.shown import tell

if TYPE_CHECKING:
    from rich.console import Console

LINE_SECONDS = 30.0

T = TypeVar("T")
_counting: ContextVar[Callable[[int], None] | None] = ContextVar("counting", default=None)


@contextmanager
def progress(what: str, total: int | None, done: int = 0, *, show: bool = True) -> Iterator[Callable[[], None]]:
    """Say on stderr how far something is, where there is something to do; what is yielded moves it by one.

    `total` is None where nobody knows it.
    """
    if not show or total == done:
        yield lambda: None
        return
    # Imported here, because no --help should wait for it.
    from rich.console import Console

    console = Console(stderr=True)
    if console.is_terminal:
        with _bar(console, what, total, done) as step:
            yield step
    else:
        yield _lines(what, total, done)


def counted(items: Iterable[T], what: str, total: int | None = None, *, show: bool = True) -> Iterator[T]:
    """Yield items, and say how many there were."""
    with progress(what, total, show=show) as step:
        for item in items:
            yield item
            step()


@contextmanager
def counting(count: Callable[[int], None]) -> Iterator[None]:
    """Let `count` know of everything that `advance` says is done within the block."""
    token = _counting.set(count)
    try:
        yield
    finally:
        _counting.reset(token)


def advance(number: int) -> None:
    """Say that so many are done, to whoever counts them."""
    count = _counting.get()
    if count is not None:
        count(number)


def duration(seconds: float) -> str:
    """Write a time as its largest unit says it: `40 s`, `12 min`, `3.5 h`."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 99.5 * 60 else f"{seconds / 3600:.1f} h"


def _lines(what: str, total: int | None, done: int) -> Callable[[], None]:
    began = said = time.monotonic()
    now_done = done

    def step() -> None:
        nonlocal now_done, said
        now_done += 1
        now = time.monotonic()
        if now - said < LINE_SECONDS or now_done == total:
            return
        said = now
        rate = (now_done - done) / (now - began)
        of, left = ("", "") if total is None else (f"/{total:,}", f", {duration((total - now_done) / rate)} left")
        tell(f"{what}: {now_done:,}{of}, {rate:,.1f}/s{left}")

    return step


@contextmanager
def _bar(console: Console, what: str, total: int | None, done: int) -> Iterator[Callable[[], None]]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
    from rich.progress import TimeRemainingColumn as Left
    from rich.text import Text

    class Rate(ProgressColumn):
        """How many are done in a second."""

        def render(self, task: Task) -> Text:
            """Return the rate, once there is one."""
            return Text(f"{task.speed:,.0f}/s" if task.speed else "")

    columns = (TextColumn(f"[bold]{what}[/]"), BarColumn(), MofNCompleteColumn(), Rate(), Left())
    with Progress(*columns, console=console, transient=True) as bars:
        bar = bars.add_task("", total=total, completed=done)
        yield lambda: bars.advance(bar)
