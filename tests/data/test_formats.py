"""Real files: encodings, dialects, and what each broken one gets."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
from pathlib import Path

import pytest

from gpt_tasks.data.formats import open_file
from gpt_tasks.errors import DataError, MachineError


def written(folder: Path, name: str, content: str | bytes, encoding: str = "utf-8") -> Path:
    path = folder / name
    data = content if isinstance(content, bytes) else content.encode(encoding)
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def values(path: Path) -> list[dict[str, object]]:
    return [dict(row.values) for row in open_file(path).rows()]


@pytest.mark.parametrize("gz", ["", ".gz"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_csv_is_read_with_any_delimiter_and_line_ending(tmp_path: Path, delimiter: str, ending: str, gz: str) -> None:
    rows = [["good, bad; ugly | tab\tand all", "a"], ['she said "no"', "b"], [f"two{ending}lines", "c"]]
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, lineterminator=ending).writerows([["text", "label"], *rows])
    path = written(tmp_path, f"reviews.csv{gz}", text.getvalue())
    assert [list(row.values()) for row in values(path)] == rows


def test_rows_know_the_line_where_they_begin(tmp_path: Path) -> None:
    path = written(tmp_path, "r.csv", 'text,label\n\n"one\ntwo\n",a\nthree,b\n')
    assert [row.where for row in open_file(path).rows()] == ["r.csv:3", "r.csv:6"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_csv_is_read_in_its_encoding(tmp_path: Path, encoding: str) -> None:
    path = written(tmp_path, "r.csv", "text;label\ncafé € schön;gut\n", encoding)
    assert values(path) == [{"text": "café € schön", "label": "gut"}]
    assert any("cp1252" in note for note in open_file(path).notes) == (encoding == "cp1252")


def test_utf_16_big_endian_is_read(tmp_path: Path) -> None:
    path = written(tmp_path, "r.csv", codecs.BOM_UTF16_BE + "text,label\nschön,gut\n".encode("utf-16-be"))
    assert values(path) == [{"text": "schön", "label": "gut"}]


def test_one_odd_byte_far_into_a_file_decides_its_encoding(tmp_path: Path) -> None:
    path = written(tmp_path, "r.csv", b"text,label\n" + b"plain,a\n" * 300_000 + b"caf\xe9,b\n")
    assert list(open_file(path).rows())[-1].values["text"] == "café"


def test_na_and_null_stay_texts(tmp_path: Path) -> None:
    path = written(tmp_path, "r.csv", "text,label\nNA,null\nnan,None\n")
    assert values(path) == [{"text": "NA", "label": "null"}, {"text": "nan", "label": "None"}]


def test_a_field_may_be_longer_than_the_csv_modules_limit(tmp_path: Path) -> None:
    path = written(tmp_path, "r.csv", f"text,label\n{'x' * 200_000},a\n")
    assert len(values(path)[0]["text"]) == 200_000  # type: ignore[arg-type]


def test_commas_in_quotes_do_not_pass_for_the_delimiter(tmp_path: Path) -> None:
    path = written(tmp_path, "r.csv", '"text, in full";label\n"a, b, c";x\n"d, e, f";y\n')
    assert values(path)[0] == {"text, in full": "a, b, c", "label": "x"}


def test_a_single_column_needs_no_delimiter(tmp_path: Path) -> None:
    assert values(written(tmp_path, "r.csv", "text\ngood\nbad; really\n"))[1] == {"text": "bad; really"}


def test_quotes_in_tab_separated_files_may_be_plain_characters(tmp_path: Path) -> None:
    plain = written(tmp_path, "plain.tsv", 'text\tlabel\n"good" film\t1\n"unclosed\t0\nlast\t1\n')
    assert [row["text"] for row in values(plain)] == ['"good" film', '"unclosed', "last"]
    merging = written(tmp_path, "merging.tsv", 'text\tlabel\n"so bad\t0\nmiddling\t1\nhe said "\t1\n')
    assert [row["text"] for row in values(merging)] == ['"so bad', "middling", 'he said "'], "no row swallows others"
    quoted = written(tmp_path, "quoted.tsv", 'text\tlabel\n"a\ttab"\t1\n"two\nlines"\t0\n')
    assert [row["text"] for row in values(quoted)] == ["a\ttab", "two\nlines"]


def test_jsonl_and_parquet_give_the_same_rows(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    rows = [{"text": f"row {number}", "label": number % 2} for number in range(3000)]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "r.parquet")
    lines = written(tmp_path, "r.jsonl.gz", "\n".join(str(row).replace("'", '"') for row in rows))
    assert values(tmp_path / "r.parquet") == values(lines) == rows
    assert [row.where for row in open_file(tmp_path / "r.parquet").rows()][-1] == "r.parquet:3000"


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("r.jsonl", '{"text": "a"}\n\n{"text": "b"\n', "r.jsonl:3: this is not JSON: Expecting ',' delimiter"),
        ("r.jsonl", '{"text": "a"}\n["b"]\n', "r.jsonl:2: this is a list, not an object"),
        ("r.jsonl", '{"text": "a"}\n{"text": "caf\xe9"}\n'.encode("latin-1"), "r.jsonl:2: byte 0xe9 is not UTF-8"),
        ("r.csv", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "r.csv:3: this is a binary file"),
        ("r.csv", b"text,label\n" + bytes(range(128, 256)) * 4, "r.csv:2: byte 0x80 is not UTF-8"),
        ("r.jsonl", b"PK\x03\x04\x14\x00\x06\x00", "r.jsonl:1: this is a binary file"),
        ("r.csv", "", "the file is empty"),
        ("r.csv", "\ufeff \n\n", "the file is empty"),
        ("r.csv", "text,label\ngood\n", "r.csv:2: the row has 1 fields, the header 2 (text, label)"),
        ("r.csv", "text,label\na,b\ngood, really,a\n", "r.csv:3: the row has 3 fields, the header 2"),
        ("r.csv", 'text,label\na,b\n"never closed,a\nc,d\n', "r.csv:3: the row that begins here is broken"),
        ("r.csv", 'text,label\n"so" good,b\n', "r.csv:2: the row that begins here is broken"),
        ("r.csv", "text,text\na,b\n", "r.csv:1: the column 'text' is there twice"),
        ("r.csv", ",\n0,b\n", "r.csv:1: the header names no column"),
        ("r.tsv", "text\tlabel\na\tb\nc\n", "r.tsv:3: the row has 1 fields"),
        ("r.parquet", b"PAR1 and then nothing", "this is not a whole .parquet file"),
        ("r.docx", b"PK", "files of this kind cannot be read"),
    ],
)
def test_a_broken_file_is_reported_with_its_line(tmp_path: Path, name: str, content: str | bytes, told: str) -> None:
    path = written(tmp_path, name, content)
    with pytest.raises(DataError) as caught:
        [row.values for row in open_file(path).rows()]
    assert told in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.hint
    assert caught.value.exit_code == 4


def test_an_unknown_kind_of_file_is_met_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"\.jsonl, \.csv, \.tsv, \.txt, .*\.txt\.gz, \.parquet, \.xlsx"):
        open_file(written(tmp_path, "r.docx", b"PK"))


def test_a_damaged_gz_is_reported(tmp_path: Path) -> None:
    path = written(tmp_path, "r.csv.gz", "text,label\n" + "good,a\n" * 1000)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"not a whole \.gz file"):
        open_file(path)
    path.write_bytes(b"plain text")
    with pytest.raises(DataError, match=r"not a whole \.gz file"):
        open_file(path)


def test_a_file_that_may_not_be_read_is_the_machines_error(tmp_path: Path) -> None:
    path = written(tmp_path, "r.csv", "text,label\na,b\n")
    path.chmod(0)
    try:
        path.read_bytes()
    except PermissionError:
        with pytest.raises(MachineError, match=r"r\.csv: the file cannot be read: Permission denied"):
            open_file(path)
    else:
        pytest.skip("this user may read everything")


def test_a_link_that_leads_in_a_circle_is_the_machines_error(tmp_path: Path) -> None:
    (tmp_path / "r.csv").symlink_to(tmp_path / "r.csv")
    with pytest.raises(MachineError, match="cannot be read"):
        open_file(tmp_path / "r.csv")
