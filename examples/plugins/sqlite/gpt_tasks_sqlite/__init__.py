"""Read data from SQLite: `sql:reviews.db`, or `sql:reviews.db?query=SELECT text, label FROM reviews`."""

import sqlite3
from functools import partial
from pathlib import Path

from gpt_tasks import DataError, Row, SourceScheme, hookimpl

GPT_TASKS_HOOKS = 1
SPLITS = ("train", "validation", "test")


def splits(location):
    """Return what reads each split: the rows of a query, which are split later, or of the tables named as splits."""
    name, _, query = location.partition("?query=")
    path = Path(name).expanduser()
    if not path.is_file():
        raise DataError(f"sql:{location}: there is no file {name}", "Check the path.")
    if query:
        return {"all": partial(rows, path, query)}
    there = {row.values["name"] for row in rows(path, "SELECT name FROM sqlite_master")}
    tables = {split: partial(rows, path, f"SELECT * FROM {split}") for split in SPLITS if split in there}
    if not tables:
        raise DataError(
            f"sql:{location}: it has no table train, validation or test",
            f"Say what to read: 'sql:{location}?query=SELECT ... FROM ...'",
        )
    return tables


def rows(path, query):
    """Yield the rows of a query, one at a time, from a database that is opened to be read only."""
    database = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    try:
        cursor = database.execute(query)
        columns = [column for column, *_ in cursor.description or ()]
        for number, values in enumerate(cursor, start=1):
            yield Row(dict(zip(columns, values, strict=True)), f"{path.name}: row {number}")
    except sqlite3.Error as error:
        raise DataError(f"sql:{path}: {error}", f"The query was: {query}") from error
    finally:
        database.close()


@hookimpl
def register_sources():
    return [SourceScheme("sql:", "A database, or what a query gives: sql:FILE[?query=SELECT ...]", splits)]
