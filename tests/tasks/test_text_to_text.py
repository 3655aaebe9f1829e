"""Prompt and answer as tokens: the answer is learned with its end, and the prompt gives way where there is no room."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gpt_tasks.errors import DataError
from gpt_tasks.tasks.text_to_text import TextToTextTask
from gpt_tasks.types import Encoded, Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Short(TextToTextTask):
    """Say in short what a text says, given who asks."""

    name = "short"
    prompt = "{document}\nFor {who}:"
    answer = " {summary}"


def encode(tokenizer: PreTrainedTokenizerBase, limit: int, **texts: str) -> tuple[Encoded, str, str]:
    """Return the encoding, and the texts of what is given and what is learned."""
    task = Short()
    row = Row({"document": "It rained.", "who": "Ann", "summary": "Rain.", **texts}, "r:1")
    example = task.example(row, {name: name for name in row.values})
    (encoded,) = task.encode([example], tokenizer, limit)
    ((start, end),) = encoded.label_spans
    assert len(encoded.input_ids) <= limit
    assert end == len(encoded.input_ids)
    return encoded, tokenizer.decode(encoded.input_ids[:start]), tokenizer.decode(encoded.input_ids[start:])


def test_what_is_learned_is_the_answer_and_its_end(tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    encoded, prompt, answer = encode(tiny_tokenizer, 64)
    assert prompt == "It rained.\nFor Ann:"
    assert answer == " Rain.<|endoftext|>"
    assert encoded.truncated == 0


def test_the_longest_text_of_the_prompt_gives_way(tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    encoded, prompt, answer = encode(tiny_tokenizer, 40, document="It rained all day in the town. " * 20)
    assert answer == " Rain.<|endoftext|>"
    assert prompt.startswith("It rained all")
    assert prompt.endswith("\nFor Ann:")
    assert encoded.truncated > 0


def test_an_answer_without_room_is_cut_and_counted_and_has_no_end(tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    encoded, prompt, answer = encode(tiny_tokenizer, 30, summary="Rain fell on the town, and no end of it. " * 20)
    assert prompt == "\nFor :"
    assert answer.startswith(" Rain fell on")
    assert "<|endoftext|>" not in answer
    assert encoded.truncated > 100


def test_a_prompt_without_room_is_an_error(tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(DataError, match=r"The prompt alone takes \d+ of 4 tokens"):
        encode(tiny_tokenizer, 4)


@pytest.mark.parametrize("summary", ["天气很好。👍🏽", "e\u0301te\u0301", " two  spaces ", "a\nb"])
def test_any_answer_survives(tiny_tokenizer: PreTrainedTokenizerBase, summary: str) -> None:
    _, _, answer = encode(tiny_tokenizer, 64, summary=summary)
    assert answer == f" {summary}<|endoftext|>"


def test_the_prompts_tokens_are_those_that_a_generation_is_given(tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    """Also where the answer's beginning would merge with the prompt's end."""

    class Tight(TextToTextTask):
        """Go on in the middle of a word."""

        name = "tight"
        prompt = "{start}"
        answer = "{rest}"

    task = Tight()
    words = [(word[:cut], word[cut:]) for word in ("splendid", "listening", "waiter", "again") for cut in (1, 2, 3)]
    rows = [Row({"start": start, "rest": rest}, "r") for start, rest in words]
    examples = [task.example(row, {"start": "start", "rest": "rest"}) for row in rows]
    for (start, rest), encoded in zip(words, task.encode(examples, tiny_tokenizer, 64), strict=True):
        ((begin, _),) = encoded.label_spans
        assert encoded.input_ids[:begin] == tiny_tokenizer(start)["input_ids"]
        assert tiny_tokenizer.decode(encoded.input_ids[begin:-1]) == rest
