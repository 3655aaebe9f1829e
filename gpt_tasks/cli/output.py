"""What a command shows: tables for people, or one JSON object and nothing else on stdout."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from gpt_tasks.files import json_text
from gpt_tasks.words import isolated


@contextlib.contextmanager
def answering(as_json: bool) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Keep stdout clean while a command runs; the yielded function prints the command's one JSON object there.

    Everything else that is printed, by a library or a plugin, goes to stderr. Without `as_json` nothing is redirected,
    and the yielded function prints nothing.
    """
    stdout = sys.stdout

    def answer(value: Mapping[str, Any]) -> None:
        if as_json and first_process():
            print(json_text(value), file=stdout)

    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        yield answer


def first_process() -> bool:
    """Say whether this process is the one of its run that speaks."""
    return os.environ.get("RANK", "0") == "0"


def show_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on stdout; in a file or a pipe a row is one line of any length."""
    # Imported here, because no --help should wait for it.
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 100_000
    for row in rows:
        table.add_row(*(Text(isolated(cell) if console.is_terminal else cell) for cell in row))
    console.print(table)
