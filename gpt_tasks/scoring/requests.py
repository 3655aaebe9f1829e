"""Turn requests to a language model into tokens, as lm-evaluation-harness 0.4.13 does, so that scores compare.

A continuation's tokens are those of the joined text beyond the context's, spaces at the end of a context belong to the
continuation, an empty context is one BOS (or EOS) token, and what is too long loses tokens on its left. Two things are
otherwise: nothing that a tokenizer adds behind a text is read, and a BOS that it adds in front is there once and not
itself predicted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpt_tasks.errors import DataError
from gpt_tasks.tasks.chat_template import prompt
from gpt_tasks.tasks.encoding import encode_text, encode_texts, start_of_text
from gpt_tasks.tasks.turns import Turn
from gpt_tasks.types import Continuation, Generation, Rolling

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_TEXTS = 4096


@dataclass(frozen=True, slots=True)
class TokenizedRequest:
    """The tokens `inputs` to forward; the last ones predict `targets`, one each.

    `cut` counts the tokens that are truncated on the left.
    """

    inputs: tuple[int, ...]
    targets: tuple[int, ...]
    cut: int = 0


class Tokenization:
    """Turns requests into token paths for one tokenizer and one length of context."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_length: int) -> None:
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.start = start_of_text(tokenizer)

    def paths(self, requests: Sequence[Continuation | Rolling]) -> list[list[TokenizedRequest]]:
        """Return each request's paths: one for a continuation, one for each window of a rolling text.

        Raises DataError for a request without tokens to predict, and for a continuation longer than the window.
        """
        wanted = dict.fromkeys(key for request in requests for key in self._texts(request))
        tokens: dict[tuple[str, bool], list[int]] = {}
        for begins in (True, False):
            texts = [text for text, with_start in wanted if with_start is begins]
            for start in range(0, len(texts), _TEXTS):
                some = texts[start : start + _TEXTS]
                encoded = encode_texts(self.tokenizer, some, begins=begins, control=True)
                tokens |= {(text, begins): ids for text, ids in zip(some, encoded, strict=True)}
        return [self._paths(request, tokens) for request in requests]

    def context(self, request: Generation) -> TokenizedRequest:
        """Return the tokens to generate from, as a path without targets: the last that leave room for `max_tokens`.

        Raises DataError where the window has no room for them, ModelError for messages where there is no chat template.
        """
        room = self.max_length - request.max_tokens
        if room < 1:
            raise DataError(
                f"{request.max_tokens} tokens to generate leave no room for a context: the window holds "
                f"{self.max_length}",
                "Ask for fewer, or take a model with a longer window.",
            )
        if request.messages:
            turns = [Turn(message["role"], message["content"]) for message in request.messages]
            ids = prompt(self.tokenizer, turns, "The conversation")
        else:
            ids = encode_text(self.tokenizer, request.context, control=True) or self.start
        return TokenizedRequest(tuple(ids[-room:]), (), max(0, len(ids) - room))

    def _texts(self, request: Continuation | Rolling) -> Iterable[tuple[str, bool]]:
        """Return the texts to encode, each with whether it begins with what the tokenizer puts in front."""
        if isinstance(request, Rolling):
            return ((request.text, False),)
        context = request.context.rstrip()
        if not context:
            return ((request.context + request.text, False),)
        return (context, True), (request.context + request.text, True)

    def _paths(
        self, request: Continuation | Rolling, tokens: dict[tuple[str, bool], list[int]]
    ) -> list[TokenizedRequest]:
        if isinstance(request, Rolling):
            whole = self._behind_start(tokens[request.text, False])
            if not whole:
                raise DataError("A text without tokens cannot be scored", "Leave it out.")
            return list(self._windows(whole))
        if request.context.rstrip():
            before, whole = (tokens[key] for key in self._texts(request))
            after = whole[len(before) :]
        else:
            before, after = self.start, self._behind_start(tokens[request.context + request.text, False])
        if not after:
            raise DataError(
                f"{request.text!r} adds no tokens to {request.context[-40:]!r}",
                "A continuation needs at least one.",
            )
        if len(after) > self.max_length:
            raise DataError(
                f"A continuation of {len(after)} tokens does not fit the model's window of {self.max_length}: "
                f"{request.text[:40]!r}",
                "Shorten it, or take a model with a longer window.",
            )
        inputs = (*before, *after)[:-1]
        cut = max(0, len(inputs) - self.max_length)
        return [TokenizedRequest(inputs[cut:], tuple(after), cut)]

    def _behind_start(self, tokens: list[int]) -> list[int]:
        """Return tokens without a start of text of their own: it is there once, and not itself predicted."""
        return tokens[len(self.start) :] if tokens[: len(self.start)] == self.start else tokens

    def _windows(self, tokens: list[int]) -> Iterator[TokenizedRequest]:
        """Windows in which every token is predicted once: the last window reaches back as far as it can."""
        size = self.max_length
        yield TokenizedRequest((*self.start, *tokens[:size][:-1])[-size:], tuple(tokens[:size]))
        for start in range(size, len(tokens), size):
            end = min(start + size, len(tokens))
            yield TokenizedRequest(tuple(tokens[end - size - 1 : end - 1]), tuple(tokens[start:end]))
