"""What is shown of a text that others wrote: nothing of it moves the cursor, hides, breaks a table, or floods.

Messages, tables, the model card and proposed commands go through here; files of data are written as they are.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Collection, Sequence
from typing import Any, TextIO

from gpt_tasks.words import isolated, shortened

LONGEST_MESSAGE = 1000
LONGEST_CELL = 300
# Characters of a column of free text that a table leaves at least; below them its rows are stacked.
_FOLDED = 20
# Controls, marks of direction, and what takes no room. Joiners are left: letters and emoji are made with them.
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e0fff]"
)
_MARKUP = re.compile(r"([\\`*_{}\[\]<>#|~$&])")


def escaped(text: str, *, keep: str = "") -> str:
    r"""Return a text with an escape, as in `\x1b`, for every character that is not seen but those to `keep`."""
    if text.isprintable():
        return text
    return _UNSEEN.sub(lambda found: found[0] if found[0] in keep else _escape(found[0]), text)


def sentence(text: str) -> str:
    """Return a message on one line; of a long one the middle is left out, so that what it is about and says remains."""
    line = escaped(text[: 2 * LONGEST_MESSAGE] + text[-LONGEST_MESSAGE:] if len(text) > 3 * LONGEST_MESSAGE else text)
    if len(line) <= LONGEST_MESSAGE:
        return line
    return f"{line[: LONGEST_MESSAGE * 2 // 3]} ... {line[-LONGEST_MESSAGE // 4 :]}"


def tell(line: str, file: TextIO | None = None) -> None:
    """Print a message as a `sentence`, by default on stderr."""
    print(sentence(line), file=file or sys.stderr, flush=True)


def written(text: str, file: TextIO) -> str:
    """Return a text for a stream: as it is for a file or a pipe, escaped but for its line breaks for a terminal."""
    return escaped(text, keep="\n\t") if file.isatty() else text


def as_json(text: str) -> str:
    """Return JSON that reads as the same value and has no character that is not seen."""
    return text if text.isprintable() else _UNSEEN.sub(lambda found: json.dumps(found[0])[1:-1], text)


def quoted(word: object) -> str:
    """Return a word of a proposed command as a shell reads it, on one line."""
    text = str(word)
    if not _UNSEEN.search(text):
        return shlex.quote(text)
    inner = text.replace("\\", "\\\\").replace("'", "\\'")
    # What is no character of a file's name is the byte that stands there.
    return f"$'{_UNSEEN.sub(lambda found: re.sub('udc(?=[89a-f])', 'x', _escape(found[0])), inner)}'"


def markdown(text: str, longest: int = LONGEST_CELL) -> str:
    """Return a text on one line, of at most so many characters, that Markdown and HTML show unchanged."""
    return _MARKUP.sub(r"\\\1", escaped(shortened(text, longest)))


def markdown_code(text: str) -> str:
    """Return a text on one line within the back quotes of Markdown."""
    return escaped(shortened(text, LONGEST_CELL)).replace("`", "'").replace("|", "/")


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    texts: Collection[str] = (),
    figures: bool = False,
    file: TextIO | None = None,
) -> None:
    """Print a table on stdout or to `file`; `figures` says that all columns but the first are to end at one place.

    In a file or a pipe a row is one line of any length. In a terminal, cells of the columns `texts` are folded to its
    width and others never; where they do not fit, each row is stacked: a line for each of its cells.
    """
    # Imported here, because no --help should wait for it.
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    console = terminal(file)
    shown = [[_cell(cell, narrow=console.is_terminal) for cell in row] for row in rows]
    names = [_cell(name, narrow=console.is_terminal) for name in columns]
    widths = [max(map(cell_len, column)) for column in zip(names, *shown, strict=True)]
    least = [min(width, _FOLDED) if name in texts else width for name, width in zip(columns, widths, strict=True)]
    if sum(least) + 2 * (len(least) - 1) > console.width:
        _print_stacked(console, names, shown)
        return
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for place, (name, given) in enumerate(zip(names, columns, strict=True)):
        justify: Any = "right" if figures and place else "left"
        table.add_column(Text(name), justify=justify, no_wrap=given not in texts, overflow="fold")
    for row in shown:
        table.add_row(*map(Text, row))
    console.print(table)


def terminal(file: TextIO | None = None) -> Any:
    """Return rich's console for stdout or a file, which colours nothing by itself; one that is no terminal is wide."""
    from rich.console import Console

    console = Console(file=file, highlight=False)
    if not console.is_terminal:
        console.width = 100_000
    return console


def _print_stacked(console: Any, names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.cells import cell_len, set_cell_size
    from rich.text import Text

    width = max(map(cell_len, names[1:]), default=0)
    for row in rows:
        console.print(Text(row[0], style="bold"), soft_wrap=True)
        for name, cell in zip(names[1:], row[1:], strict=True):
            if cell:
                console.print(Text(f"  {set_cell_size(name, width)}  {cell}"), soft_wrap=True)


def _cell(text: str, *, narrow: bool) -> str:
    longest = LONGEST_CELL if narrow else 100 * LONGEST_CELL
    cell = escaped(text[: 10 * longest])
    return isolated(shortened(cell, longest)) if narrow else cell[:longest]


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
