"""What `--data` may name, and what a name that leads nowhere gets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from gpt_tasks.data.sources import open_source
from gpt_tasks.errors import DataError, PluginError, UsageError
from gpt_tasks.extensions import SourceScheme
from gpt_tasks.registry import Registries
from gpt_tasks.types import Row

HEADER = "text,label\n"


def texts(rows: Iterator[Row]) -> list[str]:
    return [row.values["text"] for row in rows]


def write(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text(f"{HEADER}{name},x\n", encoding="utf-8")
    return folder


def test_a_file_is_one_split_that_can_be_read_again(tmp_path: Path) -> None:
    source = open_source(write(tmp_path, "reviews.csv") / "reviews.csv", {})
    assert list(source.splits) == ["all"]
    assert texts(source.splits["all"]()) == texts(source.splits["all"]()) == ["reviews.csv"]


def test_a_folder_gives_its_splits_by_their_usual_names(tmp_path: Path) -> None:
    source = open_source(str(write(tmp_path, "train.csv", "dev.csv", "test.csv", "notes.csv", "README.md")), {})
    assert {name: texts(read()) for name, read in source.splits.items()} == {
        "train": ["train.csv"],
        "validation": ["dev.csv"],
        "test": ["test.csv"],
    }


def test_files_of_a_folder_that_are_no_splits_are_told(tmp_path: Path) -> None:
    source = open_source(write(tmp_path / "d", "train.csv", "notes.csv", "README.md"), {})
    assert source.notes == ("Left out of d/, as they are no splits: notes.csv.",)


def test_numbered_parts_in_a_data_folder_are_joined_in_order(tmp_path: Path) -> None:
    write(tmp_path / "data", "train-00001-of-00002.csv", "train-00000-of-00002.csv", "validation-00000-of-00001.csv")
    source = open_source(tmp_path, {})
    assert texts(source.splits["train"]()) == ["train-00000-of-00002.csv", "train-00001-of-00002.csv"]
    assert list(source.splits) == ["train", "validation"]


def test_two_files_for_one_split_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"both train\.csv and train\.tsv could be the train split"):
        open_source(write(tmp_path, "train.csv", "train.tsv"), {})


def test_a_folder_without_splits_says_how_to_name_them(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Name them train\.csv"):
        open_source(write(tmp_path, "reviews.csv"), {})


def test_a_missing_file_is_met_with_a_near_one(tmp_path: Path) -> None:
    write(tmp_path / "reviews", "hotels.csv")
    with pytest.raises(DataError) as caught:
        open_source(tmp_path / "reviews" / "hotel.csv", {})
    assert caught.value.message == f"{tmp_path / 'reviews' / 'hotel.csv'}: there is no such file or folder"
    assert caught.value.hint == f"Did you mean {tmp_path / 'reviews' / 'hotels.csv'}?"
    with pytest.raises(DataError, match=f"Did you mean {tmp_path / 'reviews'}?"):
        open_source(tmp_path / "review" / "hotels.csv", {})


def test_cp1252_is_reported(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_bytes("text,label\ncafé,a\n".encode("cp1252"))
    (note,) = open_source(tmp_path / "r.csv", {}).notes
    assert note.startswith("r.csv is not UTF-8; it was read as cp1252.")


def registry_with(splits: Callable[[str], Mapping[str, Callable[[], Iterator[Row]]]]) -> Registries:
    registry = Registries()
    registry.sources.add("list", SourceScheme("list:", "Words after the colon", splits), "a test's plugin")
    return registry


def test_a_scheme_reads_what_follows_its_colon() -> None:
    registry = registry_with(lambda words: {"all": lambda: (Row({"text": word}, word) for word in words.split(","))})
    assert texts(open_source("list:a,b", registry.sources).splits["all"]()) == ["a", "b"]


def test_a_location_may_be_longer_than_a_name_of_a_file() -> None:
    registry = registry_with(lambda words: {"all": lambda: iter([Row({"text": words}, "1")])})
    (read,) = texts(open_source(f"list:{'a' * 5000}", registry.sources).splits["all"]())
    assert len(read) == 5000


def test_an_encoding_has_no_effect_on_a_scheme() -> None:
    registry = registry_with(lambda words: {"all": lambda: iter([])})
    with pytest.raises(UsageError, match="--encoding cp1251 has no effect: list:a is no text file"):
        open_source("list:a", registry.sources, "cp1251")


def test_an_unknown_scheme_is_met_with_the_near_one() -> None:
    with pytest.raises(UsageError, match="Did you mean 'list'"):
        open_source("lists:a,b", registry_with(lambda words: {}).sources)


def test_a_scheme_that_fails_is_named(tmp_path: Path) -> None:
    def breaks_late(location: str) -> Mapping[str, Callable[[], Iterator[Row]]]:
        def rows() -> Iterator[Row]:
            yield Row({"text": location}, "1")
            raise KeyError("late")

        return {"train": rows}

    with pytest.raises(PluginError, match="The source 'list:' failed on list:a: KeyError: 'late'"):
        list(open_source("list:a", registry_with(breaks_late).sources).splits["train"]())
    with pytest.raises(PluginError, match="The source 'list:' failed on list:a: ZeroDivisionError"):
        open_source("list:a", registry_with(lambda words: {"all": 1 / 0}).sources)  # type: ignore[dict-item]
    with pytest.raises(PluginError, match="gave the splits dev for list:a"):
        open_source("list:a", registry_with(lambda words: {"dev": lambda: iter([])}).sources)


def test_an_encoding_of_what_is_no_file_of_text_is_refused() -> None:
    schemes = {
        "one": SourceScheme("one:", "One row.", lambda location: {"all": lambda: iter([Row({"text": "a"}, "1")])})
    }
    assert texts(open_source("one:x", schemes).splits["all"]()) == ["a"]
    for spec in ("one:x", [{"text": "a"}]):
        with pytest.raises(UsageError, match=r"--encoding cp1251 has no effect: .* is no text file"):
            open_source(spec, schemes, "cp1251")
