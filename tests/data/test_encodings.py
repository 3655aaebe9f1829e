"""Texts in any encoding: found out, named, or refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpt_tasks.data.formats import open_file
from gpt_tasks.errors import DataError, UsageError

TEXTS = {
    "gbk": [("这部电影很好看", "正面"), ("太无聊了", "负面"), ("演员的表演非常出色,音乐也很动听", "正面")],
    "big5": [("這部電影很好看", "正面"), ("太無聊了", "負面"), ("演員的表演非常出色", "正面")],
    "shift_jis": [
        ("この映画はとても面白かった", "肯定"),
        ("俳優の演技が素晴らしく、音楽も良かったです。", "肯定"),
        ("ストーリーが分かりにくくて、途中で寝てしまいました。", "否定"),
        ("コーヒーは美味しかったけれど、店員の態度が悪い。", "否定"),
    ],
    "euc_kr": [("이 영화는 정말 재미있었다", "긍정"), ("지루했다", "부정"), ("음악도 좋았습니다", "긍정")],
    "cp1251": [("Фильм очень понравился", "хорошо"), ("скучно и долго", "плохо")],
    "koi8_r": [("Фильм очень понравился", "хорошо"), ("скучно и долго", "плохо")],
    "cp1252": [("L\u2019été à la plage était très agréable", "bien"), ("Über die Brücke gehen wir später", "gut")],
    "utf-16-le": [("скучно", "плохо")],
    "utf-16-be": [("good enough", "fine")],
}


def written(path: Path, rows: list[tuple[str, str]], encoding: str) -> Path:
    lines = ["text,label", *(f'"{text}",{label}' for text, label in rows)]
    path.write_bytes("\n".join([*lines, ""]).encode(encoding))
    return path


@pytest.mark.parametrize("encoding", TEXTS)
def test_a_code_page_is_found_and_named(tmp_path: Path, encoding: str) -> None:
    file = open_file(written(tmp_path / "r.csv", TEXTS[encoding], encoding))
    assert [tuple(row.values.values()) for row in file.rows()] == TEXTS[encoding]
    (note,) = file.notes
    assert "r.csv is not UTF-8; it was read as " in note
    assert "--encoding" in note


def test_a_named_encoding_is_taken_without_a_word(tmp_path: Path) -> None:
    path = written(tmp_path / "r.csv", [("ça", "é")], "mac_roman")
    file = open_file(path, encoding="mac_roman")
    assert [dict(row.values) for row in file.rows()] == [{"text": "ça", "label": "é"}]
    assert file.notes == ()
    lines = tmp_path / "r.jsonl"
    lines.write_bytes('{"text": "тест"}\n'.encode("cp1251"))
    assert [dict(row.values) for row in open_file(lines, encoding="cp1251").rows()] == [{"text": "тест"}]


def test_a_wrong_name_and_a_wrong_encoding_are_told(tmp_path: Path) -> None:
    path = written(tmp_path / "r.csv", [("ça", "é")], "latin-1")
    for name in ("nosuch", "base64"):
        with pytest.raises(UsageError, match=f"--encoding '{name}': there is no such encoding"):
            open_file(path, encoding=name)
    with pytest.raises(DataError, match=r"r\.csv:2: byte 0xe7 is not UTF-8"):
        open_file(path, encoding="utf-8")


def test_json_is_utf_8_unless_it_is_said(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes('{"text": "тест"}\n'.encode("cp1251"))
    with pytest.raises(DataError, match=r"r\.jsonl:1: byte 0xf2 is not UTF-8") as raised:
        open_file(path)
    assert "--encoding" in raised.value.hint


def test_utf_32_with_its_mark_is_read(tmp_path: Path) -> None:
    file = open_file(written(tmp_path / "r.csv", TEXTS["cp1251"], "utf-32"))
    assert [tuple(row.values.values()) for row in file.rows()] == TEXTS["cp1251"]


def test_utf_16_that_has_no_mark_is_named(tmp_path: Path) -> None:
    path = written(tmp_path / "r.csv", TEXTS["cp1251"], "utf-16-be")
    with pytest.raises(DataError, match="this is not UTF-16"):
        open_file(path, encoding="utf-16")


@pytest.mark.parametrize("name", ["punycode", "idna", "rot13"])
def test_an_encoding_of_something_else_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="there is no such encoding"):
        open_file(written(tmp_path / "r.csv", TEXTS["cp1252"], "utf-8"), encoding=name)


def test_an_encoding_has_no_effect_on_what_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no effect"):
        open_file(tmp_path / "r.xlsx", encoding="cp1251")
