"""CoNLL files: a word and its tag a line, sentences separated by empty lines."""

from collections.abc import Iterable, Iterator

from gpt_tasks import DataError, Row

DOCUMENT = "-DOCSTART-"
FEWEST, MOST = 2, 4


def read_conll(lines: Iterable[str], name: str) -> Iterator[Row]:
    """Yield a row of `tokens` and `tags` for each sentence; columns are separated by tabs or spaces.

    The word is in the first of two to four columns, the tag in the last; lines that begin with -DOCSTART- begin a
    document and are left out. Raises DataError, naming the line, for one of another number of columns than the first.
    """
    tokens: list[str] = []
    tags: list[str] = []
    begins = width = 0
    for number, line in enumerate(lines, start=1):
        columns = line.split("\t") if "\t" in line.strip() else line.split()
        columns = [column.strip() for column in columns]
        if not any(columns) or columns[0] == DOCUMENT:
            if tokens:
                yield Row({"tokens": tokens, "tags": tags}, f"{name}:{begins}")
            tokens, tags = [], []
            continue
        width = width or len(columns)
        if len(columns) != width or not FEWEST <= width <= MOST or not all(columns):
            raise DataError(
                f"{name}:{number}: the line has {len(columns)} columns, the first has {width}: {line.strip()[:60]!r}",
                "Give each word a separate line: the word, then a tab or a space and its tag.",
            )
        begins = begins if tokens else number
        tokens.append(columns[0])
        tags.append(columns[-1])
    if tokens:
        yield Row({"tokens": tokens, "tags": tags}, f"{name}:{begins}")
