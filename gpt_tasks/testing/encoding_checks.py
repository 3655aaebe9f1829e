"""Checks of what a task and its learner make of examples: requests, tokens, labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gpt_tasks.testing.checks import SkipError, require
from gpt_tasks.testing.fixture import TaskFixture, needs_training
from gpt_tasks.testing.tokens import are_alike, learned, learned_stretches, shown_to_model
from gpt_tasks.types import Example, Features

if TYPE_CHECKING:
    from gpt_tasks.learners.base import Learner


def target_does_not_leak(fixture: TaskFixture) -> None:
    """Change the target of rows, and take it away; what the model is shown must stay."""
    task, retarget = fixture.fitted, fixture.fixtures.retarget
    if retarget is None:
        raise SkipError(
            "The task's fixtures() give no `retarget`: what the model is shown holds the target, or there is none."
        )
    inputs = task.input_fields(list(fixture.rows[0].values), {}, "the rows")
    asked = False
    for number, row in enumerate(fixture.rows):
        other = retarget(row, fixture.rows[(number + 1) % len(fixture.rows)], fixture.columns)
        if other is None:
            continue
        asked = True
        before = _shown(fixture, fixture.example(row))
        require(
            before == _shown(fixture, fixture.example(other)),
            f"{row.where}: with another target the model is shown something else. Let neither `prompt`, nor "
            "example(), encode() or requests(), read the target.",
        )
        require(
            before == _shown(fixture, task.example(row, inputs)),
            f"{row.where}: without its target, as in a prediction, the row reads otherwise. example() must make "
            "the same inputs of it.",
        )
    if not asked:
        raise SkipError("The task's fixtures() give no row another target.")


def encoding_is_deterministic(fixture: TaskFixture) -> None:
    """Read, prompt and encode the same rows again."""
    task, learner = fixture.fitted, fixture.learner
    first, second = ([fixture.example(row) for row in fixture.rows] for _ in range(2))
    require(first == second, "Reading a row twice gives two examples. example() must not draw or count anything.")
    if not task.can_be_asked and learner is None:
        raise SkipError("The task has no requests and encodes nothing.")
    for example in first:
        shown = [_shown(fixture, example) for _ in range(2)]
        require(shown[0] == shown[1], f"{example.where}: two calls of requests() differ. requests() must not draw.")
    if learner is not None:
        require(
            are_alike(*(learner.encode(fixture.examples) for _ in range(2))),
            "Encoding examples twice gives different features. encode() must not draw.",
        )


def prompt_is_not_learned(fixture: TaskFixture) -> None:
    """Compare the tokens that are to be learned with the right answers."""
    learner = fixture.learner
    needs_training(fixture.task)
    assert learner is not None
    texts = fixture.fixtures.learned_texts
    if not learner.labels_are_tokens:
        raise SkipError("No token is learned: the labels are something else.")
    if texts is None:
        raise SkipError("What is learned is the text itself: the fixtures() give no `learned_texts`.")
    tokenizer: Any = learner.backbone.tokenizer
    ends = {tokenizer.eos_token_id, *getattr(fixture.fitted, "prepare", lambda _: ())(tokenizer)}
    for example in fixture.examples:
        pieces = learner.encode([example])
        stretches = [stretch for piece in pieces for stretch in learned_stretches(piece)]
        found = [str(tokenizer.decode(ids, skip_special_tokens=True)).strip() for ids in stretches]
        right = [each.strip() for each in texts(example)]
        require(
            found == right,
            f"{example.where}: {found!r} is to be learned, and {right!r} is right. Labels must be the answer's tokens "
            "and the end of text, and none of the prompt's.",
        )
        require(
            all(ends & set(ids) for ids in stretches),
            f"{example.where}: no end is to be learned behind the answer, so that the model would never stop. Let "
            "encode() end an answer with the end of text, or with a token that prepare() returns.",
        )
        prompt, last = learner.prompt_tokens(example), pieces[-1]
        ids = list(last.sequences[0])
        start = len(ids) - len(stretches[-1])
        require(
            prompt is None or ids[:start] == prompt,
            f"{example.where}: the prompt that is trained is not the one that is answered. encode() and "
            "prompt_tokens() must make the same tokens of it.",
        )


def target_survives_truncation(fixture: TaskFixture) -> None:
    """Encode texts that are too long; what must not be cut must still be there."""
    needs_training(fixture.task)
    lengthen = fixture.fixtures.lengthen
    if lengthen is None:
        raise SkipError("The task's fixtures() make no text longer: they give no `lengthen`.")
    whole_learner = fixture.learner
    assert whole_learner is not None
    for example in fixture.examples:
        long = lengthen(example)
        whole = whole_learner.encode([long])
        longest = max(len(ids) for each in whole for ids in each.sequences)
        room = max(16, int(0.6 * longest))
        if fixture.fixtures.room is not None:
            room = fixture.fixtures.room(long, whole_learner.backbone.tokenizer)
        learner = fixture.new_learner(room)
        pieces = learner.encode([long])
        _fits(pieces, room, example)
        _target_is_there(learner, whole, pieces, room, example)
        _prompt_is_there(fixture, learner, pieces, room, example)


def _target_is_there(
    learner: Learner[Any], whole: Sequence[Features], pieces: Sequence[Features], room: int, example: Example
) -> None:
    if learner.labels_are_tokens:
        require(
            learned(pieces) == learned(whole),
            f"{example.where}: in {room} tokens another answer is to be learned than in a longer window. Where a text "
            "is too long, encode() must cut the prompt's texts, and keep every token to be learned, each once.",
        )
    elif any(map(learner.holds_target, whole)):
        require(
            any(map(learner.holds_target, pieces)),
            f"{example.where}: in {room} tokens nothing is left to be learned. encode() must not cut the target.",
        )
    choices = {choice for each in whole for choice in each.choices}
    require(
        choices == {choice for each in pieces for choice in each.choices},
        f"{example.where}: in {room} tokens there are sequences about the choices "
        f"{sorted({choice for each in pieces for choice in each.choices})}, of {len(choices)}. encode() must return at "
        "least one for each, however long they are.",
    )


def _prompt_is_there(
    fixture: TaskFixture, learner: Learner[Any], pieces: Sequence[Features], room: int, example: Example
) -> None:
    ending = "" if fixture.fixtures.prompt_ending is None else fixture.fixtures.prompt_ending(example)
    tokenizer: Any = learner.backbone.tokenizer
    for ids in (ids for each in pieces for ids in each.sequences):
        text = str(tokenizer.decode(list(ids)))
        require(
            text.endswith(ending),
            f"{example.where}: in {room} tokens the end of the prompt, {ending!r}, is cut off: {text[-40:]!r}. "
            "encode() must cut the texts, never the prompt.",
        )


def _fits(pieces: Sequence[Features], room: int, example: Example) -> None:
    longest = max((len(ids) for each in pieces for ids in each.sequences), default=0)
    require(
        0 < longest <= room,
        f"{example.where}: encode() makes {longest} tokens of it, and may make 1 to {room}. Cut the texts.",
    )


def _shown(fixture: TaskFixture, example: Example) -> list[Any]:
    return shown_to_model(fixture.fitted, fixture.learner, example)
