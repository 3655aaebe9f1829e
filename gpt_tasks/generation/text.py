"""Text out of tokens as they come: never half a character, never a part of a stop text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# A character whose bytes are not all there yet is decoded to this one.
_INCOMPLETE = "\ufffd"
# So many tokens before the text decide how its first one is decoded: with or without its space.
_BEFORE = 6


class TextStream:
    """The text of one sequence of tokens. `text` is all that was returned; `stopped` says whether a stop text came.

    What is not `live` is decoded when it is finished, all at once.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        before: Sequence[int],
        stop: Sequence[str] = (),
        *,
        live: bool = True,
    ) -> None:
        self.text = ""
        self.tokens = 0
        self.stopped = False
        self._tokenizer = tokenizer
        self._stop = tuple(stop)
        self._live = live
        self._ids = list(before[-_BEFORE:])
        # What is decoded anew begins at the one and is known up to the other.
        self._begin, self._known = 0, len(self._ids)
        self._held = ""

    def push(self, token: int) -> str:
        """Take one more token, and return what can be shown by now."""
        self._ids.append(token)
        self.tokens += 1
        return self._release(self._decoded(whole=True)) if self._live else ""

    def finish(self) -> str:
        """Return what was held back: half a character, or what might have become a stop text."""
        if self.stopped:
            return ""
        rest = self._release(self._decoded(whole=False))
        if not self.stopped:
            rest += self._held
            self.text += self._held
            self._held = ""
        return rest

    def _decoded(self, *, whole: bool) -> str:
        known = self._decode(self._ids[self._begin : self._known])
        text = self._decode(self._ids[self._begin :])
        if whole and text.endswith(_INCOMPLETE):
            return ""
        self._begin, self._known = self._known, len(self._ids)
        return text[len(known) :]

    def _decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def _release(self, piece: str) -> str:
        self._held += piece
        found = [place for place in map(self._held.find, self._stop) if place >= 0]
        if found:
            self.stopped = True
            free = min(found)
        else:
            free = len(self._held) - max((_begun(self._held, stop) for stop in self._stop), default=0)
        given, self._held = self._held[:free], "" if self.stopped else self._held[free:]
        self.text += given
        return given


def _begun(text: str, stop: str) -> int:
    """Return how many characters at the end of a text may be the beginning of a stop text."""
    return next((size for size in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:size])), 0)
