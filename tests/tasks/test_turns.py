"""The turns of a conversation: the shapes of real data, and what is no conversation."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gpt_tasks.errors import DataError
from gpt_tasks.tasks.turns import Turn, as_text, from_text, parted, read_turns, transcript
from gpt_tasks.types import Row

WANTED = (Turn("system", "Be short."), Turn("user", "Hi!"), Turn("assistant", "Hello."))


def said(*turns: tuple[str, Any]) -> list[dict[str, Any]]:
    return [{"role": role, "content": content} for role, content in turns]


def read(value: Any) -> tuple[Turn, ...]:
    return read_turns(Row({"messages": value}, "talk.jsonl:7"), "messages")


@pytest.mark.parametrize(
    "value",
    [
        said(("system", "Be short."), ("user", "Hi!"), ("assistant", "Hello.")),
        [{"role": turn.role, "text": f" {turn.content}\n"} for turn in WANTED],
        [
            {"from": "system", "value": "Be short."},
            {"from": "human", "value": "Hi!"},
            {"from": "gpt", "value": "Hello."},
        ],
        json.dumps(said(("system", "Be short."), ("user", "Hi!"), ("assistant", "Hello."))),
    ],
    ids=["content", "text, as sgd has it", "value", "JSON in one cell"],
)
def test_the_usual_shapes_are_read(value: Any) -> None:
    assert read(value) == WANTED


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, "column 'messages' is missing"),
        ([], "column 'messages' holds no turn"),
        ("It rained.", "column 'messages' holds a str, not the turns of a conversation: It rained."),
        (3, "column 'messages' holds a int, not the turns"),
        (["Hi!"], "turn 1 is a str, not an object: Hi!"),
        ([{"speaker": "a", "content": "Hi!"}], "turn 1 does not say who speaks; it has speaker, content"),
        (said(("user", "Hi!"), ("tool", "4")), "turn 2 has the role 'tool', which is not one of system, user, assist"),
        (said(("user", "Hi!"), ("asistant", "4")), "turn 2 has the role 'asistant'"),
        (said(("user", "Hi!"), ("assistant", " \n")), r"turn 2 \(assistant\) is empty"),
        (said(("user", None)), r"turn 1 \(user\) is empty"),
        ([{"role": "user"}], r"turn 1 \(user\) is empty"),
        (said(("user", [{"type": "image"}])), r"turn 1 \(user\) holds a list, not a text"),
        (said(("user", "Hi!"), ("user", "Hello?")), "turns 1 and 2 are both the user's"),
        (said(("user", "Hi!"), ("assistant", "A."), ("assistant", "B.")), "turns 2 and 3 are both the assistant's"),
        (said(("user", "Hi!"), ("system", "Be short.")), "turn 2 is the system's"),
    ],
)
def test_what_is_no_conversation_is_reported_with_its_row(value: Any, told: str) -> None:
    with pytest.raises(DataError, match=f"^talk.jsonl:7: {told}") as raised:
        read(value)
    assert raised.value.hint


def test_a_misspelt_role_is_recognised() -> None:
    with pytest.raises(DataError, match="Did you mean 'assistant'"):
        read(said(("user", "Hi!"), ("asistant", "4")))


def test_turns_survive_as_one_text() -> None:
    turns = (Turn("user", '太好了 👍🏽 e\u0301 "quoted"\n{}'), Turn("assistant", "\\n"))
    assert from_text(as_text(turns)) == turns


def test_exchanges_begin_with_the_user() -> None:
    system, greeting, user, assistant = (
        Turn("system", "S"),
        Turn("assistant", "G"),
        Turn("user", "U"),
        Turn("assistant", "A"),
    )
    assert parted([system, greeting, user, assistant]) == ((system,), [(greeting,), (user, assistant)])
    assert parted([user, assistant, user]) == ((), [(user, assistant), (user,)])
    assert transcript([system, user, assistant]) == "System: S\nUser: U\nAssistant: A"


def test_a_conversation_may_end_before_an_empty_turn() -> None:
    value = said(("user", "Bye!"), ("assistant", "Bye."), ("user", "Thanks."), ("assistant", ""), ("user", "?"))
    assert read_turns(Row({"messages": value}, "r"), "messages", end_at_empty=True) == (
        Turn("user", "Bye!"),
        Turn("assistant", "Bye."),
        Turn("user", "Thanks."),
    )
    with pytest.raises(DataError) as raised:
        read(value)
    assert "--empty-turns end" in raised.value.hint
