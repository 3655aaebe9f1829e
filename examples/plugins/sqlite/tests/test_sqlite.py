import sqlite3

import pytest
from gpt_tasks_sqlite import splits

from gpt_tasks import GptTasksError


@pytest.fixture
def database(tmp_path):
    path = tmp_path / "reviews.db"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE reviews (text, stars)")
        database.executemany("INSERT INTO reviews VALUES (?, ?)", [("Cold soup", 1), ("100 % lovely", 5)])
    database.close()
    return path


def read(location, split):
    return [(row.values, row.where) for row in splits(str(location))[split]()]


def test_a_query_may_hold_what_it_likes(database):
    query = "SELECT text, stars + 1 AS label FROM reviews WHERE text LIKE '%100 \\%%' ESCAPE '\\'"
    assert read(f"{database}?query={query}", "all") == [({"text": "100 % lovely", "label": 6}, "reviews.db: row 1")]


def test_without_a_query_tables_are_splits(database):
    with pytest.raises(GptTasksError, match="no table train, validation or test"):
        splits(str(database))
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE VIEW test AS SELECT text FROM reviews WHERE stars > 3")
    connection.close()
    assert set(splits(str(database))) == {"test"}
    assert read(database, "test") == [({"text": "100 % lovely"}, "reviews.db: row 1")]


@pytest.mark.parametrize("query", ["SELECT txt FROM reviews", "DELETE FROM reviews", "SELEKT"])
def test_what_cannot_be_read_is_reported(database, query):
    with pytest.raises(GptTasksError, match=r"reviews.db: (no such column|attempt to write|near)"):
        read(f"{database}?query={query}", "all")


def test_a_file_that_is_not_there_is_reported_and_not_made(tmp_path):
    with pytest.raises(GptTasksError, match="there is no file"):
        splits(str(tmp_path / "reviews.db"))
    assert list(tmp_path.iterdir()) == []
