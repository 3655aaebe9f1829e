"""CoNLL files: a word and its tag a line, sentences separated by empty lines."""

from collections.abc import Iterable, Iterator
from itertools import chain

from gpt_tasks import BrokenRow, Row

DOCUMENT = "-DOCSTART-"
FEWEST, MOST = 2, 4
_HINT = "Give each word a separate line: the word, then a tab or a space and its tag."


def read_conll(lines: Iterable[str], name: str) -> Iterator[Row]:
    """Yield a row of `tokens` and `tags` for each sentence; columns are separated by tabs or spaces.

    The word is in the first of two to four columns, the tag in the last; lines that begin with -DOCSTART- begin a
    document and are left out. A sentence with a line of another number of columns than the first is a BrokenRow, which
    names the line.
    """
    tokens: list[str] = []
    tags: list[str] = []
    begins = width = 0
    problem = ""
    for number, line in enumerate(map(str.rstrip, chain(lines, [""])), start=1):
        columns = [column.strip() for column in (line.split("\t") if "\t" in line else line.split())]
        if not columns or columns[0] == DOCUMENT:
            if problem:
                yield BrokenRow(f"{name}:{begins}", problem, _HINT)
            elif tokens:
                yield Row({"tokens": tokens, "tags": tags}, f"{name}:{begins}")
            tokens, tags, begins, problem = [], [], 0, ""
            continue
        begins = begins or number
        found = _problem(columns, width)
        if found:
            problem = problem or f"{name}:{number}: {found}: {line[:60]!r}"
            continue
        width = len(columns)
        tokens.append(columns[0])
        tags.append(columns[-1])


def _problem(columns: list[str], width: int) -> str:
    """Return what is wrong with the columns of a line, where all others have `width` (0 if there is none before)."""
    if width and len(columns) != width:
        return f"the line has {len(columns)} columns, those before have {width}"
    if not FEWEST <= len(columns) <= MOST:
        return f"the line has {len(columns)} columns, not {FEWEST} to {MOST}"
    return "" if all(columns) else f"column {columns.index('') + 1} of the line is empty"
