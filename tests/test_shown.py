"""What is shown of others' texts: on one line, without what moves a cursor, and no longer than a screen."""

from __future__ import annotations

import io
import json
import subprocess

import pytest

from gpt_tasks.errors import DataError
from gpt_tasks.shown import as_json, escaped, markdown, markdown_code, print_table, quoted, sentence, written
from gpt_tasks.words import shortened

WILD = "a\nb\x1b]0;title\x07\u202egnp.exe\u2066\u0085\ud800\u2028"


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def columns(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal without colours; COLUMNS says how wide it is."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    return Terminal()


def test_what_is_not_seen_is_escaped_and_letters_of_any_script_are_not() -> None:
    assert escaped(WILD) == r"a\nb\x1b]0;title\x07\u202egnp.exe\u2066\x85\ud800\u2028"
    for text in ("naïve 漢字 العربية می\u200cخواهم", "👩‍👧 ❤️", "100\u00a0%", "tab"):  # noqa: RUF001
        assert escaped(text) == text


def test_an_error_is_one_line_that_keeps_its_place_and_what_is_wrong() -> None:
    error = DataError(f"{'x' * 10**6}.csv:3: the label {WILD}", f"There are {', '.join(map(str, range(10**5)))}")
    assert len(error.message) <= 1000
    assert len(error.hint) <= 1000
    assert error.message.isprintable()
    assert error.message.startswith("xxx")
    assert error.message.endswith(r"the label " + escaped(WILD))
    assert sentence("short") == "short"


def test_a_terminal_gets_escapes_and_a_pipe_the_text() -> None:
    assert written(WILD, io.StringIO()) == WILD
    assert written("a\n\x1b[2J", Terminal()) == "a\n\\x1b[2J"


def test_json_is_seen_and_reads_as_the_same_value() -> None:
    text = json.dumps({"text": WILD, "é": "漢"}, ensure_ascii=False)
    assert as_json(text).isprintable()
    assert json.loads(as_json(text)) == json.loads(text)


@pytest.mark.parametrize("word", ["plain", "a b", "it's", "$(reboot)", "line\nbreak", "esc\x1b[2J'\\", "\u202ex", ""])
def test_a_proposed_word_is_one_line_that_a_shell_reads_as_it_was(word: str) -> None:
    assert quoted(word).isprintable()
    told = subprocess.run(["bash", "-c", f"printf %s {quoted(word)}"], capture_output=True, check=True).stdout
    assert told.decode() == word


def test_a_name_that_is_no_text_is_quoted_by_its_bytes() -> None:
    told = subprocess.run(["bash", "-c", f"printf %s {quoted(chr(0xDCE9) + 'é')}"], capture_output=True, check=True)
    assert told.stdout == b"\xe9" + "é".encode()


def test_markdown_and_html_show_a_text_unchanged() -> None:
    assert markdown("<script>&lt;\n[x](http://y) `z` *w* |") == (r"\<script\>\&lt; \[x\](http://y) \`z\` \*w\* \|")
    assert markdown("\x1b[2J") == r"\\x1b\[2J"
    assert markdown_code("a`b\nc|d") == "a'b c/d"
    assert len(markdown("x" * 10**6)) == 300


def test_a_letter_with_a_million_marks_is_cut() -> None:
    assert len(shortened("a" + "\u0301" * 10**6, 20)) <= 201


def test_a_line_break_does_not_break_a_row() -> None:
    out = io.StringIO()
    print_table(["label", "n"], [["a\nb\r", "1"], ["c", "23"]], figures=True, file=out)
    assert out.getvalue().splitlines() == ["label    n", r"a\nb\r   1", "c       23"]


WIDE = [["a-label-without-any-space", "0.912 [0.801, 0.965]", "0.912 [0.801, 0.965]"], ["b", "-", ""]]


@pytest.mark.parametrize("width", [20, 40, 64, 68, 69, 80])
def test_names_and_figures_stay_whole_in_any_width(
    columns: Terminal, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    print_table(["label", "precision", "recall"], WIDE, figures=True, file=columns)
    text = columns.getvalue()
    for row in WIDE:
        for cell in row:
            assert cell in text
    assert ("  precision" in text.splitlines()[1]) == (width < 69)


def test_a_column_of_texts_is_folded_where_names_need_the_room(
    columns: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    print_table(["label", "text"], [["a-label-without-any-space", "word " * 40]], texts=["text"], file=columns)
    lines = columns.getvalue().splitlines()
    assert lines[1].startswith("a-label-without-any-space  word")
    assert len(lines) > 4
    assert all(len(line) <= 60 for line in lines[1:])


def test_a_cell_of_a_terminal_is_cut(columns: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    print_table(["label", "n"], [["x" * 10**6, "1"]], file=columns)
    assert len(columns.getvalue()) < 500
