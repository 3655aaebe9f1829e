"""Texts that are longer than a model's window: read in parts that overlap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from gpt_tasks.tasks.base import encode_prompts, tokens_of
from gpt_tasks.types import Encoded

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# The share of a window's tokens that the next one holds too.
OVERLAP = 0.25
# Texts beside the longest one that leave it less than this share of the window are cut, and it with them.
LEAST_ROOM = 0.25


def encode_windows(
    prompt: str,
    inputs: Sequence[Mapping[str, str]],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
) -> list[Encoded]:
    """Encode a filled prompt for each of `inputs`; one of more than `max_length` tokens in several sequences.

    Each sequence is the whole prompt, with a window of its longest text: windows overlap by a quarter, and every token
    of the text stands in one. Where the other texts leave too little room for that, the texts are cut as by
    `encode_prompts`. Raises DataError where the prompt without any text is already too long.
    """
    whole = tokenizer([prompt.format_map(values) for values in inputs])["input_ids"]
    encoded = []
    for values, ids in zip(inputs, whole, strict=True):
        sequences = [ids] if len(ids) <= max_length else _windows(prompt, values, tokenizer, max_length)
        if sequences:
            encoded.append(Encoded(sequences[0], others=tuple(sequences[1:]), windows=len(sequences)))
        else:
            encoded += encode_prompts(prompt, [values], tokenizer, max_length)
    return encoded


def _windows(
    prompt: str, values: Mapping[str, str], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> list[list[int]]:
    """Return the token ids of the prompt with each window of its longest text; none where there is no room for one."""
    places = {field: tokens_of(text, tokenizer)["offset_mapping"] for field, text in values.items()}
    field = max(places, key=lambda each: len(places[each]))
    text, tokens = values[field], places[field]
    room = max_length - len(tokenizer(prompt.format_map({**values, field: ""}))["input_ids"])
    if room < max(2, LEAST_ROOM * max_length):
        return []
    sequences: list[list[int]] = []
    start = 0
    while True:
        end = min(start + room, len(tokens))
        while True:
            part = text[tokens[start][0] : tokens[end - 1][1]]
            ids: list[int] = tokenizer(prompt.format_map({**values, field: part}))["input_ids"]
            # At its edges a part may fall into more tokens than the whole does.
            if len(ids) <= max_length or end == start + 1:
                break
            end = max(start + 1, end - (len(ids) - max_length))
        if len(ids) > max_length:
            return []
        sequences.append(ids)
        if end == len(tokens):
            return sequences
        start = max(start + 1, end - int(OVERLAP * room))
