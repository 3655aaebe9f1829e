"""A head's prompt as tokens in pieces: its own words and the texts between them, as a tokenizer's template joins them.

No token spans a joint, so that the prompt's tokens are the same whatever the texts are, and texts are cut by the token.
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from gpt_tasks.errors import DataError
from gpt_tasks.tasks.encoding import encode_text, encode_texts, opening, puts_space_in_front
from gpt_tasks.types import Encoded

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LongTexts = Literal["windows", "truncate"]
# The share of a window's tokens that the next one holds too.
OVERLAP = 0.25
# If the other texts leave the longest one less than this share of the window, they are cut, and it with them.
LEAST_ROOM = 0.25


def encode_pieces(
    prompt: str,
    inputs: Sequence[Mapping[str, str]],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    long_texts: LongTexts,
) -> list[Encoded]:
    """Encode a prompt with each of `inputs` in it, in sequences of at most `max_length` tokens.

    Where one does not fit, `truncate` cuts the end of the longest text first. `windows` makes several sequences, each
    the whole prompt with a window of its longest text: windows overlap by a quarter, and every token of the text is in
    one; where the other texts leave too little room for that, all are cut. Raises DataError where the prompt without
    any text is already too long.
    """
    fixed, slots = _parsed(prompt, tokenizer)
    found = [
        encode_texts(tokenizer, [_spaced(values[slot.field], slot.space) for values in inputs], begins=False)
        for slot in slots
    ]
    room = max_length - sum(map(len, fixed))
    encoded = []
    for row in range(len(inputs)):
        texts = [each[row] for each in found]
        over = sum(map(len, texts)) - room
        if over <= 0:
            encoded.append(Encoded(_joined(fixed, texts)))
            continue
        if room < 0:
            raise DataError(
                f"The prompt alone takes more than {max_length} tokens",
                "Shorten the prompt, or train with a larger --max-length.",
            )
        windows = _windows(texts, room, max_length) if long_texts == "windows" else []
        if windows:
            first, *others = (_joined(fixed, each) for each in windows)
            encoded.append(Encoded(first, more_sequences=tuple(others), windows=len(windows)))
        else:
            encoded.append(Encoded(_joined(fixed, _cut(texts, over)), truncated=over))
    return encoded


@dataclass(frozen=True)
class _Slot:
    """Where a text goes: its field, and whether the prompt has a space in front of it, which belongs to its word."""

    field: str
    space: bool


def _parsed(prompt: str, tokenizer: PreTrainedTokenizerBase) -> tuple[list[list[int]], list[_Slot]]:
    """Return the tokens of the prompt's own words, one list more than there are slots, and the slots between them."""
    fixed, slots = [], []
    ending: list[int] = []
    for place, (words, field, _, _) in enumerate(string.Formatter().parse(prompt)):
        space = field is not None and words.endswith(" ") and not words[-2:-1].isspace()
        own = words[:-1] if space else words
        tokens = encode_text(tokenizer, own, begins=not place, control=True) if own else []
        if not own and not place:
            tokens = opening(tokenizer)
        if field is None:
            ending = tokens
        else:
            fixed.append(tokens)
            slots.append(_Slot(field, space and not puts_space_in_front(tokenizer)))
    return [*fixed, ending], slots


def _spaced(text: str, space: bool) -> str:
    return f" {text}" if space and text else text


def _joined(fixed: Sequence[list[int]], texts: Sequence[list[int]]) -> list[int]:
    tokens = list(fixed[0])
    for text, words in zip(texts, fixed[1:], strict=True):
        tokens += text
        tokens += words
    return tokens


def _cut(texts: Sequence[list[int]], over: int) -> list[list[int]]:
    """Return the texts without `over` tokens of their ends, the longest cut first."""
    level = max(map(len, texts))
    while sum(max(0, len(text) - level) for text in texts) < over:
        level -= 1
    # At this level a few more than asked for are cut: the first texts get them back.
    spare = sum(max(0, len(text) - level) for text in texts) - over
    left = []
    for text in texts:
        back = 1 if spare and len(text) > level else 0
        spare -= back
        left.append(text[: level + back])
    return left


def _windows(texts: Sequence[list[int]], room: int, max_length: int) -> list[list[list[int]]]:
    """Return the texts with each window of the longest one in its place; none where there is no room for one."""
    place = max(range(len(texts)), key=lambda each: len(texts[each]))
    long = texts[place]
    width = room - sum(len(text) for text in texts) + len(long)
    if width < max(2, LEAST_ROOM * max_length):
        return []
    found, start = [], 0
    while True:
        end = min(start + width, len(long))
        found.append([*texts[:place], long[start:end], *texts[place + 1 :]])
        if end == len(long):
            return found
        start = max(start + 1, end - int(OVERLAP * width))
