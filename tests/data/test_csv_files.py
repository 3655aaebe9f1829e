"""Comma-separated files as programs write them, and the rows that a lone quote swallows."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpt_tasks.data.formats import open_file


def opened(folder: Path, content: str) -> tuple[list[dict[str, object]], tuple[str, ...]]:
    path = folder / "r.csv"
    path.write_text(content, encoding="utf-8", newline="")
    file = open_file(path)
    return [dict(row.values) for row in file.rows()], file.notes


def test_the_index_of_a_frame_is_left_out_and_told(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"text": ["good, really", "bad"], "label": ["a", "b"]})
    rows, notes = opened(tmp_path, frame.to_csv())
    assert rows == frame.to_dict("records")
    assert notes == ("r.csv: left out, as the header has no name for it: column 1.",)


@pytest.mark.parametrize("line", ["sep=;", '"sep=;"', "SEP=;"])
def test_excels_first_line_says_the_delimiter(tmp_path: Path, line: str) -> None:
    path = tmp_path / "r.csv"
    path.write_text(f"{line}\r\ntext;label\r\ngood, I think;a\r\n", encoding="utf-8", newline="")
    (row,) = open_file(path).rows()
    assert dict(row.values) == {"text": "good, I think", "label": "a"}
    assert row.where == "r.csv:3"


def test_rows_that_a_lone_quote_swallows_are_told(tmp_path: Path) -> None:
    lines = [f"text number {n},{'ab'[n % 2]}" for n in range(80)]
    lines[20], lines[29] = '"so it began,a', 'and so it ended",b'
    rows, notes = opened(tmp_path, "\n".join(["text,label", *lines, ""]))
    assert len(rows) == 71
    (note,) = notes
    assert note.startswith("r.csv:22: 9 lines inside of quoted texts look like rows")


def test_the_lines_of_a_long_text_are_no_rows(tmp_path: Path) -> None:
    letter = '"Dear Anna,\nit rained, as ever\nand, alas, all day\nYours, Ben"'
    rows, notes = opened(tmp_path, f"text,label\n{letter},a\nshort,b\n{letter},b\n")
    assert len(rows) == 3
    assert notes == ()
