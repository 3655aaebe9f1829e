"""Data that a program holds: frames, data sets, lists; described by what they are, never by what is in them."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from gpt_tasks.data.in_memory import InMemory
from gpt_tasks.data.sources import open_source
from gpt_tasks.errors import DataError, UsageError
from gpt_tasks.training.config import configured

COLUMNS: dict[str, list[Any]] = {"text": ["good", "bad"], "label": [1.0, float("nan")], "day": [date(2024, 5, 1), None]}
READ = [{"text": "good", "label": 1.0, "day": "2024-05-01"}, {"text": "bad", "label": None, "day": None}]


def a_frame(columns: dict[str, list[Any]] = COLUMNS) -> Any:
    return pytest.importorskip("pandas").DataFrame(columns)


def a_polars_frame() -> Any:
    return pytest.importorskip("polars").DataFrame(COLUMNS)


def a_dataset() -> Any:
    return pytest.importorskip("datasets").Dataset.from_dict(COLUMNS)


def a_list() -> list[dict[str, Any]]:
    return [dict(zip(COLUMNS, values, strict=True)) for values in zip(*COLUMNS.values(), strict=True)]


def rows(data: object, split: str = "all") -> list[dict[str, Any]]:
    return [dict(row.values) for row in open_source(data, {}).splits[split]()]


@pytest.mark.parametrize("make", [a_frame, a_polars_frame, a_dataset, a_list])
def test_every_kind_of_table_gives_the_same_rows(make: Any) -> None:
    assert rows(make()) == READ


def test_a_data_set_gives_classes_by_their_names() -> None:
    import datasets

    features = datasets.Features(text=datasets.Value("string"), label=datasets.ClassLabel(names=["good", "bad"]))
    data = datasets.Dataset.from_dict({"text": ["x"], "label": [0]}, features)
    assert rows(data) == [{"text": "x", "label": "good"}]
    assert rows(datasets.DatasetDict(train=data, test=data), "test") == [{"text": "x", "label": "good"}]


def test_tables_are_splits_by_their_usual_names() -> None:
    source = open_source({"train": a_list(), "dev": a_frame(), "unsupervised": a_list()}, {})
    assert list(source.splits) == ["train", "validation"]
    assert source.notes == ("Left out of the dict, as they are no splits: unsupervised.",)
    with pytest.raises(DataError, match="its tables are text, label, which are no splits"):
        open_source({"text": ["a"], "label": ["b"]}, {})


def test_a_row_is_named_by_its_index_and_one_that_is_none_is_told() -> None:
    good, bad = open_source([{"text": "a"}, "b"], {}).splits["all"]()
    assert (good.where, bad.where) == ("list[0]", "list[1]")
    with pytest.raises(DataError, match=r"list\[1\]: this is a str, not a mapping: b"):
        bad.values  # noqa: B018


def test_a_column_that_is_there_twice_is_refused() -> None:
    pandas = pytest.importorskip("pandas")
    for names in (["text", "text"], [1, "1"]):
        frame = pandas.DataFrame([["a", "b"]], columns=names)
        with pytest.raises(DataError, match=f"DataFrame: the column '{names[0]}' is there twice"):
            rows(frame)
    whole, twice = open_source([{1: "a"}, {1: "a", "1": "b"}], {}).splits["all"]()
    assert dict(whole.values) == {"1": "a"}
    with pytest.raises(DataError, match=r"list\[1\]: the column '1' is there twice"):
        twice.values  # noqa: B018


def test_an_encoding_has_no_effect_on_what_a_program_holds() -> None:
    with pytest.raises(UsageError, match="--encoding cp1251 has no effect: list of 2 rows"):
        open_source(a_list(), {}, "cp1251")


def test_what_is_recorded_of_it_shows_nothing_of_its_content(tmp_path: Path) -> None:
    config = configured({"data": a_frame(), "test": {"test": a_list()}}, {})
    assert isinstance(config.data, InMemory)
    recorded = config.model_dump(mode="json")
    assert recorded["data"] == "DataFrame of 2 rows, given from Python"
    assert recorded["test"] == "dict of 2 rows, given from Python"
    with pytest.raises(DataError, match="There is no copy of the DataFrame of 2 rows, given from Python"):
        open_source(recorded["data"], {})
    assert configured({"data": tmp_path}, {}).data == str(tmp_path)


def test_what_is_no_data_is_refused_in_few_words() -> None:
    import numpy as np

    for odd in (np.zeros((100, 100)), 3, a_frame()["text"]):
        with pytest.raises(UsageError, match="--data") as raised:
            configured({"data": odd}, {})
        assert "is no path, no data frame" in raised.value.message
        assert len(raised.value.message) < 300
        with pytest.raises(DataError, match="cannot be read as data"):
            open_source(odd, {})
