"""What of a text is a word, a letter and a character, in any script."""

from __future__ import annotations

import unicodedata
from functools import cache
from itertools import islice, zip_longest
from typing import Any

# Scripts that put no spaces between words; the length mark of kana belongs to two of them.
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\u30fc\p{Bopomofo}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
# Between letters they join what is read as one word, as in Persian.
_JOINERS = str.maketrans("", "", "\u200c\u200d")


def words(text: str) -> list[str]:
    """Return the words of a text for counting: letters, their marks and digits, without case, in Unicode's form NFC.

    A character of a script that puts no spaces between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese) is a word.
    Everything else separates words.
    """
    found: list[str] = _word().findall(folded(text).translate(_JOINERS))
    return found


def word_spans(text: str) -> list[tuple[int, int]]:
    """Return the characters [start, end) of each word of a text; see `words`."""
    return [match.span() for match in _word().finditer(text)]


def folded(text: str) -> str:
    """Return a text for comparisons: without case, in Unicode's form NFC."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def is_unspaced(text: str) -> bool:
    """Return whether most letters of a text are of a script that puts no spaces between words."""
    if text.isascii():
        return False
    return len(_letters(unspaced=True).findall(text)) > len(_letters(unspaced=False).findall(text))


def has_unspaced(text: str) -> bool:
    """Return whether a text has a letter of a script that puts no spaces between words."""
    return not text.isascii() and _letters(unspaced=True).search(text) is not None


def letters_of(text: str, scripts: str) -> int:
    """Return how many letters of a text are of some scripts, as in `\\p{Han}\\p{Thai}`."""
    return len(_compiled(rf"[\p{{L}}&&[{scripts}]]").findall(text))


def first_words(text: str, like: str) -> str:
    """Return the beginning of a text, as many words as another has, or characters of a script without spaces."""
    if not is_unspaced(text):
        return " ".join(text.split()[: len(like.split())])
    places, number = word_spans(text), len(words(like))
    return text if number >= len(places) else text[: places[number - 1][1] if number else 0]


def shortened(text: str, longest: int) -> str:
    """Return a text on one line, of at most this many characters as they are read: an emoji or a letter with its marks
    is one, and is never cut.
    """
    line = " ".join(text.split())
    if len(line) <= longest:
        return line
    # A letter may have any number of marks, and what is shown may not.
    characters = list(islice(_compiled(r"\X").finditer(line, 0, 10 * longest), longest + 1))
    if len(characters) <= longest and characters[-1].end() == len(line):
        return line
    return "".join(character[0] for character in characters[: longest - 1]) + "\u2026"


def shortened_apart(text: str, other: str, longest: int) -> tuple[str, str]:
    """Return two texts as `shortened`; of those that differ only behind what that shows, from where they differ on."""
    shown = shortened(text, longest), shortened(other, longest)
    lines = " ".join(text.split()), " ".join(other.split())
    if shown[0] != shown[1] or lines[0] == lines[1]:
        return shown
    same = next(place for place, pair in enumerate(zip_longest(*lines)) if len(set(pair)) > 1)
    start = lines[0].rfind(" ", 0, max(0, same - longest // 4)) + 1
    return shortened(f"\u2026{lines[0][start:]}", longest), shortened(f"\u2026{lines[1][start:]}", longest)


def isolated(text: str) -> str:
    """Return a text that does not change the order of its neighbours in a line.

    One that is read from right to left is in isolates (Unicode's UAX 9), any other is unchanged.
    """
    right_to_left = any(unicodedata.bidirectional(character) in ("R", "AL") for character in text)
    return f"\u2068{text}\u2069" if right_to_left else text


def _word() -> Any:
    spaced = rf"[[\p{{L}}\p{{Nd}}\p{{Nl}}]--[{_UNSPACED}]]"
    return _compiled(rf"[[\p{{L}}\p{{Nd}}\p{{Nl}}]&&[{_UNSPACED}]]\p{{M}}*|{spaced}(?:{spaced}|\p{{M}})*")


def _letters(*, unspaced: bool) -> Any:
    return _compiled(rf"[\p{{L}}{'&&' if unspaced else '--'}[{_UNSPACED}]]")


@cache
def _compiled(pattern: str) -> Any:
    # Imported here, because commands that count no words should not wait for it.
    import regex

    return regex.compile(f"(?V1){pattern}")
