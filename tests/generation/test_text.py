"""Text comes out of tokens whole: no half character, no part of a stop text, and all of the rest."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from gpt_tasks.generation.text import TextStream

MIXED = [
    "The soup was cold.",
    "天气很好\uff0c我们去公园吧。",
    "👩‍👩‍👧 are here 👍🏽!",
    "e\u0301te\u0301 na\u00efve Zu\u0308rich",
    "नमस्ते",
    "",
    " leading and trailing ",
    "line\nline\n\nline",
]


def pieces(stream: TextStream, ids: list[int]) -> list[str]:
    found = []
    for token in ids:
        if stream.stopped:
            break
        found.append(stream.push(token))
    return [*found, stream.finish()]


@pytest.mark.parametrize("text", MIXED)
def test_what_is_streamed_is_the_text(tiny_tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    shown = pieces(TextStream(tiny_tokenizer, []), tiny_tokenizer(text)["input_ids"])
    assert "".join(shown) == text
    assert not any("\ufffd" in piece for piece in shown)


@given(text=st.text(max_size=40), before=st.text(max_size=10))
@settings(max_examples=200, deadline=None)
def test_any_text_survives(tiny_tokenizer: PreTrainedTokenizerBase, text: str, before: str) -> None:
    stream = TextStream(tiny_tokenizer, tiny_tokenizer(before)["input_ids"])
    shown = pieces(stream, tiny_tokenizer(text)["input_ids"])
    assert "".join(shown) == stream.text == text


def test_half_a_character_is_shown_at_the_end_only(tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    whole = tiny_tokenizer("天")["input_ids"]
    assert len(whole) == 3
    stream = TextStream(tiny_tokenizer, [])
    assert [stream.push(token) for token in whole[:2]] == ["", ""]
    assert stream.finish() == "\ufffd"
    stream = TextStream(tiny_tokenizer, [])
    assert [stream.push(token) for token in whole] == ["", "", "天"]


def test_bytes_that_are_no_character_do_not_hold_up_what_follows(tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    lone = tiny_tokenizer("天")["input_ids"][0]
    stream = TextStream(tiny_tokenizer, [])
    shown = pieces(stream, [lone, *tiny_tokenizer(" and so on")["input_ids"]])
    assert "".join(shown) == "\ufffd and so on"


@pytest.mark.parametrize(
    ("text", "stop", "expected"),
    [
        ("one. two. three", ("two",), "one. "),
        ("one. two. three", ("three", "two"), "one. "),
        ("aab", ("ab",), "a"),
        ("a\n\nb", ("\n\n",), "a"),
        ("a\nb\nc", ("\n\n",), "a\nb\nc"),
        ("好的。再见", ("。再",), "好的"),
        ("never said", ("xyz",), "never said"),
        ("the end", ("ending",), "the end"),
    ],
)
def test_a_stop_text_is_no_part_of_the_text(
    tiny_tokenizer: PreTrainedTokenizerBase, text: str, stop: tuple[str, ...], expected: str
) -> None:
    stream = TextStream(tiny_tokenizer, [], stop)
    shown = pieces(stream, tiny_tokenizer(text)["input_ids"])
    assert stream.text == "".join(shown) == expected
    assert stream.stopped == (expected != text)
    for so_far in accumulate(shown):
        assert expected.startswith(so_far), "nothing was shown that had to be taken back"


@given(parts=st.lists(st.sampled_from(["a", "b", "ab", "ba", "aa"]), max_size=12), stop=st.sampled_from(["aba", "bb"]))
@settings(deadline=None)
def test_stopping_is_splitting(tiny_tokenizer: PreTrainedTokenizerBase, parts: list[str], stop: str) -> None:
    text = "".join(parts)
    stream = TextStream(tiny_tokenizer, [], (stop,))
    pieces(stream, tiny_tokenizer(text)["input_ids"])
    assert stream.text == text.split(stop)[0]
