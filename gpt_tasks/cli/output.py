"""What a command prints on stdout: what people read, or one JSON object and nothing else."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from gpt_tasks.files import json_text
from gpt_tasks.shown import as_json, tell


@contextlib.contextmanager
def answering(asked: bool) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Keep stdout clean while a command runs; the yielded function prints the command's one JSON object there.

    Everything else that is printed, by a library or a plugin, goes to stderr. Where it is not `asked` for, nothing is
    redirected, and the yielded function prints nothing.
    """
    stdout = sys.stdout

    def answer(value: Mapping[str, Any]) -> None:
        if asked and first_process():
            print(as_json(json_text(value)), file=stdout)

    with contextlib.redirect_stdout(sys.stderr) if asked else contextlib.nullcontext():
        yield answer


def tell_undrawn(undrawn: Mapping[str, str], plot: str) -> None:
    """Say what stands in a plot for names that no installed font can write, if it has any."""
    for name, meant in undrawn.items():
        tell(f"In {plot}, {name} is {meant}: no installed font has its characters.", sys.stdout)


def first_process() -> bool:
    """Say whether this process is the one of its run that speaks."""
    return os.environ.get("RANK", "0") == "0"
