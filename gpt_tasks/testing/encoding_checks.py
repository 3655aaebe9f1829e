"""Checks of what a task makes of examples: prompts, requests, tokens."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from gpt_tasks.tasks.base import prompt_fields
from gpt_tasks.tasks.dialogue import MESSAGES, DialogueTask
from gpt_tasks.tasks.headed import HeadTask
from gpt_tasks.tasks.language_modeling import LanguageModelingTask
from gpt_tasks.tasks.multiple_choice import MultipleChoiceTask
from gpt_tasks.tasks.span import SpanTask
from gpt_tasks.tasks.span_answers import CONTEXT, QUESTION
from gpt_tasks.tasks.text_to_text import TextToTextTask
from gpt_tasks.tasks.turns import ASSISTANT, USER, as_text, from_text
from gpt_tasks.testing.checks import SkipError, require
from gpt_tasks.testing.fixture import TaskFixture
from gpt_tasks.testing.rows import retargeted
from gpt_tasks.testing.tokens import LONG, asked_of_model, encodings, needs_training
from gpt_tasks.types import Encoded, Example

_LONGER = 8
_LEFT = 8
"""So many times longer texts are made, and so many tokens of them find room."""


def target_does_not_leak(fixture: TaskFixture) -> None:
    """Change the right answer of rows, and take it away; what the model is shown must stay."""
    task: Any = fixture.fitted
    if isinstance(task, LanguageModelingTask):
        raise SkipError("The text is what is to be foretold: it has no target beside it.")
    available = list(fixture.rows[0].values)
    asked = task.asked_fields(available, {}, "the rows")
    for number, row in enumerate(fixture.rows):
        other = retargeted(task, row, _of_another_target(fixture, number), fixture.columns)
        if other is None:
            raise SkipError("The task reads no right answer.")
        before = asked_of_model(task, task.example(row, fixture.columns), fixture.tokenizer)
        require(
            before == asked_of_model(task, task.example(other, fixture.columns), fixture.tokenizer),
            f"{row.where}: with another right answer the model is shown something else. Let neither `prompt`, nor "
            "example(), encode() or ask(), read the target.",
        )
        require(
            before == asked_of_model(task, task.example(row, asked), fixture.tokenizer),
            f"{row.where}: without its right answer, as in a prediction, the row reads otherwise. example() must make "
            "the same inputs of it.",
        )


def encoding_is_deterministic(fixture: TaskFixture) -> None:
    """Read, ask and encode the same rows again."""
    task, tokenizer = fixture.fitted, fixture.tokenizer
    first, second = ([task.example(row, fixture.columns) for row in fixture.rows] for _ in range(2))
    require(first == second, "Reading a row twice gives two examples. example() must not draw or count anything.")
    for example in first:
        shown = [asked_of_model(task, example, tokenizer) for _ in range(2)]
        require(shown[0] == shown[1], f"{example.where}: asking twice asks two things. ask() must not draw anything.")
    if task.trains:
        encoded = [encodings(task, fixture.examples, tokenizer) for _ in range(2)]
        require(encoded[0] == encoded[1], "Encoding examples twice gives different tokens. encode() must not draw.")


def prompt_is_not_learned(fixture: TaskFixture) -> None:
    """Compare the tokens that are to be learned with the right answers."""
    task, tokenizer = fixture.fitted, fixture.tokenizer
    needs_training(task)
    if not isinstance(task, TextToTextTask):
        raise SkipError("What is learned is the text itself." if task.head is None else "A head learns no token.")
    ends = {tokenizer.eos_token_id, *task.prepare(tokenizer)}
    for example in fixture.examples:
        pieces = task.encode([example], tokenizer, LONG)
        stretches = [piece.input_ids[start:end] for piece in pieces for start, end in piece.learned]
        learned = [str(tokenizer.decode(ids, skip_special_tokens=True)).strip() for ids in stretches]
        require(
            learned == [each.strip() for each in _answers(task, example)],
            f"{example.where}: {learned!r} is to be learned, and {_answers(task, example)!r} is right. `learned` must "
            "hold the answer's tokens and the end of text, and none of the prompt's.",
        )
        require(
            all(ends & set(ids) for ids in stretches),
            f"{example.where}: no end is to be learned behind the answer, so that the model would never stop. Let "
            "encode() end an answer with the end of text, or with a token that prepare() returns.",
        )
        last = pieces[-1]
        require(
            last.input_ids[: last.learned[-1][0]] == task.prompt_tokens(example, tokenizer, LONG),
            f"{example.where}: the prompt that is trained is not the one that is answered. encode() and "
            "prompt_tokens() must make the same tokens of it.",
        )


def target_survives_truncation(fixture: TaskFixture) -> None:
    """Encode texts that are too long; what must not be cut must be there still."""
    task = fixture.fitted
    needs_training(task)
    if isinstance(task, TextToTextTask | LanguageModelingTask):
        _learned_survives(fixture, task)
    elif isinstance(task, SpanTask):
        _answers_survive(fixture, task)
    elif isinstance(task, HeadTask):
        _prompt_survives(fixture, task)


def _learned_survives(fixture: TaskFixture, task: TextToTextTask | LanguageModelingTask) -> None:
    for example in fixture.examples:
        long = _longer(task, example)
        whole = task.encode([long], fixture.tokenizer, LONG)
        learned, room = _learned(whole), _room(fixture, task, long, whole)
        pieces = task.encode([long], fixture.tokenizer, room)
        _fits(pieces, room, example)
        require(
            _learned(pieces) == learned,
            f"{example.where}: in {room} tokens another answer is to be learned than in {LONG:,}. Where a text is too "
            "long, encode() must cut what is asked, and keep every token to be learned, each once.",
        )


def _room(
    fixture: TaskFixture, task: TextToTextTask | LanguageModelingTask, example: Example, whole: Sequence[Encoded]
) -> int:
    """Return a number of tokens in which an example does not fit, and its answers do."""
    if isinstance(task, LanguageModelingTask):
        return 16
    longest = max(end - start for piece in whole for start, end in piece.learned)
    if isinstance(task, DialogueTask):
        return max(longest + 64, int(0.6 * len(whole[0].input_ids)))
    empty = task.prompt.format_map(dict.fromkeys(prompt_fields(task.prompt), ""))
    return len(fixture.tokenizer(empty)["input_ids"]) + longest + _LEFT


def _answers_survive(fixture: TaskFixture, task: SpanTask) -> None:
    from gpt_tasks.evaluation.spanned import windows_of
    from gpt_tasks.training.spanning import answer_places

    examples, places = answer_places(task, [_longer(task, example) for example in fixture.examples], None)
    asked = [len(fixture.tokenizer(example.inputs[QUESTION])["input_ids"]) for example in examples]
    room = max(asked) + 2 * task.stride + _LEFT
    windows = windows_of(task, examples, fixture.tokenizer, room, places)
    for number, (example, place) in enumerate(zip(examples, places, strict=True)):
        held = windows.hold_answers[windows.examples == number].any()
        require(
            bool(held) or place is None,
            f"{example.where}: no window of {room} tokens holds the answer. Raise `stride`, which is what windows have "
            "in common.",
        )


def _prompt_survives(fixture: TaskFixture, task: HeadTask) -> None:
    for example in fixture.examples:
        long = _longer(task, example)
        (whole,) = task.encode([long], fixture.tokenizer, LONG)
        room = max(16, int(0.6 * max(map(len, whole.sequences))))
        (encoded,) = task.encode([long], fixture.tokenizer, room)
        _fits([encoded], room, example)
        if isinstance(task, MultipleChoiceTask):
            require(
                sorted({*encoded.choices}) == [*range(len(example.choices))],
                f"{example.where}: the sequences are about the choices {encoded.choices}, of {len(example.choices)}. "
                "encode() must return at least one for each, however long they are.",
            )
            continue
        ending = _ending(task, example)
        for ids in encoded.sequences:
            text = str(fixture.tokenizer.decode(ids))
            require(
                text.endswith(ending),
                f"{example.where}: in {room} tokens the end of the prompt, {ending!r}, is cut off: {text[-40:]!r}. "
                "encode() must cut the texts, never the prompt.",
            )


def _ending(task: HeadTask, example: Example) -> str:
    """Return the prompt's own words behind its last text."""
    paired = task.pair_prompt and set(example.inputs) != set(prompt_fields(task.prompt))
    parts = list(string.Formatter().parse(str(task.pair_prompt) if paired else task.prompt))
    return parts[-1][0] if parts[-1][1] is None else ""


def _longer(task: Any, example: Example) -> Example:
    """Return an example whose texts are several times as long, the right answer as it is."""
    if isinstance(task, DialogueTask):
        turns = from_text(example.inputs[MESSAGES])
        said = [replace(turn, content=_repeated(turn.content)) if turn.role == USER else turn for turn in turns]
        return replace(example, inputs={MESSAGES: as_text(said)})
    fields = [CONTEXT] if isinstance(task, SpanTask) else list(example.inputs)
    if isinstance(task, LanguageModelingTask):
        fields = prompt_fields(task.prompt)
    return replace(
        example,
        inputs={field: _repeated(text) if field in fields else text for field, text in example.inputs.items()},
    )


def _repeated(text: str) -> str:
    return " ".join([text] * _LONGER)


def _fits(pieces: Sequence[Encoded], room: int, example: Example) -> None:
    longest = max((len(ids) for piece in pieces for ids in piece.sequences), default=0)
    require(
        0 < longest <= room,
        f"{example.where}: encode() makes {longest} tokens of it, and may make 1 to {room}. Cut the texts.",
    )


def _learned(pieces: Sequence[Encoded]) -> list[int]:
    return [token for piece in pieces for start, end in piece.learned for token in piece.input_ids[start:end]]


def _answers(task: TextToTextTask, example: Example) -> list[str]:
    """Return what is to be learned of an example: the answer, or each of the assistant's turns."""
    if isinstance(task, DialogueTask):
        return [turn.content for turn in from_text(example.inputs[MESSAGES]) if turn.role == ASSISTANT]
    return [str(example.target)]


def _of_another_target(fixture: TaskFixture, number: int) -> Any:
    """Return a row whose right answer may differ from that of the row at `number`."""
    return fixture.rows[(number + 1) % len(fixture.rows)]
