"""A head's prompt in pieces: joined, cut and in windows, token by token."""

from __future__ import annotations

from typing import Any

import pytest

from gpt_tasks.errors import DataError
from gpt_tasks.tasks.encoding import encode_text
from gpt_tasks.tasks.pieces import encode_pieces

PROMPT = "Review: {text}\nSentiment:"
TEXT = "The soup was cold and the waiter never came back."


@pytest.fixture
def tokens(tiny_tokenizer: Any) -> Any:
    return lambda text: encode_text(tiny_tokenizer, text, begins=False, control=True)


def test_a_space_of_the_prompt_belongs_to_the_word_behind_it(tiny_tokenizer: Any, tokens: Any) -> None:
    (found,) = encode_pieces(PROMPT, [{"text": TEXT}], tiny_tokenizer, 128, "truncate")
    assert found.input_ids == [*tokens("Review:"), *tokens(f" {TEXT}"), *tokens("\nSentiment:")]
    assert (found.truncated, found.windows) == (0, 1)
    (empty,) = encode_pieces(PROMPT, [{"text": ""}], tiny_tokenizer, 128, "truncate")
    assert empty.input_ids == [*tokens("Review:"), *tokens("\nSentiment:")]
    (bare,) = encode_pieces("{text}", [{"text": TEXT}], tiny_tokenizer, 128, "truncate")
    assert bare.input_ids == tokens(TEXT)


def test_control_tokens_are_those_of_the_prompt(tiny_tokenizer: Any, tokens: Any) -> None:
    end = tiny_tokenizer.eos_token
    (found,) = encode_pieces(f"{{a}}{end}{{b}}", [{"a": f"one{end}", "b": "two"}], tiny_tokenizer, 128, "windows")
    assert found.input_ids.count(tiny_tokenizer.eos_token_id) == 1
    assert found.input_ids[-len(tokens("two")) :] == tokens("two")


@pytest.mark.parametrize("room", [12, 17, 30])
def test_the_longest_text_is_cut_first_and_exactly(tiny_tokenizer: Any, tokens: Any, room: int) -> None:
    prompt, texts = "A: {a}\nB: {b}\n?", {"a": TEXT, "b": "It was warm."}
    own = [tokens("A:"), tokens("\nB:"), tokens("\n?")]
    whole = [tokens(f" {text}") for text in texts.values()]
    (found,) = encode_pieces(prompt, [texts], tiny_tokenizer, room, "truncate")
    assert len(found.input_ids) == room
    assert found.truncated == sum(map(len, [*own, *whole])) - room
    left = room - sum(map(len, own))
    second = min(len(whole[1]), left // 2)
    first = left - second
    assert found.input_ids == [*own[0], *whole[0][:first], *own[1], *whole[1][:second], *own[2]]


def test_windows_overlap_by_a_quarter_and_hold_every_token(tiny_tokenizer: Any, tokens: Any) -> None:
    text = " ".join([TEXT] * 6)
    (found,) = encode_pieces(PROMPT, [{"text": text}], tiny_tokenizer, 40, "windows")
    first, last = tokens("Review:"), tokens("\nSentiment:")
    width = 40 - len(first) - len(last)
    texts = [ids[len(first) : -len(last)] for ids in found.sequences]
    assert all(ids == [*first, *part, *last] for ids, part in zip(found.sequences, texts, strict=True))
    assert all(len(part) == width for part in texts[:-1])
    step = width - int(0.25 * width)
    whole = tokens(f" {text}")
    assert texts == [whole[start : start + width] for start in range(0, step * len(texts), step)]
    assert sum(map(len, texts)) >= len(whole)
    assert found.windows == len(texts) > 2


def test_two_long_texts_leave_no_room_for_windows(tiny_tokenizer: Any) -> None:
    (found,) = encode_pieces("{a}{b}", [{"a": TEXT * 3, "b": TEXT * 3}], tiny_tokenizer, 30, "windows")
    assert (found.windows, len(found.input_ids)) == (1, 30)
    assert found.truncated > 0


def test_a_prompt_that_is_too_long_alone_says_so(tiny_tokenizer: Any) -> None:
    with pytest.raises(DataError, match="The prompt alone takes more than 5 tokens"):
        encode_pieces(PROMPT, [{"text": "warm"}], tiny_tokenizer, 5, "windows")
