"""Tables with typed columns: class names in Parquet, sheets of Excel, databases, folders of classes."""

from __future__ import annotations

import sqlite3
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest

from gpt_tasks.data.formats import open_file
from gpt_tasks.data.sources import open_source
from gpt_tasks.data.sqlite import register_sources
from gpt_tasks.data.stream import stream_examples
from gpt_tasks.errors import DataError, MachineError
from gpt_tasks.plugins import installed_plugins

SQLITE = {"sqlite": register_sources()[0]}


def values(path: Path) -> list[dict[str, Any]]:
    return [dict(row.values) for row in open_file(path).rows()]


def test_parquet_that_datasets_wrote_gives_classes_by_their_names(tmp_path: Path) -> None:
    import datasets

    mood = datasets.ClassLabel(names=["positive", "negative"])
    features = datasets.Features(
        text=datasets.Value("string"),
        label=mood,
        tags=datasets.Sequence(datasets.ClassLabel(names=["O", "B-PER"])),
        inner={"label": mood, "number": datasets.Value("int64")},
    )
    rows = {"text": ["good", "unknown"], "label": [0, -1], "tags": [[1, 0], []]}
    rows["inner"] = [{"label": 1, "number": 1}, {"label": 0, "number": 0}]
    datasets.Dataset.from_dict(rows, features).to_parquet(tmp_path / "r.parquet")
    assert values(tmp_path / "r.parquet") == [
        {"text": "good", "label": "positive", "tags": ["B-PER", "O"], "inner": {"label": "negative", "number": 1}},
        {"text": "unknown", "label": None, "tags": [], "inner": {"label": "positive", "number": 0}},
    ]


def test_parquet_of_pandas_has_no_index_and_plain_values(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"text": ["a", "b"], "n": [1, None], "day": [date(2024, 5, 1), None]}, index=[7, 9])
    frame["kind"] = pandas.Categorical(["x", "y"])
    frame.to_parquet(tmp_path / "r.parquet")
    assert values(tmp_path / "r.parquet") == [
        {"text": "a", "n": 1.0, "day": "2024-05-01", "kind": "x"},
        {"text": "b", "n": None, "day": None, "kind": "y"},
    ]


def test_damaged_parquet_is_the_datas_fault(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    path = tmp_path / "r.parquet"
    parquet.write_table(pa.table({"text": [f"text {n}" for n in range(200)]}), path, compression="snappy")
    content = bytearray(path.read_bytes())
    content[30:200] = b"\xff" * 170
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match=r"r\.parquet: column 'text' cannot be read: ") as raised:
        values(path)
    assert "\n" not in raised.value.message


def test_damaged_parquet_says_after_which_row(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    path = tmp_path / "r.parquet"
    table = pa.table({"text": [f"text {n}" for n in range(4000)], "n": list(range(4000))})
    parquet.write_table(table, path, row_group_size=2000, use_dictionary=False, compression="snappy")
    place = parquet.ParquetFile(path).metadata.row_group(1).column(0).data_page_offset
    content = bytearray(path.read_bytes())
    content[place + 40 : place + 400] = b"\xff" * 360
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match=r"r\.parquet: column 'text' cannot be read after row 1024"):
        values(path)
    # A column that is whole can be read.
    assert [row.values["n"] for row in open_file(path).rows()] == list(range(4000))


def odd_values(kind: str) -> object:
    import pyarrow as pa

    nobody_knows = pa.timestamp("us", tz="Atlantis/Capital")
    return {
        "date": pa.array([0, 2**40, 1]).cast(pa.int64()).view(pa.timestamp("s")),
        "zone": pa.array([0, 0, 1], pa.int64()).view(nobody_knows),
        "text": pa.array([b"a", b"\xff\xfe", b"c"], pa.binary()).view(pa.string()),
    }[kind]


@pytest.mark.parametrize("kind", ["date", "zone", "text"])
@pytest.mark.parametrize("as_dataset", [False, True])
def test_a_value_that_cannot_be_read_is_named_when_it_is_asked_for(tmp_path: Path, kind: str, as_dataset: bool) -> None:
    import datasets
    import pyarrow as pa
    from pyarrow import parquet

    table = pa.table({"text": ["a", "b", "c"], "odd": odd_values(kind)})
    parquet.write_table(table, tmp_path / "r.parquet")
    if as_dataset:
        held = datasets.Dataset(datasets.table.InMemoryTable(table))
        rows = list(open_source(held, {}).splits["all"]())
    else:
        rows = list(open_file(tmp_path / "r.parquet").rows())
    assert [row.values["text"] for row in rows] == ["a", "b", "c"]
    assert [list(row.values) for row in rows] == [["text", "odd"]] * 3
    with pytest.raises(DataError, match="the value of column 'odd' cannot be read") as raised:
        rows[1].values["odd"]
    assert raised.value.message.startswith(rows[1].where)
    assert "odd" in rows[1].values
    if kind != "zone":
        assert rows[0].values["odd"] in ("1970-01-01", "a")


def test_a_parquet_file_with_a_row_that_cannot_be_read_is_used_without_it(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.table({"text": odd_values("text"), "label": list("xyx")}), tmp_path / "r.parquet")
    source = open_source(str(tmp_path / "r.parquet"), {})
    task = installed_plugins().registry.tasks["sentiment"]
    stream = stream_examples(task, source, "all", columns={}, need_labels=True, skip_invalid=True)
    assert [example.inputs["text"] for example in stream.examples()] == ["a", "c"]
    assert "r.parquet:2: the value of column 'text' cannot be read" in " ".join(stream.notes())


@pytest.fixture
def workbook(tmp_path: Path) -> Path:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.title = "empty"
    sheet = book.create_sheet("rows")
    for row in (
        ["text", "label", None, "day", "at"],
        ["good", True, "note", datetime(2024, 5, 1), datetime(2024, 5, 1, 9, 30)],
        [None, None, None, None, None],
        ["bad", 3, None, None, None],
    ):
        sheet.append(row)
    book.save(tmp_path / "r.xlsx")
    return tmp_path / "r.xlsx"


def test_excels_first_sheet_with_rows_is_read(workbook: Path) -> None:
    rows = list(open_file(workbook).rows())
    assert [dict(row.values) for row in rows] == [
        {"text": "good", "label": True, "day": "2024-05-01", "at": "2024-05-01 09:30:00"},
        {"text": "bad", "label": 3, "day": None, "at": None},
    ]
    assert [row.where for row in rows] == ["r.xlsx:2", "r.xlsx:4"]


def test_a_column_with_values_and_no_name_is_told(workbook: Path, tmp_path: Path) -> None:
    assert open_file(workbook).notes == ("r.xlsx: left out, as the header has no name for it: column 3.",)
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (["text", None, "label"], ["good", None, "a"], ["bad", None, "b", "beyond"]):
        book.active.append(row)
    book.save(tmp_path / "s.xlsx")
    assert open_file(tmp_path / "s.xlsx").notes == ("s.xlsx: left out, as the header has no name for it: column 4.",)


def test_a_column_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    openpyxl = pytest.importorskip("openpyxl")
    parquet.write_table(pa.table([["a"], ["b"], ["c"]], names=["text", "label", "text"]), tmp_path / "r.parquet")
    book = openpyxl.Workbook()
    for row in (["text", 1, "1"], ["good", "a", "b"]):
        book.active.append(row)
    book.save(tmp_path / "r.xlsx")
    for path, said in (
        (tmp_path / "r.parquet", r"r\.parquet: the column 'text' is there twice"),
        (tmp_path / "r.xlsx", r"r\.xlsx:1: the column '1' is there twice"),
    ):
        with pytest.raises(DataError, match=said):
            values(path)


@pytest.mark.parametrize(
    "metadata",
    [
        b"\xff",
        b"{",
        b"3",
        b'{"info": null}',
        b'{"info": {"features": []}}',
        b'{"info": {"features": {"label": {"_type": "Nope"}}}}',
        b'{"info": {"features": {"label": {"names": "ab", "_type": "ClassLabel"}}}}',
    ],
)
def test_names_of_classes_that_cannot_be_read_are_told(tmp_path: Path, metadata: bytes) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    table = pa.table({"text": ["a"], "label": [1]}).replace_schema_metadata({b"huggingface": metadata})
    parquet.write_table(table, tmp_path / "r.parquet")
    with pytest.raises(DataError, match=r"r\.parquet: its metadata 'huggingface', which name its classes") as raised:
        values(tmp_path / "r.parquet")
    assert "\n" not in raised.value.message


def test_a_damaged_workbook_is_told(tmp_path: Path) -> None:
    pytest.importorskip("openpyxl")
    (tmp_path / "r.xlsx").write_bytes(b"PK and then nothing")
    with pytest.raises(DataError, match=r"r\.xlsx: this is not a whole \.xlsx file"):
        values(tmp_path / "r.xlsx")


@pytest.fixture
def database(tmp_path: Path) -> Path:
    with sqlite3.connect(tmp_path / "r.db") as connection:
        connection.execute('CREATE TABLE "my reviews" (text, label)')
        connection.executemany('INSERT INTO "my reviews" VALUES (?, ?)', [("good", 1), ("bad", None)])
    connection.close()
    return tmp_path / "r.db"


def test_a_table_of_a_database_is_read(database: Path) -> None:
    for spec in (f"sqlite:{database}#my reviews", f"sqlite:{database}"):
        source = open_source(spec, SQLITE)
        rows = list(source.splits["all"]())
        assert [dict(row.values) for row in rows] == [{"text": "good", "label": 1}, {"text": "bad", "label": None}]
        assert rows[1].where == "r.db#my reviews:2"


def test_a_database_without_the_table_is_told_with_those_it_has(database: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no table 'review'; there are my reviews"):
        open_source(f"sqlite:{database}#review", SQLITE)
    with pytest.raises(DataError, match="there is no file"):
        open_source(f"sqlite:{tmp_path}/none.db#review", SQLITE)
    (tmp_path / "text.db").write_text("no database at all, but a text " * 20)
    with pytest.raises((DataError, MachineError), match=r"text\.db: file is not a database"):
        open_source(f"sqlite:{tmp_path}/text.db#review", SQLITE)
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE other (text)")
    connection.close()
    with pytest.raises(DataError, match=r"which table is meant.*my reviews, other"):
        open_source(f"sqlite:{database}", SQLITE)


def texts(folder: Path, **classes: str) -> Path:
    for name, text in classes.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "0.txt").write_text(f"{text}\n", encoding="utf-8")
    return folder


def test_a_folder_of_folders_gives_each_text_its_class(tmp_path: Path) -> None:
    source = open_source(texts(tmp_path / "reviews", neg="bad", pos="good"), {})
    assert {name: [dict(row.values) for row in read()] for name, read in source.splits.items()} == {
        "all": [{"text": "bad", "label": "neg"}, {"text": "good", "label": "pos"}]
    }
    assert source.notes == ("Every text of reviews/ is labelled with the name of its folder: neg, pos.",)


def test_folders_of_classes_may_be_in_folders_of_splits(tmp_path: Path) -> None:
    texts(tmp_path / "r" / "train", neg="bad", pos="good")
    texts(tmp_path / "r" / "test", neg="worse", pos="better")
    (tmp_path / "r" / "test" / "pos" / "1.txt").write_bytes(b"\x00")
    source = open_source(tmp_path / "r", {})
    assert list(source.splits) == ["train", "test"]
    rows = list(source.splits["test"]())
    assert [row.where for row in rows] == ["neg/0.txt", "pos/0.txt", "pos/1.txt"]
    with pytest.raises(DataError, match=r"1\.txt:1: this is a binary file"):
        rows[2].values  # noqa: B018


def test_a_split_of_one_class_is_a_split_and_what_is_none_is_told(tmp_path: Path) -> None:
    texts(tmp_path / "r" / "train", neg="bad", pos="good")
    texts(tmp_path / "r" / "test", pos="better")
    texts(tmp_path / "r" / "unsup", pos="whatever")
    (tmp_path / "r" / "dev").mkdir()
    (tmp_path / "r" / "dev" / "0.txt").write_text("no class")
    source = open_source(tmp_path / "r", {})
    assert {name: len(list(read())) for name, read in source.splits.items()} == {"train": 2, "test": 1}
    assert "Left out of r/, as they are no splits: dev/, unsup/." in source.notes


def test_texts_of_classes_share_their_code_page(tmp_path: Path) -> None:
    found = {
        "neg": ["скучно и долго", "не понравилось"],
        "pos": ["Фильм очень понравился", "хорошо", "plain", "caf\u00e9"],
    }
    for name, some in found.items():
        (tmp_path / "r" / name).mkdir(parents=True)
        for number, text in enumerate(some):
            encoding = "utf-8" if number == 3 else "cp1251"
            (tmp_path / "r" / name / f"{number}.txt").write_bytes(text.encode(encoding))
    source = open_source(tmp_path / "r", {})
    rows = list(source.splits["all"]())
    assert [row.values["text"] for row in rows] == [*found["neg"], *found["pos"]]
    assert source.notes[-1].startswith("4 of 6 texts of r/ are not UTF-8; ")
    assert "cp1251" in source.notes[-1]
    (tmp_path / "r" / "pos" / "3.txt").unlink()
    named = open_source(tmp_path / "r", {}, "koi8_r")
    assert len(named.notes) == 1
    assert next(named.splits["all"]()).values["text"] == "скучно и долго".encode("cp1251").decode("koi8_r")


def test_a_sheet_may_begin_below_and_holds_no_errors(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in ([], ["text", "label"], ["good", "a"], ["bad", "#N/A"]):
        book.active.append(row)
    book.create_sheet("other").append(["other"])
    book.save(tmp_path / "r.xlsx")
    assert values(tmp_path / "r.xlsx") == [{"text": "good", "label": "a"}, {"text": "bad", "label": None}]


def test_a_damaged_sheet_is_named(tmp_path: Path) -> None:
    from zipfile import ZipFile

    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.append(["text"])
    book.active.append(["good"])
    book.save(tmp_path / "whole.xlsx")
    for part in ("xl/worksheets/sheet1.xml", "xl/styles.xml"):
        with ZipFile(tmp_path / "whole.xlsx") as whole, ZipFile(tmp_path / "r.xlsx", "w") as damaged:
            for name in whole.namelist():
                content = whole.read(name)
                damaged.writestr(name, content[: len(content) // 2] if name == part else content)
        with pytest.raises(DataError, match=r"r\.xlsx: this is not a whole \.xlsx file"):
            values(tmp_path / "r.xlsx")


def test_a_table_may_be_called_nearly_as_sqlites_own(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "a#1.db") as database:
        database.execute("create table sqlitestat (text)")
        database.execute("insert into sqlitestat values ('good')")
        database.execute("create view broken as select lost from sqlitestat")
    database.close()
    place = f"sqlite:{tmp_path}/a#1.db"
    assert [dict(row.values) for row in open_source(f"{place}#sqlitestat", SQLITE).splits["all"]()] == [
        {"text": "good"}
    ]
    with pytest.raises(DataError, match="which table is meant"):
        open_source(place, SQLITE)
    with pytest.raises(DataError, match="no such column"):
        list(open_source(f"{place}#broken", SQLITE).splits["all"]())


def test_hidden_folders_are_no_classes_and_two_of_one_split_are_refused(tmp_path: Path) -> None:
    for place in ("train/a", "train/b", "train/.ipynb_checkpoints", "dev/a", "dev/b"):
        folder = tmp_path / "d" / place
        folder.mkdir(parents=True)
        (folder / "1.txt").write_text(f"A text of {place}.")
    found = open_source(tmp_path / "d", {})
    assert {row.values["label"] for row in found.splits["train"]()} == {"a", "b"}
    (tmp_path / "d" / "dev").rename(tmp_path / "d" / "val")
    for place in ("a", "b"):
        (tmp_path / "d" / "dev" / place).mkdir(parents=True)
        (tmp_path / "d" / "dev" / place / "1.txt").write_text("Another.")
    with pytest.raises(DataError, match="two folders could be the validation split"):
        open_source(tmp_path / "d", {})


def test_a_damaged_parquet_file_ends_where_it_is_damaged_although_single_rows_may_be_left_out(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    from gpt_tasks.data.parquet_files import read_parquet

    file, met = tmp_path / "rows.parquet", []
    table = pa.table({"text": [f"row {number}" for number in range(4000)]})
    whole = {"row_group_size": 1000, "compression": "none", "use_dictionary": False, "write_page_checksum": True}
    parquet.write_table(table, file, **whole)
    content = bytearray(file.read_bytes())
    content[content.index(b"row 2500")] ^= 1
    file.write_bytes(content)

    def read() -> None:
        for row in read_parquet(file):
            try:
                met.append(row.values["text"])
            except DataError:
                met.append(None)

    with pytest.raises(DataError, match="column 'text' cannot be read"):
        read()
    assert met.index(None) == len(met) - 1
    assert met[:1000] == [f"row {number}" for number in range(1000)]
