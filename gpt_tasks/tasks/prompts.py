"""Prompts: format strings over an example's fields, filled and turned into tokens that fit a model's window."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pydantic_core import PydanticCustomError

from gpt_tasks.errors import DataError, UsageError
from gpt_tasks.tasks.encoding import encode_text, encode_texts, encode_with_offsets, literal
from gpt_tasks.types import Encoded

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def prompt_fields(prompt: str) -> list[str]:
    """Return the names of the fields that a prompt reads, in order.

    Raises ValueError where it is no format string, or has more than the name of a field in braces.
    """
    fields = []
    for _, name, form, conversion in string.Formatter().parse(prompt):
        if form or conversion:
            raise ValueError(f"'{{{name}}}' can have nothing behind its name")
        if name is not None:
            fields.append(name)
    return fields


def distinct_fields(*prompts: str) -> list[str]:
    """Return the names of the fields that some prompts read, each once, in order."""
    return list(dict.fromkeys(field for prompt in prompts for field in prompt_fields(prompt)))


def fields_of_question(question: str, known: Sequence[str]) -> list[str]:
    """Return the fields that a question names. Raises UsageError where it cannot be read, and for others than known."""
    try:
        named = prompt_fields(question)
    except ValueError as error:
        raise UsageError(
            f"--question {question!r} cannot be read: {error}", "Name fields in braces, as {text}."
        ) from None
    for name in named:
        if name not in known:
            raise UsageError(
                f"--question {question!r} names '{name}', which is not a field of the data",
                f"Its fields are {', '.join(known)}.",
            )
    return named


def ends_with_words(prompt: str) -> bool:
    """Return whether a prompt ends with words of its own, and not with a text."""
    *_, (words, field, _, _) = string.Formatter().parse(prompt)
    return field is None and not words.isspace()


def check_template(template: str | None) -> str | None:
    """Return a format string of an option. Raises an error of pydantic's where it cannot be filled with fields."""
    try:
        fields = prompt_fields(template or "")
    except ValueError as error:
        raise PydanticCustomError("prompt", "{cause}", {"cause": str(error)}) from None
    if not all(field.isidentifier() for field in fields):
        raise PydanticCustomError("prompt", "braces must hold the name of a field")
    return template


def encode_prompts(
    prompt: str,
    inputs: Sequence[Mapping[str, str]],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
) -> list[Encoded]:
    """Encode a filled prompt for each of `inputs` in at most `max_length` tokens, shortening the longest text first.

    The joined text is tokenized as a whole, so that tokens may span the prompt's joints. Raises DataError where the
    prompt without any text is already too long.
    """
    texts = [filled(prompt, values, tokenizer) for values in inputs]
    encoded = []
    for values, full in zip(inputs, encode_texts(tokenizer, texts, control=True), strict=True):
        ids = full if len(full) <= max_length else _shortened(prompt, values, full, tokenizer, max_length)
        encoded.append(Encoded(ids, truncated=len(full) - len(ids)))
    return encoded


def filled(prompt: str, values: Mapping[str, str], tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a prompt with texts in it, to be encoded with the control tokens that the prompt itself writes."""
    return prompt.format_map({field: literal(tokenizer, text) for field, text in values.items()})


def offsets_of(values: Mapping[str, str], tokenizer: PreTrainedTokenizerBase) -> dict[str, list[tuple[int, int]]]:
    """Return of each text the characters [start, end) that its tokens stand for."""
    encoded = encode_with_offsets(tokenizer, list(values.values()), begins=False)
    return {field: tokens.offsets for field, tokens in zip(values, encoded, strict=True)}


def _shortened(
    prompt: str, values: Mapping[str, str], ids: list[int], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> list[int]:
    while len(ids) > max_length:
        starts = {field: [start for start, _ in offsets] for field, offsets in offsets_of(values, tokenizer).items()}
        left = {field: len(tokens) for field, tokens in starts.items()}
        if not any(left.values()):
            raise DataError(
                f"The prompt alone takes more than {max_length} tokens",
                "Shorten the prompt, or train with a larger --max-length.",
            )
        for _ in range(min(len(ids) - max_length, sum(left.values()))):
            left[max(left, key=left.__getitem__)] -= 1
        values = {
            field: text[: starts[field][left[field]]] if left[field] < len(starts[field]) else text
            for field, text in values.items()
        }
        ids = encode_text(tokenizer, filled(prompt, values, tokenizer), control=True)
    return ids
