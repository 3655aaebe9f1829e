"""Conversations as a model reads them: by the chat template of its tokenizer, or by a plain default one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gpt_tasks.errors import DataError, ModelError
from gpt_tasks.tasks.turns import ASSISTANT, USER, Turn, messages
from gpt_tasks.types import Encoded

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PLAIN = (
    "{% for message in messages %}"
    "{% if not loop.first %}{{ '\\n' }}{% endif %}"
    "{{ message['role'] | capitalize + ':' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ ' ' + message['content'] + eos_token }}{% endgeneration %}"
    "{% else %}{{ ' ' + message['content'] }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '\\nAssistant:' }}{% endif %}"
)
"""A line for each turn, with its speaker in front; what the assistant says ends with the end of text."""

_MARKED = re.compile(r"\{%-?\s*generation\s*-?%\}")
_PROBE = (Turn(USER, "Hello"), Turn(ASSISTANT, "Hi"))


def give_template(tokenizer: PreTrainedTokenizerBase) -> None:
    """Give a tokenizer the plain template where it has none.

    Raises ModelError where it has no end of text to end an answer with.
    """
    if tokenizer.chat_template:
        return
    if tokenizer.eos_token is None:
        raise ModelError("The tokenizer has no end of text, and no answer can end without one", "Take another model.")
    begins = tokenizer("", verbose=False)["input_ids"][:1] == [tokenizer.bos_token_id]
    tokenizer.chat_template = ("{{ bos_token }}" if begins else "") + PLAIN


def end_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the token with which the assistant's turns end. Raises ModelError where there is none."""
    encoded = conversation(tokenizer, _PROBE, "The template")
    return encoded.input_ids[encoded.label_spans[-1][1] - 1]


def prompt(tokenizer: PreTrainedTokenizerBase, turns: Sequence[Turn], where: str) -> list[int]:
    """Return the tokens of turns, and of what precedes an answer to the last of them.

    Raises ModelError where the tokenizer has no template, and DataError naming `where` the turns are from if the
    template refuses them.
    """
    return _tokens(tokenizer, _rendered(tokenizer, turns, where, asked=True))


def conversation(tokenizer: PreTrainedTokenizerBase, turns: Sequence[Turn], where: str) -> Encoded:
    """Return the tokens of turns, of which those of the assistant's, and the one that ends each, are learned.

    There is one stretch for each turn of the assistant's. Raises as `prompt` does, and ModelError where the template
    does not show which tokens are whose.
    """
    ids, stretches = (_marked if _MARKED.search(_template(tokenizer)) else _compared)(tokenizer, turns, where)
    ends = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    learned = tuple(_ended(ids, start, end, ends) for start, end in stretches)
    if len(learned) != sum(turn.role == ASSISTANT for turn in turns):
        raise _unclear(tokenizer)
    return Encoded(ids, 0, learned)


def without_end(text: str, tokens: int, tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a text without so many tokens at its end."""
    encoded: Any = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    starts = [start for start, _ in encoded["offset_mapping"]]
    return text[: starts[-tokens]] if tokens < len(starts) else ""


def shortened(tokenizer: PreTrainedTokenizerBase, turns: Sequence[Turn], place: int, too_many: int) -> tuple[Turn, ...]:
    """Return turns, of which the one at `place` has lost so many tokens at its end."""
    cut = replace(turns[place], content=without_end(turns[place].content, too_many, tokenizer))
    return *turns[:place], cut, *turns[place + 1 :]


def _template(tokenizer: PreTrainedTokenizerBase) -> str:
    if not tokenizer.chat_template:
        raise ModelError(
            "The model's tokenizer has no chat template, so the format of its turns is unknown",
            "Fine-tune it on conversations: gpt-tasks finetune dialogue --backbone MODEL",
        )
    return str(tokenizer.get_chat_template())


def _rendered(tokenizer: PreTrainedTokenizerBase, turns: Sequence[Turn], where: str, *, asked: bool = False) -> str:
    from jinja2 import TemplateError

    _template(tokenizer)
    try:
        text = tokenizer.apply_chat_template(messages(turns), tokenize=False, add_generation_prompt=asked)
    except TemplateError as error:
        raise _refused(where, error) from error
    return str(text)


def _refused(where: str, error: Exception) -> DataError:
    return DataError(
        f"{where}: the model's chat template refuses this conversation: {' '.join(str(error).split())}",
        "Change it so that the template takes it, or leave it out.",
    )


def _tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return ids


def _marked(
    tokenizer: PreTrainedTokenizerBase, turns: Sequence[Turn], where: str
) -> tuple[list[int], list[tuple[int, int]]]:
    """Where the template itself marks what the assistant says."""
    from jinja2 import TemplateError

    try:
        encoded: Any = tokenizer.apply_chat_template(
            messages(turns), return_dict=True, return_assistant_tokens_mask=True, tokenizer_kwargs={"verbose": False}
        )
    except TemplateError as error:
        raise _refused(where, error) from error
    return encoded["input_ids"], list(_runs(encoded["assistant_masks"]))


def _runs(mask: Sequence[int]) -> Iterator[tuple[int, int]]:
    start = 0
    for place, (before, now) in enumerate(zip([0, *mask], [*mask, 0], strict=True)):
        if now and not before:
            start = place
        elif before and not now:
            yield start, place


def _compared(
    tokenizer: PreTrainedTokenizerBase, turns: Sequence[Turn], where: str
) -> tuple[list[int], list[tuple[int, int]]]:
    """Where the template marks nothing: what each turn of the assistant's adds to its prompt."""
    text = _rendered(tokenizer, turns, where)
    stretches = []
    encoded: Any = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    offsets = encoded["offset_mapping"]
    for place, turn in enumerate(turns):
        if turn.role != ASSISTANT:
            continue
        before = _rendered(tokenizer, turns[:place], where, asked=True) if place else ""
        after = _rendered(tokenizer, turns[: place + 1], where)
        if not (text.startswith(after) and after.startswith(before) and turn.content in after[len(before) :]):
            raise _unclear(tokenizer)
        inside = [number for number, (start, end) in enumerate(offsets) if start < len(after) and end > len(before)]
        stretches.append((inside[0], inside[-1] + 1))
    return encoded["input_ids"], stretches


def _ended(ids: Sequence[int], start: int, end: int, ends: set[int]) -> tuple[int, int]:
    """Return a span of tokens with its end token as the last, even if white space follows it or it is not marked.

    Raises ModelError where there is none.
    """
    last = next((place for place in range(end - 1, max(start, end - 3) - 1, -1) if ids[place] in ends), None)
    if last is None and end < len(ids) and ids[end] in ends:
        last = end
    if last is None:
        raise ModelError(
            "The model's chat template ends the assistant's turns with no token at which the model could stop",
            "Take another model, or give its tokenizer another template.",
        )
    return start, last + 1


def _unclear(tokenizer: PreTrainedTokenizerBase) -> ModelError:
    return ModelError(
        f"The chat template of {tokenizer.name_or_path or 'the tokenizer'} does not show which tokens are the "
        "assistant's",
        "Give it a template that marks them with {% generation %} ... {% endgeneration %}.",
    )
