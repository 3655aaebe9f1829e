"""Windows of contexts: every token in one of them, answers at their characters, for any characters."""

from __future__ import annotations

import copy
from importlib.resources import files
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt_tasks.errors import DataError
from gpt_tasks.tasks.span_windows import Windows, encode_windows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PIECES = (
    *("the", " price", " hotel", "Zug", " schön", "9", ".", "!", "x", " x"),
    # Bare and joined emoji, a flag, a letter of another plane.
    *("🙂", " \U0001f469\u200d\U0001f469\u200d\U0001f467", "🇩🇪", "👍🏽", "\U0001d518"),
    # Combining marks, alone behind their letter and several at once; a ligature.
    *("e\u0301", "n\u0303", "a\u0323\u0308", "ﬁ"),
    *("中", "国", "\uff0c", "北京", "한", "กำ", "ع"),
    *(" ", "  ", "\t", "\r\n", "\n\n", "\u00a0", "\u3000", "\u200b"),
)
TEXTS = st.lists(st.sampled_from(PIECES), min_size=1, max_size=40).map("".join).filter(str.strip)


def held(windows: Windows, contexts: list[str], index: int) -> str:
    """The characters between the first and the last token of the answer that a window holds."""
    first, last = windows.answers[index] - windows.openings[index] + windows.firsts[index]
    return contexts[windows.examples[index]][windows.places[first, 0] : windows.places[last, 1]]


def token_bytes(context: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """How many bytes each token represents: of a byte-level vocabulary, one for each of its characters."""
    ids = tokenizer(context, add_special_tokens=False)["input_ids"]
    return [len(token) for token in tokenizer.convert_ids_to_tokens(ids)]


def test_a_window_is_question_separator_context_and_end(tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    windows = encode_windows(
        [" Who was late? "], ["The train was late."], tiny_tokenizer, max_length=60, stride=4, separator=" ->"
    )
    assert len(windows) == 1
    assert tiny_tokenizer.decode(windows.tokens(0)) == "Who was late? ->The train was late.<|endoftext|>"
    opening = int(windows.openings[0])
    assert tiny_tokenizer.decode(windows.tokens(0)[:opening]) == "Who was late? ->"
    assert windows.tokens(0)[windows.closings[0]] == tiny_tokenizer.eos_token_id
    assert windows.answers.tolist() == [[len(windows.tokens(0)) - 1] * 2]
    assert not windows.hold_answers.any()


@settings(max_examples=60, deadline=None)
@given(
    questions=st.lists(st.tuples(TEXTS, st.integers(0, 2)), min_size=1, max_size=4),
    contexts=st.tuples(TEXTS, TEXTS, TEXTS),
    room=st.integers(1, 30),
    data=st.data(),
)
def test_every_token_of_a_context_is_in_a_window(
    tiny_tokenizer: PreTrainedTokenizerBase,
    questions: list[tuple[str, int]],
    contexts: tuple[str, str, str],
    room: int,
    data: st.DataObject,
) -> None:
    stride = data.draw(st.integers(0, room - 1))
    asked, read = [text for text, _ in questions], [contexts[number] for _, number in questions]
    prompts = [tiny_tokenizer(text.strip() + "\n")["input_ids"] for text in asked]
    longest = max(map(len, prompts)) + room + 1
    windows = encode_windows(asked, read, tiny_tokenizer, max_length=longest, stride=stride)
    for example, (prompt, context) in enumerate(zip(prompts, read, strict=True)):
        whole = tiny_tokenizer(context)["input_ids"]
        own = [index for index in range(len(windows)) if windows.examples[index] == example]
        size, last = longest - len(prompt) - 1, 0
        begins = [int(windows.firsts[index] - windows.firsts[own[0]]) for index in own]
        assert begins == [number * (size - stride) for number in range(len(own))]
        for index, begin in zip(own, begins, strict=True):
            part = whole[begin : begin + size]
            assert windows.tokens(index) == [*prompt, *part, tiny_tokenizer.eos_token_id]
            assert windows.openings[index] == len(prompt)
            assert last < len(whole), "no window is of nothing new"
            last = begin + len(part)
        assert last == len(whole)


@pytest.fixture(scope="module", params=["trained on sentences", "embedded"])
def tokenizer(request: pytest.FixtureRequest, tiny_tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """One that splits nearly every character beyond ASCII, and one whose tokens also hold parts of two characters."""
    if request.param != "embedded":
        return tiny_tokenizer
    from transformers import AutoTokenizer

    folder = files("gpt_tasks") / "backbone" / "embedded" / "tiny"
    found: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(str(folder))
    return found


@settings(max_examples=200, deadline=None)
@given(context=TEXTS, room=st.integers(2, 40), data=st.data())
def test_the_characters_of_an_answer_come_back(
    tokenizer: PreTrainedTokenizerBase, context: str, room: int, data: st.DataObject
) -> None:
    """Exactly, where the answer begins and ends with a token but for white space; else with what its tokens add."""
    solid = [place for place, character in enumerate(context) if not character.isspace()]
    start = data.draw(st.sampled_from(solid))
    end = data.draw(st.sampled_from([place for place in solid if place >= start])) + 1
    stride = data.draw(st.integers(0, room - 1))
    question = tokenizer("Who?\n")["input_ids"]
    windows = encode_windows(
        ["Who?"], [context], tokenizer, max_length=len(question) + room + 1, stride=stride, answers=[(start, end)]
    )
    sizes = token_bytes(context, tokenizer)
    bounds = [sum(sizes[:number]) for number in range(len(sizes) + 1)]
    raw = context.encode()
    begin, finish = len(context[:start].encode()), len(context[:end].encode())
    first = max(number for number, bound in enumerate(bounds) if bound <= begin)
    last = min(number for number, bound in enumerate(bounds) if bound >= finish)

    def is_blank(stretch: bytes) -> bool:
        return not stretch.decode(errors="replace").strip()

    aligned = is_blank(raw[bounds[first] : begin]) and is_blank(raw[finish : bounds[last]])
    for index in windows.hold_answers.nonzero()[0]:
        text = held(windows, [context], index)
        assert context[start:end] in text
        assert text == context[start:end] or not aligned
        positions = windows.answers[index] - windows.openings[index] + windows.firsts[index]
        assert positions.tolist() == [first, last - 1]
    if last - first <= stride + 1 or len(sizes) <= room:
        assert windows.hold_answers.any()
    for index in (~windows.hold_answers).nonzero()[0]:
        assert windows.answers[index].tolist() == [windows.closings[index]] * 2
        seen = range(windows.firsts[index], windows.firsts[index] + windows.closings[index] - windows.openings[index])
        assert first not in seen or last - 1 not in seen


@pytest.mark.parametrize("piece", ["🙂", "国", "é", "\u0301"])
def test_every_token_of_a_split_character_represents_all_of_it(
    tiny_tokenizer: PreTrainedTokenizerBase, piece: str
) -> None:
    context = f"x\t{piece}{piece}."
    sizes = token_bytes(context, tiny_tokenizer)
    assert len(sizes) > len(context), "this tokenizer does not split it"
    windows = encode_windows(["?"], [context], tiny_tokenizer, max_length=40, stride=0, answers=[(3, 4)])
    own = [tuple(place) for place in windows.places.tolist()]
    count = sum(place == (3, 4) for place in own)
    assert count > 1
    assert own.count((2, 3)) == count
    assert held(windows, [context], 0) == piece
    first, last = windows.answers[0]
    assert last - first + 1 == count


def test_white_space_around_an_answer_is_no_part_of_it(tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    context = "\r\n The train \t was\u3000late.\n"
    spans = [(2, 7), (3, 6), (3, 12), (1, 14), (13, 18), (19, 25)]
    windows = encode_windows(["?"] * 6, [context] * 6, tiny_tokenizer, max_length=60, stride=0, answers=spans)
    found = [held(windows, [context] * 6, index) for index in range(6)]
    assert found == ["The", "The", "The train", "The train", "was", "late."]
    blank = [place for place in windows.places.tolist() if place[0] >= place[1]]
    assert blank, "a token of nothing but white space represents no characters"
    assert all(context[start:end].strip() == context[start:end] for start, end in windows.places.tolist())


def test_an_answer_at_the_edge_of_a_window_is_found_in_the_next(tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    context = "0123456789" * 3
    # Windows of ten tokens, of which four overlap: an answer of five is in one of them at any position.
    room = len(tiny_tokenizer("?\n")["input_ids"]) + 10 + 1
    for start in range(26):
        windows = encode_windows(
            ["?"], [context], tiny_tokenizer, max_length=room, stride=4, answers=[(start, start + 5)]
        )
        assert windows.firsts.tolist() == [0, 6, 12, 18, 24]
        holding = windows.hold_answers.nonzero()[0].tolist()
        assert holding == [index for index in range(5) if 6 * index <= start <= 6 * index + 5 and start + 5 <= 30]
        assert {held(windows, [context], index) for index in holding} == {context[start : start + 5]}
    split = encode_windows(["?"], [context], tiny_tokenizer, max_length=room, stride=4, answers=[(8, 12)])
    assert split.hold_answers.tolist() == [False, True, False, False, False]


def test_an_answer_longer_than_any_window_is_in_none(tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    room = len(tiny_tokenizer("?\n")["input_ids"]) + 10 + 1
    windows = encode_windows(["?"], ["0123456789" * 3], tiny_tokenizer, max_length=room, stride=4, answers=[(2, 20)])
    assert not windows.hold_answers.any()


def test_questions_about_one_context_share_its_tokens(tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    contexts = ["The soup was cold.", "A warm film.", "The soup was cold."]
    windows = encode_windows(
        ["What?", "Which film?", "How was it?"],
        contexts,
        tiny_tokenizer,
        max_length=60,
        stride=0,
        answers=[(4, 8), (2, 6), (13, 17)],
    )
    assert windows.firsts[0] == windows.firsts[2] != windows.firsts[1]
    assert len(windows.places) == sum(len(tiny_tokenizer(text)["input_ids"]) for text in contexts[:2])
    assert [held(windows, contexts, index) for index in range(3)] == ["soup", "warm", "cold"]


def test_only_some_questions_may_have_an_answer(tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    windows = encode_windows(
        ["What?", "Who?"], ["The soup."] * 2, tiny_tokenizer, max_length=40, stride=0, answers=[None, (4, 8)]
    )
    assert windows.hold_answers.tolist() == [False, True]


@pytest.mark.parametrize(
    ("spare", "stride", "told", "hint"),
    [
        (-5, 0, "r:2: the question takes 26 of 20 tokens and leaves its context no room", "larger --max-length"),
        (0, 0, "r:2: the question takes 26 of 25 tokens and leaves its context no room", "Shorten the question"),
        (1, 0, "r:2: the question takes 26 of 26 tokens and leaves its context no room", "Shorten the question"),
        (8, 7, "r:2: the question leaves its context 7 of 33 tokens, and windows overlap by 7", "smaller --stride"),
    ],
)
def test_a_question_that_leaves_its_context_no_room_is_reported(
    tiny_tokenizer: PreTrainedTokenizerBase, spare: int, stride: int, told: str, hint: str
) -> None:
    questions = ["?", "0" * 24]
    assert len(tiny_tokenizer(f"{questions[1]}\n")["input_ids"]) == 25
    with pytest.raises(DataError) as caught:
        encode_windows(
            questions, ["012345678"] * 2, tiny_tokenizer, max_length=25 + spare, stride=stride, where=["r:1", "r:2"]
        )
    assert told in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("stride", [3, 4, 5, 30])
def test_a_stride_beyond_the_room_does_no_harm_where_one_window_is_enough(
    tiny_tokenizer: PreTrainedTokenizerBase, stride: int
) -> None:
    question = tiny_tokenizer("?\n")["input_ids"]
    windows = encode_windows(["?"], ["0123"], tiny_tokenizer, max_length=len(question) + 4 + 1, stride=stride)
    assert len(windows) == 1


def test_special_tokens_are_before_the_question_only(tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = copy.deepcopy(tiny_tokenizer)
    end = tokenizer.eos_token
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{end} $A", special_tokens=[(end, tokenizer.eos_token_id)]
    )
    windows = encode_windows(["Who?"], ["The train."], tokenizer, max_length=40, stride=0, answers=[(4, 9)])
    assert tokenizer.decode(windows.tokens(0)) == f"{end}Who?\nThe train.{end}"
    assert held(windows, ["The train."], 0) == "train"
