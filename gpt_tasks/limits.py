"""Limits of time and memory: no pattern or template of others computes for ever, and no size is beyond the machine.

Nothing here needs a signal, a thread or a process, so that it holds in every thread.
"""

from __future__ import annotations

import math
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

SECONDS = 5.0
"""Of a processor, for a pattern to look through one text, and for a template to write one."""
LARGEST_CONSTANT = 100_000
"""As large a number may stand in a template, and be the product of those that stand there."""
LARGEST_EXPONENT = 64
MOST_REPETITIONS = 1_000_000
"""Of a pattern, by the product of its counts: the compiled one may hold each of them."""

_COUNTS = re.compile(r"\{(\d{0,20}),?(\d{0,20})\}")


def machine_memory() -> float:
    """Return how many bytes of memory this process can have at most; infinite where nobody says it."""
    try:
        bytes = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, OSError, ValueError):
        return math.inf
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):
            bytes = min(bytes, float(Path(file).read_text(encoding="ascii")))
    return bytes


def check_pattern(pattern: str) -> None:
    """Raise ValueError for what is no regular expression of `re`, or repeats something without bounds."""
    _compiled(pattern)


def search(pattern: str, text: str) -> Any:
    """Return the first match as `re.search` does. Raises ValueError as `check_pattern`, TimeoutError after seconds."""
    with _late(pattern):
        return _compiled(pattern).search(text, timeout=SECONDS)


def sub(pattern: str, replacement: str, text: str) -> str:
    """Return the text with replacements as `re.sub` does; raises as `search`."""
    with _late(pattern):
        return str(_compiled(pattern).sub(replacement, text, timeout=SECONDS))


@lru_cache(maxsize=100)
def _compiled(pattern: str) -> Any:
    # This one has a limit of time, and understands what `re` does.
    import regex

    counts = [int(largest or least or 1) for least, largest in _COUNTS.findall(pattern)]
    if math.prod(counts) > MOST_REPETITIONS:
        raise ValueError(f"it repeats something {math.prod(counts):.0e} times, and {MOST_REPETITIONS:,} are the most")
    try:
        re.compile(pattern)
        return regex.compile(pattern)
    except (re.error, regex.error, RecursionError, OverflowError, MemoryError) as error:
        raise ValueError(str(error) or "it is nested too deep") from None


def check_template(tree: Any) -> None:
    """Raise ValueError for a parsed template of Jinja that can compute numbers or texts of any size."""
    from jinja2 import nodes

    for power in tree.find_all(nodes.Pow):
        small = isinstance(power.right, nodes.Const) and _size(power.right) <= LARGEST_EXPONENT
        if not small or isinstance(power.left, nodes.Pow) or next(power.left.find_all(nodes.Pow), None):
            raise ValueError(f"a power may have no exponent but a number up to {LARGEST_EXPONENT}")
        if isinstance(power.left, nodes.Const) and _size(power.left) ** _size(power.right) > LARGEST_CONSTANT:
            raise ValueError(f"a power is larger than {LARGEST_CONSTANT:,}")
    compared = {id(each.expr) for each in tree.find_all((nodes.Compare, nodes.Operand))}
    for constant in tree.find_all(nodes.Const):
        if _size(constant) > LARGEST_CONSTANT and id(constant) not in compared:
            raise ValueError(f"{str(constant.value)[:20]} is larger than {LARGEST_CONSTANT:,}")
    # What one product has made long, another one can make longer.
    factors = {id(each): each for product in tree.find_all(nodes.Mul) for each in product.find_all(nodes.Const)}
    if math.prod(max(1.0, _size(each)) for each in factors.values()) > LARGEST_CONSTANT:
        raise ValueError(f"the product of its numbers is larger than {LARGEST_CONSTANT:,}")


@contextmanager
def time_limit(seconds: float | None = None) -> Iterator[None]:
    """Raise TimeoutError in what is called here, in this thread, after some seconds of a processor.

    It is raised between two lines of Python code, or two calls: not within one call of compiled code.
    """
    most = SECONDS if seconds is None else seconds
    last = time.thread_time() + most

    seen = 0

    def check(frame: Any, event: str, argument: Any) -> Any:
        nonlocal seen
        seen += 1
        # To look at the clock takes longer than the rest of this.
        if not seen % 64 and time.thread_time() > last:
            raise TimeoutError(f"it takes longer than {most:g} seconds")
        # Loops are in the code that Jinja makes of a template; elsewhere calls are enough.
        return check if frame.f_code.co_filename.startswith("<") else None

    before = sys.gettrace()
    sys.settrace(check)
    try:
        yield
    finally:
        sys.settrace(before)


def _size(constant: Any) -> float:
    value = constant.value
    return abs(value) if isinstance(value, int | float) else 0


@contextmanager
def _late(pattern: str) -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        raise TimeoutError(f"the pattern {pattern[:60]!r} takes longer than {SECONDS:g} seconds") from None
