"""Conversations as a model reads them: by the chat template of its tokenizer, or by a plain default one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

from gpt_tasks.errors import DataError, GptTasksError, ModelError
from gpt_tasks.limits import check_template, time_limit
from gpt_tasks.tasks.encoding import (
    encode_text,
    encode_with_offsets,
    end_of_text,
    literal,
    opening,
    plain,
)
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
_GENERATION = re.compile(r"\{%-?\s*(end)?generation\s*-?%\}")
_PROBE = (Turn(USER, "Hello"), Turn(ASSISTANT, "Hi"))


def give_template(tokenizer: PreTrainedTokenizerBase) -> None:
    """Give a tokenizer the plain template where it has none.

    Raises ModelError where it has no end of text to end an answer with.
    """
    if tokenizer.chat_template:
        return
    end_of_text(tokenizer)
    begins = opening(tokenizer)[:1] == [tokenizer.bos_token_id]
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
    tokens = encode_text(tokenizer, rendered(tokenizer, turns, where, asked=True), begins=False, control=True)
    if not tokens:
        raise ModelError("The model's chat template writes nothing before an answer", "Copy the model again.")
    return tokens


def conversation(tokenizer: PreTrainedTokenizerBase, turns: Sequence[Turn], where: str) -> Encoded:
    """Return the tokens of turns, of which those of the assistant's, and the one that ends each, are learned.

    There is one stretch for each turn of the assistant's. Raises as `prompt` does, and ModelError where the template
    does not show which tokens are whose.
    """
    found = _marked if _MARKED.search(_template(tokenizer)) else _compared
    text, stretches = found(tokenizer, turns, where)
    ids, offsets = encode_with_offsets(tokenizer, [text], begins=False, control=True)[0]
    ends = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    learned = []
    for first, last in ((len(plain(text[:start])), len(plain(text[:end]))) for start, end in stretches):
        inside = [place for place, (start, end) in enumerate(offsets) if start < last and end > first]
        if inside:
            learned.append(_ended(ids, inside[0], inside[-1] + 1, ends))
    if len(learned) != sum(turn.role == ASSISTANT for turn in turns):
        raise _unclear(tokenizer)
    return Encoded(ids, 0, tuple(learned))


def without_end(text: str, tokens: int, tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a text without so many tokens at its end."""
    offsets = encode_with_offsets(tokenizer, [text], begins=False)[0].offsets
    return text[: offsets[-tokens][0]] if tokens < len(offsets) else ""


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


def rendered(tokenizer: PreTrainedTokenizerBase, turns: Sequence[Turn], where: str, *, asked: bool = False) -> str:
    """Return turns as the tokenizer's chat template writes them, each turn's content a `literal`; raises as `prompt`.

    With `asked`, what comes before an answer is behind them.
    """
    with rendering(_template(tokenizer), where):
        text = tokenizer.apply_chat_template(_literal(tokenizer, turns), tokenize=False, add_generation_prompt=asked)
    return str(text)


@contextmanager
def rendering(template: str, where: str) -> Iterator[None]:
    """Keep a chat template within limits while it is applied.

    Raises DataError naming `where` the turns are from if the template refuses them, and ModelError for a template that
    fails, or that computes for ever.
    """
    from jinja2 import TemplateError, TemplateSyntaxError

    try:
        _check(template)
        with time_limit():
            yield
    except TemplateSyntaxError as error:
        raise _failed(error) from error
    except TemplateError as error:
        raise DataError(
            f"{where}: the model's chat template refuses this conversation: {' '.join(str(error).split())}",
            "Change it so that the template takes it, or leave it out.",
        ) from error
    except GptTasksError:
        raise
    except Exception as error:
        raise _failed(error) from error


@cache
def _check(template: str) -> None:
    """Raise ValueError for a template that can compute what has no bounds."""
    from jinja2 import Environment

    check_template(Environment(extensions=["jinja2.ext.loopcontrols"]).parse(_GENERATION.sub("", template)))


def _failed(error: Exception) -> ModelError:
    cause = " ".join(str(error).split())
    return ModelError(
        f"The model's chat template cannot be used: {type(error).__name__}{f': {cause}' if cause else ''}",
        "Take another model, or give its tokenizer another template.",
    )


def _literal(tokenizer: PreTrainedTokenizerBase, turns: Sequence[Turn]) -> list[dict[str, str]]:
    return messages([replace(turn, content=literal(tokenizer, turn.content)) for turn in turns])


def _marked(
    tokenizer: PreTrainedTokenizerBase, turns: Sequence[Turn], where: str
) -> tuple[str, Sequence[tuple[int, int]]]:
    """Return the text, and where the template itself marks what the assistant says."""
    from transformers.utils.chat_template_utils import render_jinja_template

    render: Any = render_jinja_template
    template = _template(tokenizer)
    with rendering(template, where):
        texts, stretches = render(
            conversations=[_literal(tokenizer, turns)],
            chat_template=template,
            return_assistant_tokens_mask=True,
            **tokenizer.special_tokens_map,
        )
    return texts[0], stretches[0]


def _compared(
    tokenizer: PreTrainedTokenizerBase, turns: Sequence[Turn], where: str
) -> tuple[str, Sequence[tuple[int, int]]]:
    """Where the template marks nothing: what each turn of the assistant's adds to its prompt."""
    text = rendered(tokenizer, turns, where)
    stretches = []
    for place, turn in enumerate(turns):
        if turn.role != ASSISTANT:
            continue
        before = rendered(tokenizer, turns[:place], where, asked=True) if place else ""
        after = rendered(tokenizer, turns[: place + 1], where)
        content = literal(tokenizer, turn.content)
        if not (text.startswith(after) and after.startswith(before) and content in after[len(before) :]):
            raise _unclear(tokenizer)
        stretches.append((len(before), len(after)))
    return text, stretches


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
