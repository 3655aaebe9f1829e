"""Words, letters and characters in many scripts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.tokenizers import DefaultTokenizer

from gpt_tasks.words import first_words, folded, is_unspaced, isolated, shortened, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't STOP_me, now!", ["don", "t", "stop", "me", "now"]),
        ("Straße STRASSE", ["strasse", "strasse"]),
        ("caf\u00e9 cafe\u0301", ["caf\u00e9", "caf\u00e9"]),
        ("Привет, мир 2024!", ["привет", "мир", "2024"]),
        ("नमस्ते दुनिया।", ["नमस्ते", "दुनिया"]),
        ("مرحبا بالعالم", ["مرحبا", "بالعالم"]),
        ("می\u200cخواهم", ["میخواهم"]),  # noqa: RUF001
        ("한국어 문장", ["한국어", "문장"]),
        ("我们2024年去Paris。", ["我", "们", "2024", "年", "去", "paris"]),
        ("カード", ["カ", "ー", "ド"]),
        ("น้ำ", ["น้", "ำ"]),
        ("👨‍👩‍👧 ❤️ \u0301", []),
    ],
)
def test_words_of_many_scripts(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@given(st.text(st.characters(max_codepoint=127)))
def test_ascii_words_are_those_of_rouge_score(text: str) -> None:
    assert words(text) == DefaultTokenizer(use_stemmer=False).tokenize(text)


def test_forms_of_one_letter_and_both_cases_are_equal() -> None:
    assert folded("CAFE\u0301") == folded("caf\u00e9")
    assert folded("ΣΊΣΥΦΟΣ") == folded("σίσυφος")


def test_scripts_without_spaces_are_told_by_most_letters() -> None:
    assert is_unspaced("我们去 Paris 的公园")
    assert not is_unspaced("We go to 公园")
    assert not is_unspaced("")


def test_text_from_right_to_left_is_isolated() -> None:
    assert isolated("\u0645\u0631\u062d\u0628\u0627") == "\u2068\u0645\u0631\u062d\u0628\u0627\u2069"
    assert isolated("\u05d8\u05d5\u05d1 90 %").startswith("\u2068")
    assert isolated("good \u597d 90 %") == "good \u597d 90 %"


def test_first_words_are_as_many_as_another_text_has() -> None:
    assert first_words("It rained all day long.", "A wet day") == "It rained all"
    assert first_words("今天。下了一整天的雨。", "下雨天") == "今天。下"
    assert first_words("今天", "下雨天了") == "今天"
    assert first_words("今天", "") == ""


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("abcd", "abcd"),
        ("abcde", "abc…"),
        ("ab\n cd e", "ab …"),
        ("👨‍👩‍👧👨‍👩‍👧👨‍👩‍👧👨‍👩‍👧", "👨‍👩‍👧👨‍👩‍👧👨‍👩‍👧👨‍👩‍👧"),
        ("a👨‍👩‍👧🇩🇪bcd", "a👨‍👩‍👧🇩🇪…"),
        ("e\u0301e\u0301e\u0301e\u0301e\u0301", "e\u0301e\u0301e\u0301…"),
    ],
)
def test_a_character_as_it_is_read_is_not_cut(text: str, short: str) -> None:
    assert shortened(text, 4) == short
