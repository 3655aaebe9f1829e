"""A trial reads no more of a source than it needs to draw rows that look like all of them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gpt_tasks.data import trial
from gpt_tasks.data.trial import Reading, in_proportion
from gpt_tasks.types import Example


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "LEAST_READ", 100)


def read(
    targets: str, limit: int | None, *, labels: str = "ab", stratified: bool = True, **how: Any
) -> tuple[int, bool]:
    """How many rows are read, and whether others are left."""
    task: Any = SimpleNamespace(is_stratified=stratified, labels=tuple(labels))
    reading = Reading((Example({"text": "x"}, target, "") for target in targets), task, limit, **how)
    return len(list(reading)), reading.stopped


def endless(targets: str, number: int) -> str:
    return "".join(islice(cycle(targets), number))


def test_mixed_labels_are_read_until_there_are_enough() -> None:
    assert read(endless("aab", 10_000), 4) == (100, True)
    assert read(endless("aab", 10_000), 50) == (1000, True)


def test_without_a_limit_all_is_read() -> None:
    assert read(endless("aab", 10_000), None) == (10_000, False)


def test_sorted_labels_are_read_to_the_end() -> None:
    assert read("a" * 5_000 + "b" * 5_000, 4) == (10_000, False)
    assert read("a" * 150 + endless("ab", 300), 4) == (450, False)


def test_labels_that_only_the_data_know_are_read_to_the_end() -> None:
    assert read(endless("aab", 10_000), 4, labels="") == (10_000, False)
    assert read(endless("ab", 10_000), 4, labels="abc") == (10_000, False)


def test_the_only_rows_have_all_the_labels_there_are() -> None:
    assert read(endless("aab", 10_000), 4, labels="", only=True) == (100, True)
    assert read("a" * 5_000 + "b" * 5_000, 4, labels="", only=True) == (10_000, False)
    assert read("ab" * 40 + "c" + "ab" * 200, 4, labels="", only=True) == (200, True)


def test_rows_without_labels_are_read_until_there_are_enough() -> None:
    assert read("a" * 10_000, 4, stratified=False) == (100, True)


def test_a_source_that_just_suffices_is_not_stopped() -> None:
    assert read(endless("ab", 100), 4) == (100, False)


def test_reading_takes_nothing_more_from_the_source() -> None:
    def rows() -> Iterator[Example]:
        for _ in range(101):
            yield Example({"text": "x"}, None, "")
        raise AssertionError("a row was read that nobody needs")

    task: Any = SimpleNamespace(is_stratified=False, labels=())
    assert len(list(Reading(rows(), task, 4))) == 100


def test_a_split_is_taken_in_proportion_with_a_row_of_each_label() -> None:
    assert [in_proportion(1000, 0.1, 2), in_proportion(10, 0.1, 4), in_proportion(3, 0.1, 4)] == [100, 4, 3]


def test_bad_rows_among_those_that_are_read_are_refused(tmp_path: Path) -> None:
    from gpt_tasks.data.splits import load_splits
    from gpt_tasks.errors import DataError
    from gpt_tasks.plugins import installed_plugins

    lines = [f"good film {number},positive\nbad film {number},negative" for number in range(1_000)]
    (tmp_path / "r.csv").write_text("\n".join(["text,label", *lines[:10], ",positive", *lines[10:]]))
    task = installed_plugins().registry.tasks["sentiment"]
    how: Any = {"data": tmp_path / "r.csv", "seed": 0, "schemes": {}, "scratch": tmp_path / "scratch", "limit": 4}
    with pytest.raises(DataError, match=r"r\.csv:22"):
        load_splits(task, **how)
    found = load_splits(task, **how, skip_invalid=True)
    assert "Read the first 100 rows of r.csv (--limit)." in found.notes
