"""How texts become tokens: the one way in, for every tokenizer.

Nothing is added behind a text, because something follows it. In front of a text that begins a sequence is what the
tokenizer puts there, once. Control tokens (the end of text, the end of a turn, a delimiter) are written by prompts and
chat templates only: where a user's text spells one, it is characters.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

from gpt_tasks.errors import ModelError

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

# Breaks a control token that is spelled in a user's text. Unicode keeps the character free for a program's own use.
_BREAK = "\ufdd0"
_BREAKS = re.compile(f"{_BREAK}({_BREAK}?)")
# After one of these a text does not begin a sequence, so that no tokenizer puts a space in front of it.
_ANCHORS = ("\n", ".", "a")


class Tokens(NamedTuple):
    """The tokens of a text, and the characters [start, end) of each: (0, 0) of one that stands in front of the text."""

    ids: list[int]
    offsets: list[tuple[int, int]]


def encode_text(
    tokenizer: PreTrainedTokenizerBase, text: str, *, begins: bool = True, control: bool = False
) -> list[int]:
    """Return the tokens of one text, as `encode_texts` does."""
    return encode_texts(tokenizer, [text], begins=begins, control=control)[0]


def encode_texts(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, begins: bool = True, control: bool = False
) -> list[list[int]]:
    """Return the tokens of each text.

    One that `begins` a sequence has in front what the tokenizer puts there, unless the text itself begins with it.
    Control tokens that a text spells are characters; with `control`, for a filled prompt or a rendered chat template,
    they are control tokens, but for those within a `literal`.
    """
    front = opening(tokenizer) if begins else []
    return [_begun(tokens.ids, front) for tokens in _encoded(tokenizer, texts, control, with_offsets=False)]


def encode_with_offsets(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, begins: bool = True, control: bool = False
) -> list[Tokens]:
    """Return the tokens of each text as `encode_texts` does, and which of its characters each stands for."""
    front = opening(tokenizer) if begins else []
    found = []
    for ids, offsets in _encoded(tokenizer, texts, control, with_offsets=True):
        whole = _begun(ids, front)
        found.append(Tokens(whole, [(0, 0)] * (len(whole) - len(ids)) + offsets))
    return found


def encode_continuation(
    tokenizer: PreTrainedTokenizerBase, before: str, text: str, *, control: bool = False
) -> list[int]:
    """Return the tokens of a text that continues `before`, whose own tokens stay as they are.

    These are the tokens of both together, unless one of them spans the border.
    """
    first, joined = encode_texts(tokenizer, [before, before + text], control=control)
    if joined[: len(first)] == first:
        return joined[len(first) :]
    for anchor in _ANCHORS:
        ids, offsets = encode_with_offsets(tokenizer, [anchor + text], begins=False, control=control)[0]
        place = sum(end <= len(anchor) for _, end in offsets)
        if all(start >= len(anchor) for start, _ in offsets[place:]) and place < len(ids):
            return ids[place:]
    return encode_text(tokenizer, text, begins=False, control=control)


def literal(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """Return a user's text to be put into a prompt or a chat template: control tokens in it are broken.

    `encode_texts` reads such a text as it was; `plain` returns it.
    """
    control = _control(tokenizer).pattern
    text = text.replace(_BREAK, 2 * _BREAK)
    while control.search(text):
        text = control.sub(lambda found: f"{found[0][0]}{_BREAK}{found[0][1:]}", text)
    return text


def plain(text: str) -> str:
    """Return a text as it was before `literal`."""
    return _BREAKS.sub(r"\1", text)


def opening(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the tokens that the tokenizer puts in front of a text: mostly a BOS, or none."""
    encoded = _backend(tokenizer).encode("a")
    added = encoded.special_tokens_mask
    return encoded.ids[: next((place for place, mask in enumerate(added) if not mask), 0)]


def start_of_text(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the tokens from which a model begins where there is no text yet: the tokenizer's own, a BOS, or an EOS.

    Raises ModelError where there is none of these.
    """
    token = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    if not (found := opening(tokenizer)) and token is None:
        raise ModelError("The tokenizer has neither a BOS nor an EOS token", "Texts need one to begin with.")
    return found or [int(token)]


def end_of_text(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the token that ends a text. Raises ModelError where there is none."""
    if tokenizer.eos_token_id is None:
        raise ModelError("The tokenizer has no end of text, and no answer can end without one", "Take another model.")
    return int(tokenizer.eos_token_id)


def puts_space_in_front(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer puts a space in front of a text that has none, as that of Llama 2 does."""
    first = _backend(tokenizer).encode("a", add_special_tokens=False).tokens[:1]
    return first != [] and first[0][:1] in ("▁", "Ġ")


def pad_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the token to pad with: any will do, because the attention mask identifies padding."""
    return int(tokenizer.pad_token_id or 0)


def _begun(ids: list[int], front: list[int]) -> list[int]:
    return ids if ids[: len(front)] == front else [*front, *ids]


def _backend(tokenizer: PreTrainedTokenizerBase) -> Tokenizer:
    """Return the library's tokenizer, without the limits of length that its file may hold."""
    backend: Tokenizer = tokenizer.backend_tokenizer
    if backend.truncation is not None:
        backend.no_truncation()
    if backend.padding is not None:
        backend.no_padding()
    return backend


def _encoded(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], control: bool, *, with_offsets: bool
) -> Iterator[Tokens]:
    backend = _backend(tokenizer)
    texts = list(texts) if control else [literal(tokenizer, text) for text in texts]
    encode = backend.encode_batch if with_offsets else backend.encode_batch_fast
    found = iter(encode([text for text in texts if _BREAK not in text], add_special_tokens=False))
    for text in texts:
        if _BREAK in text:
            yield _control(tokenizer).encode(text)
        else:
            encoding = next(found)
            yield Tokens(encoding.ids, encoding.offsets if with_offsets else [])


@dataclass(frozen=True)
class _Control:
    """The control tokens of a tokenizer, and a twin of it that calls them by names which no text holds."""

    backend: Tokenizer
    names: dict[str, str]

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """Finds a control token, the longest of those that begin at a place."""
        return re.compile("|".join(map(re.escape, sorted(self.names, key=len, reverse=True))) or "(?!)")

    @cached_property
    def twin(self) -> Tokenizer:
        """The tokenizer to which a control token's text is a text like any other."""
        from tokenizers import Tokenizer

        whole = json.loads(self.backend.to_str())
        for token in whole["added_tokens"]:
            if token["content"] in self.names:
                token |= {"content": self.names[token["content"]], "normalized": False}
        model = whole["model"]
        # A model of pieces would find a control token among them, or merge one.
        if isinstance(model["vocab"], list):
            model["vocab"] = [[self.names.get(piece, piece), score] for piece, score in model["vocab"]]
        else:
            model["vocab"] = {self.names.get(piece, piece): token for piece, token in model["vocab"].items()}
        if "merges" in model:
            model["merges"] = [pair for pair in model["merges"] if _merged(pair) not in self.names]
        if model.get("unk_token") in self.names:
            model["unk_token"] = self.names[model["unk_token"]]
        return Tokenizer.from_str(json.dumps(whole))

    def encode(self, text: str) -> Tokens:
        """Encode a text with literals in it; offsets are those of the text as it was."""
        shown: list[str] = []
        starts: list[int] = []
        ends: list[int] = []
        place = done = 0

        def add(part: str) -> None:
            nonlocal place
            shown.append(part)
            starts.extend(range(place, place + len(part)))
            ends.extend(range(place + 1, place + len(part) + 1))
            place += len(part)

        for found in self.pattern.finditer(text):
            add(plain(text[done : found.start()]))
            name, length = self.names[found[0]], len(found[0])
            shown.append(name)
            starts += [place] * len(name)
            ends += [place + length] * len(name)
            place, done = place + length, found.end()
        add(plain(text[done:]))
        encoding = self.twin.encode("".join(shown), add_special_tokens=False)
        offsets = [(starts[start], ends[end - 1]) if start < end else (place, place) for start, end in encoding.offsets]
        return Tokens(encoding.ids, offsets)


_KNOWN: WeakKeyDictionary[Any, tuple[Any, _Control]] = WeakKeyDictionary()


def _control(tokenizer: PreTrainedTokenizerBase) -> _Control:
    """Return the control tokens: special ones, and added ones that the chat template writes (white space is a text)."""
    backend, template = _backend(tokenizer), str(tokenizer.chat_template or "")
    state = (backend.get_vocab_size(), template)
    known = _KNOWN.get(tokenizer)
    if known is None or known[0] != state:
        spelled = [
            token.content
            for token in backend.get_added_tokens_decoder().values()
            if token.special or (token.content in template and not token.content.isspace())
        ]
        # One character cannot be broken.
        names = {each: f"\ufdd1{secrets.token_hex(8)}\ufdd1" for each in spelled if len(each) > 1}
        _KNOWN[tokenizer] = known = (state, _Control(backend, names))
    return known[1]


def _merged(pair: str | Sequence[str]) -> str:
    return pair.replace(" ", "", 1) if isinstance(pair, str) else "".join(pair)
