"""Documents of plain text: whole, or in pieces that fit in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

END_OF_TEXT = "<|endoftext|>"
"""A line that holds only this separates documents."""
PASSAGE_CHARACTERS = 1 << 13
"""Where a document is longer than this, rows are passages of it."""


class Piece(NamedTuple):
    """A document or a part of one, small enough to hold many of them in memory; it begins in this line of its file."""

    text: str
    ends_document: bool
    line: int


def read_documents(lines: Iterable[str], longest: int) -> Iterator[Piece]:
    """Every document of a text, in pieces of about `longest` characters, cut between lines where there are lines.

    White space goes with what follows it: so cut, the pieces have the tokens of the whole.
    """
    held: list[str] = []
    size, begins, begun = 0, 1, False
    for number, line in enumerate(lines, start=1):
        if line.rstrip("\n") == END_OF_TEXT:
            text = "".join(held).rstrip("\n")
            if begun or text.strip():
                yield Piece(text, True, begins)
            held, size, begins, begun = [], 0, number + 1, False
            continue
        held.append(line)
        size += len(line)
        if size >= longest:
            text = "".join(held)
            body = text.rstrip()
            if body:
                yield Piece(body, False, begins)
            held, size, begins, begun = [text[len(body) :]], len(text) - len(body), number, begun or bool(body)
    text = "".join(held).rstrip("\n")
    if begun or text.strip():
        yield Piece(text, True, begins)


def read_passages(lines: Iterable[str]) -> Iterator[Piece]:
    """Every document of a text in pieces of about 8,000 characters, none of which is empty."""
    held: Piece | None = None
    for piece in read_documents(lines, PASSAGE_CHARACTERS):
        if held is not None and not piece.text.strip():
            # After the last cut of a document there was only white space.
            held = held._replace(ends_document=piece.ends_document)
            continue
        if held is not None:
            yield held
        held = piece
    if held is not None:
        yield held
