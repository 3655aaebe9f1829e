"""The source `sqlite:`: a table or a view of a database."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from gpt_tasks.data.cells import plain
from gpt_tasks.data.encodings import reading
from gpt_tasks.data.split_names import ALL
from gpt_tasks.errors import DataError, MachineError
from gpt_tasks.extensions import Reader, SourceScheme
from gpt_tasks.hookspecs import hookimpl
from gpt_tasks.paths import check_rereadable, user_path
from gpt_tasks.types import Row


@hookimpl
def register_sources() -> list[Reader]:
    """Register the scheme `sqlite:`."""
    return [SourceScheme("sqlite:", "A table of a database: sqlite:FILE#TABLE", sqlite_splits)]


def sqlite_splits(location: str) -> Mapping[str, Callable[[], Iterator[Row]]]:
    """Return the rows of a table or view, by `FILE#TABLE`; the table need not be named where there is only one.

    Raises DataError where there is no such file or table, naming those that there are.
    """
    name, _, table = location.rpartition("#") if "#" in location else (location, "", "")
    path = user_path(name, "sqlite:")
    if not path.is_file() and user_path(location).is_file():
        name, table, path = location, "", user_path(location)
    check_rereadable(path)
    if not path.is_file():
        raise DataError(f"sqlite:{location}: there is no file {name}", "Write sqlite:FILE#TABLE.")
    found = _query(path, "SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")
    tables = [name for name in (str(values["name"]) for values in found) if not name.startswith("sqlite_")]
    if not table and len(tables) == 1:
        table = tables[0]
    if table not in tables:
        lacking = f"there is no table '{table}'" if table else "which table is meant?"
        raise DataError(
            f"sqlite:{location}: {lacking}; there are {', '.join(tables) or 'none'}", f"Write sqlite:{name}#TABLE."
        )
    return {ALL: partial(_table_rows, path, table)}


def _table_rows(path: Path, table: str) -> Iterator[Row]:
    quoted = table.replace('"', '""')
    for number, values in enumerate(_query(path, f'SELECT * FROM "{quoted}"'), start=1):
        yield Row({column: plain(value) for column, value in values.items()}, f"{path.name}#{table}:{number}")


def _query(path: Path, query: str) -> Iterator[dict[str, Any]]:
    import sqlite3

    with reading(path):
        try:
            database = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
            try:
                cursor = database.execute(query)
                columns = [column[0] for column in cursor.description]
                for values in cursor:
                    yield dict(zip(columns, values, strict=True))
            finally:
                database.close()
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) and "open" not in str(error):
                raise DataError(f"{path}: the table cannot be read: {error}", "Fix it, or give another.") from error
            raise MachineError(f"{path}: the database cannot be read: {error}", "Close what writes to it.") from error
        except sqlite3.DatabaseError as error:
            raise DataError(f"{path}: {error}", "Give a database of SQLite's.") from error
