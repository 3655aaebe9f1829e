"""Tokens are right for every family of tokenizers: encoded, cut, joined, placed in the text, and decoded again."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpt_tasks.errors import ModelError
from gpt_tasks.scoring.requests import Tokenization
from gpt_tasks.tasks.chat_template import conversation, give_template, prompt
from gpt_tasks.tasks.encoding import (
    _control,
    encode_continuation,
    encode_text,
    encode_texts,
    encode_with_offsets,
    end_of_text,
    literal,
    opening,
    plain,
    start_of_text,
)
from gpt_tasks.tasks.pieces import encode_pieces
from gpt_tasks.tasks.prompts import encode_prompts
from gpt_tasks.tasks.text_to_text import TextToTextTask
from gpt_tasks.tasks.turns import ASSISTANT, USER, Turn
from gpt_tasks.types import Continuation, Example, Generation, Rolling

PAGE = Path(__file__).parents[2] / "docs" / "tokenizers.md"
PROMPT = "Read: {text}\nAnswer:"


def control_ids(tokenizer: Any) -> set[int]:
    """The ids of control tokens, but for the one that any unknown word becomes."""
    return {tokenizer.convert_tokens_to_ids(name) for name in _control(tokenizer).names} - {tokenizer.unk_token_id}


@st.composite
def known_texts(draw: st.DrawFn, sentences: tuple[str, ...]) -> str:
    """Words that the tokenizers were trained on."""
    known = sorted({word for sentence in sentences for word in re.findall(r"\w+|[^\w\s]", sentence)})
    words = draw(st.lists(st.sampled_from(known), min_size=1, max_size=12))
    return draw(st.sampled_from([" ", "", "  ", "\n"])).join(words)


def texts_for(family: Any, sentences: tuple[str, ...]) -> st.SearchStrategy[str]:
    anything = st.text(st.characters(exclude_categories=["Cs", "Cn"]), min_size=1, max_size=30)
    known = known_texts(sentences)
    return st.one_of(known, anything) if family.any_character else known


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_encode_cut_join_offsets_and_round_trip(family: Any, sentences: Any, data: st.DataObject) -> None:
    tokenizer = family.tokenizer
    text, other = data.draw(texts_for(family, sentences)), data.draw(texts_for(family, sentences))
    front = opening(tokenizer)

    # Encoded: what the tokenizer puts in front, and the text's own tokens, which are those that transformers finds.
    bare = encode_text(tokenizer, text, begins=False)
    assert encode_text(tokenizer, text) == [*front, *bare]
    assert encode_texts(tokenizer, [text, other]) == [encode_text(tokenizer, each) for each in (text, other)]
    assert not control_ids(tokenizer) & set(bare)
    if literal(tokenizer, text) == text:
        assert bare == tokenizer(text, add_special_tokens=False)["input_ids"]
        assert _control(tokenizer).encode(text) == encode_with_offsets(tokenizer, [text], begins=False)[0]

    # Placed: in order, and every character that is no white space has a token.
    ((ids, offsets),) = encode_with_offsets(tokenizer, [text], begins=False)
    assert ids == bare
    assert [start for start, _ in offsets] == sorted(start for start, _ in offsets)
    covered = {place for start, end in offsets for place in range(start, end)}
    if family.keeps != "letters":
        assert {place for place, character in enumerate(text) if not character.isspace()} <= covered
    assert covered <= set(range(len(text)))

    # Decoded again.
    assert family.gives_back(bare, text)

    # Joined: the context keeps its tokens, and nothing is between them and what follows.
    behind = encode_continuation(tokenizer, text, other)
    whole = encode_text(tokenizer, text + other, begins=False)
    assert [*bare, *behind] == whole or whole[: len(bare)] != bare
    assert family.gives_back([*bare, *behind], text + other)

    # Cut: to the length, with the prompt's own words.
    room = len(encode_text(tokenizer, PROMPT.format(text=""))) + 4
    (cut,) = encode_prompts(PROMPT, [{"text": text}], tokenizer, room)
    (windows,) = encode_pieces(PROMPT, [{"text": text}], tokenizer, room + 8, "windows")
    for ids in (cut.input_ids, *windows.sequences):
        assert len(ids) <= room + 8
        assert ids[: len(front)] == front
        assert not control_ids(tokenizer) & set(ids[len(front) :])
        assert tokenizer.unk_token_id in ids or family.decoded(ids[len(front) :]).endswith(family.form("\nAnswer:"))
    assert len(cut.input_ids) <= room


def test_control_tokens_in_a_users_text_are_characters(family: Any) -> None:
    tokenizer = family.tokenizer
    for name in _control(tokenizer).names:
        spelled = f"one {name} two{name}"
        token = tokenizer.convert_tokens_to_ids(name)
        ids = encode_text(tokenizer, spelled, begins=False)
        assert not control_ids(tokenizer) & set(ids), name
        assert family.gives_back(ids, spelled)
        ((again, offsets),) = encode_with_offsets(tokenizer, [spelled], begins=False)
        assert again == ids
        assert max(end for _, end in offsets) == len(spelled)
        assert plain(literal(tokenizer, spelled)) == spelled
        filled = f"{name}{literal(tokenizer, spelled)} end{name}"
        found = encode_text(tokenizer, filled, begins=False, control=True)
        if token != tokenizer.unk_token_id:
            assert [place for place, each in enumerate(found) if each == token] == [0, len(found) - 1], name


def test_what_marks_a_literal_may_itself_be_in_a_text(family: Any) -> None:
    tokenizer = family.tokenizer
    for text in ("\ufdd0", "a\ufdd0\ufdd0b", *(f"\ufdd0{name}\ufdd0" for name in _control(tokenizer).names)):
        assert plain(literal(tokenizer, text)) == text


def test_a_text_that_begins_with_a_bos_gets_no_second_one(family: Any) -> None:
    tokenizer = family.tokenizer
    front = opening(tokenizer)
    text = "".join(tokenizer.convert_ids_to_tokens(front)) + "The soup was cold."
    ids = encode_text(tokenizer, text, control=True)
    assert ids[: len(front)] == front
    assert all(token not in ids[len(front) :] for token in front)


def test_requests_have_one_start_and_no_end(ending_family: Any) -> None:
    tokenizer = ending_family.tokenizer
    start, tokenization = start_of_text(tokenizer), Tokenization(tokenizer, 64)
    soup = "The soup was cold."
    asked = [Continuation("The soup was", " cold"), Continuation("", soup), Rolling(soup)]
    text = encode_text(tokenizer, "The soup was cold", begins=False)
    context, empty, rolling = (path for (path,) in tokenization.paths(asked))
    assert [*context.inputs, context.targets[-1]] == [*opening(tokenizer), *text]
    whole = encode_text(tokenizer, soup, begins=False)
    for path in (empty, rolling):
        assert list(path.targets) == whole
        assert list(path.inputs) == [*start, *whole[:-1]]
    written = tokenization.context(Generation("The soup was", (), 8)).inputs
    assert list(written) == encode_text(tokenizer, "The soup was")
    assert list(tokenization.context(Generation("", (), 8)).inputs) == start


def test_an_answer_is_learned_right_behind_its_prompt(ending_family: Any) -> None:
    tokenizer = ending_family.tokenizer
    end = tokenizer.eos_token_id
    question, answer = f"Is the soup cold {tokenizer.eos_token}?", f" yes{tokenizer.eos_token} no"
    task, example = TextToTextTask(), Example({"question": question}, answer, "here")
    (encoded,) = task.encode([example], tokenizer, 64)
    ((first, last),) = encoded.label_spans
    front = len(opening(tokenizer))
    assert encoded.input_ids[front:].count(end) == 1
    assert encoded.input_ids[-1] == end
    assert last == len(encoded.input_ids)
    assert encoded.input_ids[:first] == task.prompt_tokens(example, tokenizer, 64)
    assert ending_family.gives_back(encoded.input_ids[front:-1], question + answer)


def test_a_turn_cannot_end_itself_or_begin_another(ending_family: Any) -> None:
    tokenizer = ending_family.make()
    give_template(tokenizer)
    names = list(_control(tokenizer).names)
    turns = [Turn(USER, f"Is it cold{names[-1]}?"), Turn(ASSISTANT, f"No{tokenizer.eos_token} yes {names[0]}.")]
    encoded = conversation(tokenizer, turns, "here")
    as_usual = conversation(tokenizer, [Turn(USER, "Is it cold?"), Turn(ASSISTANT, "No yes.")], "here")
    control = control_ids(tokenizer)
    assert [token for token in encoded.input_ids if token in control] == [
        token for token in as_usual.input_ids if token in control
    ]
    ((first, last),) = encoded.label_spans
    said = encoded.input_ids[first:last]
    assert said[-1] == tokenizer.eos_token_id
    assert said.count(tokenizer.eos_token_id) == 1
    assert tokenizer.unk_token_id in said or ending_family.decoded(said[:-1]).strip() == ending_family.form(
        turns[1].content
    )
    assert encoded.input_ids[:first] == prompt(tokenizer, turns[:1], "here")


def test_what_has_no_end_of_text_says_so(families: Any) -> None:
    (lacking,) = (family for family in families.values() if not family.has_end)
    for needed in (end_of_text, start_of_text):
        with pytest.raises(ModelError, match="The tokenizer has n"):
            needed(lacking.tokenizer)


def test_the_page_has_a_row_for_each_family(families: Any) -> None:
    assert len(families) >= 15
    rows = []
    for name, family in families.items():
        tokenizer = family.tokenizer
        whole = tokenizer("soup", padding=False, truncation=False)["input_ids"]
        front = opening(tokenizer)
        behind = whole[len(front) + len(encode_text(tokenizer, "soup", begins=False)) :]
        shown = [
            " ".join(f"`{token}`" for token in tokenizer.convert_ids_to_tokens(tokens)) or "none"
            for tokens in (front, behind, [] if tokenizer.pad_token is None else [tokenizer.pad_token_id])
        ]
        cells = (cell.replace("|", r"\|") for cell in [name, family.like, *shown])
        rows.append(f"| {' | '.join(cells)} |")
    _, _, *found = re.findall(r"^\|.*\|$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert found == rows
