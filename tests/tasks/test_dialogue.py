"""Dialogue: what is learned of a conversation, what is cut where it is too long, and its requests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gpt_tasks import limits
from gpt_tasks.errors import DataError, ModelError, UsageError
from gpt_tasks.tasks.chat_template import conversation, end_token, give_template, prompt
from gpt_tasks.tasks.chat_window import history
from gpt_tasks.tasks.dialogue import DialogueTask
from gpt_tasks.tasks.turns import Turn
from gpt_tasks.types import Continuation, Encoded, Example, Generation, LogLikelihood, Row, Statistic

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

END = "<|endoftext|>"
TALK = (
    ("system", "Be kind."),
    ("user", "What a lovely train!"),
    ("assistant", "Is it not?"),
    ("user", "Does it stop here?"),
    ("assistant", "At eight."),
)
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class Talk(DialogueTask):
    """Talk."""

    name = "talk"


TASK = Talk()


def example(*turns: tuple[str, str], where: str = "talk.jsonl:7") -> Example:
    row = Row({"messages": [{"role": role, "content": content} for role, content in turns]}, where)
    return TASK.example(row, TASK.fields(["messages"], {}, "talk.jsonl"))


def turns(*said: tuple[str, str]) -> list[Turn]:
    return [Turn(*each) for each in said]


@pytest.fixture
def tokenizer(tiny_backbone_folder: Path) -> PreTrainedTokenizerBase:
    """The tiny tokenizer with our template."""
    from transformers import AutoTokenizer

    loaded: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(tiny_backbone_folder)
    give_template(loaded)
    return loaded


def learned(tokenizer: PreTrainedTokenizerBase, encoded: Encoded) -> list[str]:
    return [tokenizer.decode(encoded.input_ids[start:end]) for start, end in encoded.label_spans]


def test_exactly_the_assistants_turns_and_their_ends_are_learned(tokenizer: PreTrainedTokenizerBase) -> None:
    (encoded,) = TASK.encode([example(*TALK)], tokenizer, 256)
    by_hand: list[tuple[str, bool]] = [
        ("System: Be kind.\nUser: What a lovely train!\nAssistant:", False),
        (f" Is it not?{END}", True),
        ("\nUser: Does it stop here?\nAssistant:", False),
        (f" At eight.{END}", True),
    ]
    ids, mask = [], []
    for text, counts in by_hand:
        tokens = tokenizer(text)["input_ids"]
        ids += tokens
        mask += [counts] * len(tokens)
    assert encoded.input_ids == ids
    ours = [any(start <= place < end for start, end in encoded.label_spans) for place in range(len(ids))]
    assert ours == mask
    assert encoded.truncated == 0


def test_the_template_is_saved_with_the_tokenizer_and_masks_alike(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    given = [{"role": role, "content": content} for role, content in TALK]
    found = loaded.apply_chat_template(given, return_dict=True, return_assistant_tokens_mask=True)
    (encoded,) = TASK.encode([example(*TALK)], tokenizer, 256)
    assert found["input_ids"] == encoded.input_ids
    assert [bool(each) for each in found["assistant_masks"]] == [
        any(start <= place < end for start, end in encoded.label_spans) for place in range(len(encoded.input_ids))
    ]
    asked = loaded.apply_chat_template(given[:-1], add_generation_prompt=True, tokenize=False)
    assert asked.endswith("\nUser: Does it stop here?\nAssistant:")


def test_a_models_own_template_is_saved_and_split_turn_by_turn(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = CHATML
    assert TASK.prepare(tokenizer) == (tokenizer.convert_tokens_to_ids("<|im_end|>"),)
    assert tokenizer.chat_template == CHATML
    (encoded,) = TASK.encode([example(*TALK)], tokenizer, 256)
    assert learned(tokenizer, encoded) == ["Is it not?<|im_end|>", "At eight.<|im_end|>"]


def test_an_end_that_a_template_does_not_mark_is_learned_too(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = (
        "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
        "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] }}{% endgeneration %}"
        "{% else %}{{ message['content'] }}{% endif %}<|im_end|>\n{% endfor %}"
    )
    encoded = conversation(tokenizer, turns(*TALK), "here")
    assert learned(tokenizer, encoded) == ["Is it not?<|im_end|>", "At eight.<|im_end|>"]


def test_templates_that_cannot_be_learned_from_are_reported(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}\n{% endfor %}"
    with pytest.raises(ModelError, match="with no token at which the model could stop"):
        end_token(tokenizer)
    tokenizer.chat_template = "{{ messages[-1]['content'] }}" + END
    with pytest.raises(ModelError, match="does not show which tokens are the assistant's"):
        conversation(tokenizer, turns(*TALK), "here")
    tokenizer.chat_template = "{{ raise_exception('Only one turn, please.') }}"
    with pytest.raises(DataError, match=r"talk.jsonl:7: the model's chat template refuses .*: Only one turn, please\."):
        TASK.encode([example(*TALK)], tokenizer, 64)
    tokenizer.chat_template = None
    with pytest.raises(ModelError, match="has no chat template"):
        prompt(tokenizer, turns(*TALK[:2]), "here")
    tokenizer.eos_token = None
    with pytest.raises(ModelError, match="has no end of text"):
        give_template(tokenizer)


@pytest.mark.parametrize(
    "text", ["天气很好。👍🏽", "e\u0301te\u0301", "two  spaces", "a\nb", "Assistant:", "\u200f", ": ?"]
)
def test_any_text_survives(tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    (encoded,) = TASK.encode([example(("user", text), ("assistant", text))], tokenizer, 256)
    assert tokenizer.decode(encoded.input_ids) == f"User: {text}\nAssistant: {text}{END}"
    assert learned(tokenizer, encoded) == [f" {text}{END}"]
    asked = TASK.prompt_tokens(example(("user", text), ("assistant", text)), tokenizer, 256)
    assert encoded.input_ids[: len(asked)] == asked


def many(exchanges: int, *first: tuple[str, str]) -> Example:
    said = [
        turn
        for number in range(exchanges)
        for turn in (("user", f"Question {number}, and nobody listening?"), ("assistant", f"Answer {number} it is."))
    ]
    return example(*first, *said)


@pytest.mark.parametrize("system", [(), (("system", "Be kind."),)], ids=["plain", "with a system turn"])
@pytest.mark.parametrize("limit", [64, 100, 128, 200])
def test_every_turn_of_a_long_conversation_is_learned_once(
    tokenizer: PreTrainedTokenizerBase, system: Any, limit: int
) -> None:
    long = many(9, *system)
    pieces = TASK.encode([long], tokenizer, limit)
    assert len(pieces) > 1
    assert all(len(piece.input_ids) <= limit for piece in pieces)
    texts = [tokenizer.decode(piece.input_ids) for piece in pieces]
    assert all(text.startswith("System: Be kind.\nUser: Question" if system else "User: Question") for text in texts)
    assert all(text.endswith(f" it is.{END}") for text in texts)
    found = [text for piece in pieces for text in learned(tokenizer, piece)]
    assert found == [f" Answer {number} it is.{END}" for number in range(9)]
    assert [piece.truncated > 0 for piece in pieces] == ["Question 0" not in text for text in texts]
    assert pieces[0].truncated == 0


def test_a_piece_has_the_turns_before_what_it_learns_in_front(tokenizer: PreTrainedTokenizerBase) -> None:
    pieces = TASK.encode([many(9)], tokenizer, 200)
    for piece in pieces[1:]:
        (start, _), text = piece.label_spans[0], tokenizer.decode(piece.input_ids)
        assert text.count("Answer") > len(piece.label_spans)
        assert start > len(piece.input_ids) // 4


def test_of_an_exchange_that_is_too_long_the_users_turn_gives_way(tokenizer: PreTrainedTokenizerBase) -> None:
    long = example(("system", "Be kind."), ("user", "It rained all day. " * 30), ("assistant", "Sun."))
    (piece,) = TASK.encode([long], tokenizer, 48)
    text = tokenizer.decode(piece.input_ids)
    assert len(piece.input_ids) <= 48
    assert text.startswith("System: Be kind.\nUser: It rained all day.")
    assert text.endswith(f"\nAssistant: Sun.{END}")
    assert learned(tokenizer, piece) == [f" Sun.{END}"]
    assert piece.truncated > 100


def test_an_answer_without_room_is_cut_and_counted_and_has_no_end(tokenizer: PreTrainedTokenizerBase) -> None:
    (piece,) = TASK.encode([example(("user", "Well?"), ("assistant", "Rain fell, no end of it. " * 20))], tokenizer, 40)
    (text,) = learned(tokenizer, piece)
    assert text.startswith(" Rain fell, no end")
    assert END not in text
    assert len(piece.input_ids) == 40
    assert piece.truncated > 100


def test_a_system_turn_that_leaves_no_room_is_an_error_that_names_the_row(tokenizer: PreTrainedTokenizerBase) -> None:
    full = example(("system", "Never speak of the rain. " * 10), ("user", "Well?"), ("assistant", "Sun."))
    with pytest.raises(DataError, match=r"^talk.jsonl:7: before its last turn .* takes \d+ tokens, and .* for 32"):
        TASK.encode([full], tokenizer, 32)
    with pytest.raises(DataError, match=r"^talk.jsonl:7: before its last turn .* takes \d+ tokens, and .* for 32"):
        TASK.prompt_tokens(full, tokenizer, 32)


def test_the_oldest_turns_of_a_history_give_way(tokenizer: PreTrainedTokenizerBase) -> None:
    said = turns(("system", "Be kind."), ("assistant", "Good day!"), *TALK[1:], ("user", "Thanks."))
    whole = history(tokenizer, said, 256, "here")
    assert whole.forgotten == 0
    without_greeting = history(tokenizer, said, len(whole.input_ids) - 1, "here")
    assert without_greeting.forgotten == 1
    least = history(tokenizer, said, 1, "here")
    assert least.forgotten == 5
    assert tokenizer.decode(least.input_ids) == "System: Be kind.\nUser: Thanks.\nAssistant:"
    alone = history(tokenizer, said[-1:], 1, "here")
    assert (tokenizer.decode(alone.input_ids), alone.forgotten) == ("User: Thanks.\nAssistant:", 0)


def test_a_long_question_is_cut_at_its_end(tokenizer: PreTrainedTokenizerBase) -> None:
    asked = TASK.prompt_tokens(many(3, ("system", "Be kind.")), tokenizer, 32)
    assert len(asked) <= 32
    text = tokenizer.decode(asked)
    assert text.startswith("System: Be kind.\nUser: Q")
    assert text.endswith("\nAssistant:")


def test_what_a_user_says_last_is_left_out_and_the_last_answer_is_the_target() -> None:
    found = example(*TALK, ("user", "Thanks."))
    assert found.target == "At eight."
    assert found.references == ("At eight.",)
    assert [turn["content"] for turn in TASK.record(found)["messages"]] == [text for _, text in TALK[:-1]]
    assert TASK.shown(found) == {"user": "Does it stop here?"}


def test_an_assistant_may_begin(tokenizer: PreTrainedTokenizerBase) -> None:
    (encoded,) = TASK.encode([example(("assistant", "Good day!"), *TALK[1:])], tokenizer, 256)
    assert learned(tokenizer, encoded) == [f" Good day!{END}", f" Is it not?{END}", f" At eight.{END}"]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ([("user", "Hi!")], "talk.jsonl:7: there is no turn of the assistant's"),
        ([("assistant", "Hi!")], "talk.jsonl:7: the assistant answers no turn of the user's"),
        ([("assistant", "Hi!"), ("user", "Hello.")], "talk.jsonl:7: the assistant answers no turn of the user's"),
    ],
)
def test_a_conversation_without_an_answer_is_reported(said: Any, told: str) -> None:
    with pytest.raises(DataError, match=told):
        example(*said)


def test_empty_turns_end_conversations_on_request() -> None:
    lenient = TASK.configured(TASK.Options(empty_turns="end"))
    row = Row({"messages": [{"role": role, "content": text} for role, text in (*TALK[:4], ("assistant", ""))]}, "r:1")
    assert lenient.example(row, {"messages": "messages"}).target == "Is it not?"
    with pytest.raises(DataError, match=r"r:1: turn 5 \(assistant\) is empty"):
        TASK.example(row, {"messages": "messages"})
    assert TASK.restored(lenient.state()).empty_turns == "end"


def test_rows_of_another_task_are_reported() -> None:
    with pytest.raises(DataError, match="there is no column 'messages'; the columns are text, label") as raised:
        TASK.fields(["text", "label"], {}, "reviews.csv")
    assert "--column messages=NAME" in raised.value.hint
    with pytest.raises(UsageError, match="has no field 'text'"):
        TASK.fields(["text", "label"], {"text": "text"}, "reviews.csv")


def test_a_single_text_is_a_users_turn_and_an_answer_is_not_looked_at() -> None:
    columns = TASK.input_fields(["messages"], {}, "here")

    def waiting(value: Any) -> Any:
        return TASK.record(TASK.example(Row({"messages": value}, "here:1"), columns))["messages"]

    assert waiting(" What [1, 2] is? ") == [{"role": "user", "content": "What [1, 2] is?"}]
    assert waiting("[1, 2]") == [{"role": "user", "content": "[1, 2]"}]
    talk = [{"role": role, "content": content} for role, content in TALK]
    assert waiting(talk) == talk[:-1]
    assert waiting(json.dumps(talk[:-1])) == talk[:-1]
    with pytest.raises(DataError, match="here:1: there is no turn of the user's to answer"):
        waiting(talk[:1])
    with pytest.raises(DataError, match="here:1: turns 1 and 2 are both the user's"):
        waiting(json.dumps([talk[1], talk[1]]))


def test_a_zero_shot_model_reads_lines_of_text() -> None:
    talk = example(*TALK)
    asked = TASK.requests(talk, "Before.\n\n")
    first = "Before.\n\nSystem: Be kind.\nUser: What a lovely train!\nAssistant:"
    second = f"{first} Is it not?\nUser: Does it stop here?\nAssistant:"
    assert asked == [
        Generation(second, ("\n",), 64),
        Continuation(first, " Is it not?"),
        Continuation(second, " At eight."),
    ]
    assert TASK.fewshot_example(talk).endswith("User: Does it stop here?\nAssistant: At eight.")
    answer = TASK.prediction(talk, [" At eight.", LogLikelihood(-4.0, True, 3), LogLikelihood(-2.0, False, 5)])
    assert answer == " At eight."
    assert answer.log_likelihood == LogLikelihood(-6.0, False, 8)
    found = TASK.score(talk, answer)
    assert found["perplexity"] == Statistic(0.75, 8)
    assert found["rougeL"].value == 1.0
    assert set(TASK.score(talk, TASK.prediction(talk, ["At nine."]))) == set(TASK.metrics)
    assert set(TASK.score(talk, "At nine.")) == set(TASK.metrics)


def test_the_most_frequent_answer_is_what_costs_nothing() -> None:
    assert TASK.baselines(example(*TALK)) == {}
    fitted = TASK.fit_baselines([example(*TALK), example(*TALK[:3]), example(*TALK)])
    assert fitted.baselines(example(*TALK[:3])) == {"most_frequent": "At eight."}
    assert TASK.restored(fitted.state()).baselines(example(*TALK)) == {"most_frequent": "At eight."}
    assert TASK.baselines(example(*TALK)) == {}


LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


@pytest.mark.parametrize(
    ("template", "told"),
    [
        (LOOP, "takes longer than 0.2 seconds"),
        ("{% generation %}" + LOOP + "{% endgeneration %}", "takes longer than 0.2 seconds"),
        ("{{ 10 ** (10 ** 9) }}", "a power may have no exponent"),
        ("{{ 'a' * 99999999999 }}", "is larger than 100,000"),
        ("{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}", "RecursionError"),
        ("{{ 1 / 0 }}", "ZeroDivisionError: division by zero"),
        ("{% for", "TemplateSyntaxError"),
    ],
)
def test_a_template_that_computes_for_ever_or_fails_is_the_models_fault(
    tokenizer: PreTrainedTokenizerBase, template: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SECONDS", 0.2)
    tokenizer.chat_template = template
    with pytest.raises(ModelError) as raised:
        conversation(tokenizer, turns(*TALK), "talk.jsonl:7")
    assert raised.value.message.startswith("The model's chat template cannot be used: ")
    assert told in raised.value.message


def test_a_template_may_refuse_a_conversation(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.chat_template = "{{ raise_exception('no system, please') }}"
    with pytest.raises(DataError, match=r"talk\.jsonl:7: .* refuses this conversation: no system, please"):
        conversation(tokenizer, turns(*TALK), "talk.jsonl:7")
