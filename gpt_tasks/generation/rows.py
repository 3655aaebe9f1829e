"""The texts of one batch, as their tokens come: each row ends independently."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from gpt_tasks.generation.text import TextStream

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class GeneratedText:
    """A text that was written after a prompt: of so many `tokens`, and why it ended.

    `finish_reason` is `end` where the model ended it, `stop` where a stop text came (which is not part of it), `length`
    where the most tokens were reached.
    """

    text: str
    tokens: int
    finish_reason: Literal["end", "stop", "length"]


class BatchOutputs:
    """Turns the tokens of rows into texts, and says when each is done: at a stop text, at its end, at its length.

    A row is a prompt's tokens `before` it and its `max_new_tokens`; `ends` are the tokens that end a text.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        before: Sequence[Sequence[int]],
        max_new_tokens: Sequence[int],
        *,
        ends: frozenset[int],
        stop: Sequence[str] = (),
        on_text: Callable[[str], None] | None = None,
    ) -> None:
        self.max_new_tokens, self.ends = max_new_tokens, ends
        self.done = [False] * len(before)
        self._ended = [False] * len(before)
        self._on_text = on_text
        live = on_text is not None or bool(stop)
        self._streams = [TextStream(tokenizer, ids, stop, live=live) for ids in before]

    def take(self, row: int, token: int) -> bool:
        """Take a row's next token, unless it is done; return whether it is done now."""
        if not self.done[row]:
            stream = self._streams[row]
            if token in self.ends:
                self._ended[row] = True
            else:
                self._show(stream.push(token))
            self.done[row] = self._ended[row] or stream.stopped or stream.tokens >= self.max_new_tokens[row]
        return self.done[row]

    def written(self) -> list[GeneratedText]:
        """Return the text of each row, when no more tokens will come."""
        found = []
        for stream, ended in zip(self._streams, self._ended, strict=True):
            self._show(stream.finish())
            finish_reason: Literal["end", "stop", "length"] = "stop" if stream.stopped else "end" if ended else "length"
            found.append(GeneratedText(stream.text, stream.tokens, finish_reason))
        return found

    def _show(self, piece: str) -> None:
        if piece and self._on_text is not None:
            self._on_text(piece)
