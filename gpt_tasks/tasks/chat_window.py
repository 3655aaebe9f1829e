"""The part of a conversation that fits a model's window: the oldest turns are dropped, the system's stays."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING

from gpt_tasks.errors import DataError
from gpt_tasks.tasks.chat_template import conversation, prompt, shortened
from gpt_tasks.tasks.turns import USER, Turn, parted
from gpt_tasks.types import Encoded

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class History:
    """The tokens of a conversation that waits for an answer, and how many of its oldest turns were dropped."""

    input_ids: list[int]
    forgotten: int


def history(tokenizer: PreTrainedTokenizerBase, turns: Sequence[Turn], room: int, where: str) -> History:
    """Return the tokens of the turns in `room`, without the oldest exchanges where they are too many.

    The system's turn and the last exchange are never dropped, even if they are too long.
    """
    system, exchanges = parted(turns)

    def after(left_out: int) -> list[int]:
        return prompt(tokenizer, [*system, *chain.from_iterable(exchanges[left_out:])], where)

    whole = after(0)
    if len(whole) <= room:
        return History(whole, 0)
    fewest = bisect_left(range(1, len(exchanges)), True, key=lambda left_out: len(after(left_out)) <= room)
    least = min(1 + fewest, len(exchanges) - 1)
    return History(after(least), sum(map(len, exchanges[:least])))


def asked(tokenizer: PreTrainedTokenizerBase, turns: Sequence[Turn], room: int, where: str) -> list[int]:
    """Return the tokens of the turns in `room`: as `history` does, and the end of the last turn is cut where needed.

    Raises DataError naming `where` the turns are from if the system's turn leaves no room for another.
    """
    found = history(tokenizer, turns, room, where).input_ids
    system, exchanges = parted(turns)
    last = (*system, *exchanges[-1])
    while len(found) > room and last[-1].content:
        last = shortened(tokenizer, last, len(last) - 1, len(found) - room)
        found = prompt(tokenizer, last, where)
    if len(found) > room:
        raise _full(len(found), room, where)
    return found


def pieces(tokenizer: PreTrainedTokenizerBase, turns: Sequence[Turn], max_length: int, where: str) -> list[Encoded]:
    """Return a conversation for training, in one piece or in several, each of the assistant's turns in one of them.

    A conversation that is too long is learned from its beginning, a piece at a time; a piece starts with the latest
    turns that were learned before, in about half of its room. Earlier turns are counted as `truncated`, and so is what
    is cut from a single exchange that is too long: first from the end of the user's turn, then from the end of the
    answer. Raises DataError where that leaves nothing to learn.
    """
    whole = conversation(tokenizer, turns, where)
    if len(whole.input_ids) <= max_length:
        return [whole]
    system, exchanges = parted(turns)
    ends = [0, *(end for _, end in whole.label_spans)]
    alone = conversation(tokenizer, [*system, *exchanges[-1]], where)
    opening = max(0, alone.label_spans[-1][1] - (ends[-1] - ends[-2]))

    def size(first: int, last: int) -> int:
        return ends[last + 1] - ends[first] + (opening if first else 0)

    found = []
    done = 0
    while done < len(exchanges):
        first, last = done, done
        while first and size(first - 1, done) <= max_length and size(first - 1, done - 1) <= max_length // 2:
            first -= 1
        while last + 1 < len(exchanges) and size(first, last + 1) <= max_length:
            last += 1
        while last + 1 == len(exchanges) and first and size(first - 1, last) <= max_length:
            first -= 1
        piece = whole
        while len(piece.input_ids) > max_length:
            # The sizes are estimates; a template may render a turn differently in another place.
            if piece is not whole and first == last:
                piece = _cut(tokenizer, [*system, *exchanges[done]], max_length, where)
                break
            if piece is not whole:
                first, last = (first + 1, last) if first < done else (first, last - 1)
            piece = conversation(tokenizer, [*system, *chain.from_iterable(exchanges[first : last + 1])], where)
        before = max(1, ends[first] - opening) if first else 0
        found.append(replace(piece, truncated=piece.truncated + before, label_spans=piece.label_spans[done - first :]))
        done = last + 1
    return found


def _cut(tokenizer: PreTrainedTokenizerBase, turns: Sequence[Turn], max_length: int, where: str) -> Encoded:
    """Shorten an exchange that is too long: first the end of the user's turn is cut, then that of the answer."""
    encoded = conversation(tokenizer, turns, where)
    full = len(encoded.input_ids)
    place = next((number for number, turn in enumerate(turns) if turn.role == USER), None)
    while place is not None and len(encoded.input_ids) > max_length and turns[place].content:
        turns = shortened(tokenizer, turns, place, len(encoded.input_ids) - max_length)
        encoded = conversation(tokenizer, turns, where)
    ids = encoded.input_ids[:max_length]
    start, end = encoded.label_spans[-1]
    if start >= len(ids):
        raise _full(start, max_length, where)
    return Encoded(ids, full - len(ids), (*encoded.label_spans[:-1], (start, min(end, len(ids)))))


def _full(tokens: int, room: int, where: str) -> DataError:
    return DataError(
        f"{where}: before its last turn the conversation takes {tokens} tokens, and there is room for {room}",
        "Shorten the system's turn, or train with a larger --max-length.",
    )
