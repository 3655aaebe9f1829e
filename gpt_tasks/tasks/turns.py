"""The turns of a conversation: read from a row of data, checked, and stored as one text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import pairwise
from typing import Any

from gpt_tasks.errors import DataError
from gpt_tasks.files import parse_json
from gpt_tasks.tasks.options import option_advice
from gpt_tasks.types import Row

SYSTEM, USER, ASSISTANT = ROLES = ("system", "user", "assistant")

_ROLE_KEYS, _TEXT_KEYS = ("role", "from"), ("content", "text", "value")
_OTHER_NAMES = {"human": USER, "gpt": ASSISTANT}
_LEAVE_OUT = "or leave the row out."
_SHAPE = 'A conversation is a list of turns such as {"role": "user", "content": "Hello!"}.'


@dataclass(frozen=True, slots=True)
class Turn:
    """What one speaker says at a time; `role` is system, user or assistant."""

    role: str
    content: str


def read_turns(row: Row, column: str, *, end_at_empty: bool = False) -> tuple[Turn, ...]:
    """Return the turns in a row's column: a list of objects, or the JSON of one; white space around a text is removed.

    A turn has its speaker under `role` or `from`, its text under `content`, `text` or `value`; `human` is a user and
    `gpt` an assistant. Speakers must take turns, an assistant may begin, and only the first turn may be the system's.
    With `end_at_empty` a conversation ends before a turn without a text. Raises DataError naming the row and the turn.
    """
    value = row.values.get(column)
    if isinstance(value, str):
        value = _parsed(value)
    if value is None:
        raise DataError(f"{row.where}: column '{column}' is missing", f"Give every row its turns, {_LEAVE_OUT}")
    if not isinstance(value, list):
        raise DataError(
            f"{row.where}: column '{column}' holds a {type(value).__name__}, not the turns of a conversation: "
            f"{str(value)[:60]}",
            _SHAPE,
        )
    turns: tuple[Turn, ...] = ()
    for number, each in enumerate(value, start=1):
        turn = _turn(each, f"{row.where}: turn {number}")
        if not turn.content and end_at_empty:
            break
        if not turn.content:
            raise DataError(
                f"{row.where}: turn {number} ({turn.role}) is empty",
                f"Give it a text, {_LEAVE_OUT[:-1]}; a conversation ends before such a turn with "
                f"{option_advice('empty_turns', 'end')}.",
            )
        turns = (*turns, turn)
    if not turns:
        raise DataError(f"{row.where}: column '{column}' holds no turn", f"Give every row its turns, {_LEAVE_OUT}")
    for number, (turn, following) in enumerate(pairwise(turns), start=1):
        if following.role == SYSTEM:
            raise DataError(
                f"{row.where}: turn {number + 1} is the system's, which only the first turn may be",
                f"Put it first, {_LEAVE_OUT}",
            )
        if turn.role == following.role:
            raise DataError(
                f"{row.where}: turns {number} and {number + 1} are both the {turn.role}'s",
                f"Make one turn of the two, {_LEAVE_OUT}",
            )
    return turns


def holds_turns(text: str) -> bool:
    """Return whether a text is the JSON of turns, and not a plain message."""
    value = _parsed(text)
    return isinstance(value, list) and bool(value) and all(isinstance(each, Mapping) for each in value)


def messages(turns: Sequence[Turn]) -> list[dict[str, str]]:
    """Return turns as chat templates and data files have them."""
    return [{"role": turn.role, "content": turn.content} for turn in turns]


def as_text(turns: Sequence[Turn]) -> str:
    """Return turns as one text, from which `from_text` makes the same."""
    return json.dumps(messages(turns), ensure_ascii=False)


def from_text(text: str) -> tuple[Turn, ...]:
    """Return the turns that `as_text` made a text of."""
    return tuple(Turn(**message) for message in json.loads(text))


def parted(turns: Sequence[Turn]) -> tuple[tuple[Turn, ...], list[tuple[Turn, ...]]]:
    """Return the system's turn, if there is one, and the exchanges: each a user's turn and what is answered to it.

    An assistant's opening turn is a separate exchange.
    """
    system = tuple(turns[:1]) if turns and turns[0].role == SYSTEM else ()
    exchanges: list[tuple[Turn, ...]] = []
    for turn in turns[len(system) :]:
        if turn.role == USER or not exchanges:
            exchanges.append((turn,))
        else:
            exchanges[-1] = (*exchanges[-1], turn)
    return system, exchanges


def transcript(turns: Sequence[Turn]) -> str:
    """Return turns as plain text, a line for each, with its speaker in front."""
    return "\n".join(f"{turn.role.capitalize()}: {turn.content}" for turn in turns)


def _parsed(text: str) -> Any:
    """Return the list that a text is the JSON of, or else the text."""
    try:
        value = parse_json(text)
    except ValueError:
        return text
    return value if isinstance(value, list) else text


def _turn(value: Any, where: str) -> Turn:
    if not isinstance(value, Mapping):
        raise DataError(f"{where} is a {type(value).__name__}, not an object: {str(value)[:60]}", _SHAPE)
    role = next((value[key] for key in _ROLE_KEYS if value.get(key) is not None), None)
    content = next((value[key] for key in _TEXT_KEYS if key in value), None)
    if role is None:
        raise DataError(f"{where} does not say who speaks; it has {', '.join(map(str, value)) or 'nothing'}", _SHAPE)
    role = _OTHER_NAMES.get(str(role), role)
    if role not in ROLES:
        near = get_close_matches(str(role), ROLES, n=1)
        hint = f"Did you mean '{near[0]}'?" if near else f"Give one of these, {_LEAVE_OUT}"
        raise DataError(f"{where} has the role '{role}', which is not one of {', '.join(ROLES)}", hint)
    if not isinstance(content, str | None):
        raise DataError(
            f"{where} ({role}) holds a {type(content).__name__}, not a text: {str(content)[:60]}",
            "Give the text as one string.",
        )
    return Turn(role, (content or "").strip())
