"""A conversation with a model: its turns, how it is saved, and how it continues with a registered responder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpt_tasks.errors import DataError, MachineError, UsageError
from gpt_tasks.files import json_text, parse_json
from gpt_tasks.generation.decoding import NEW_TOKENS, Decoding
from gpt_tasks.tasks.turns import ASSISTANT, SYSTEM, USER, Turn, messages, read_turns
from gpt_tasks.types import Generation, Row

if TYPE_CHECKING:
    from gpt_tasks.scoring.responder import RegisteredResponder


class Conversation:
    """The turns of a conversation, the system's first where there is one.

    `forgotten` counts the oldest of them that the last answer was written without, because they no longer fit.
    """

    system: str | None
    turns: list[Turn]
    forgotten: int

    def reset(self) -> None:
        """Forget all but what the system says."""
        self.turns = [Turn(SYSTEM, self.system.strip())] if self.system else []
        self.forgotten = 0

    def answer(
        self,
        text: str,
        *,
        on_text: Callable[[str], None] | None = None,
        on_forgotten: Callable[[int], None] | None = None,
    ) -> str:
        """Say something, and return what the model answers. Raises DataError for what cannot be said."""
        raise NotImplementedError

    def save(self, file: Path) -> int:
        """Write the conversation as one more row of a file that can be trained on; return the number of its turns.

        Raises UsageError for a file of another kind, and where nothing was said; MachineError where it cannot be
        written.
        """
        if not any(turn.role == ASSISTANT for turn in self.turns):
            raise UsageError("There is nothing to save yet", "Say something first.")
        if file.suffix.lower() != ".jsonl":
            raise UsageError(f"{file}: conversations are saved as JSON Lines", "Give a name ending in .jsonl.")
        row = json_text({"messages": messages(self.turns)})
        try:
            with file.open("a+b") as lines:
                if lines.tell():
                    lines.seek(-1, 2)
                    row = row if lines.read() == b"\n" else f"\n{row}"
                lines.write(f"{row}\n".encode())
        except OSError as error:
            raise MachineError(f"{file}: {error.strerror or error}", "Give another place.") from error
        return len(self.turns)

    def load(self, file: Path) -> int:
        """Continue the last conversation of a file that `save` wrote; return the number of its turns.

        Raises UsageError for a file that is not there or holds none, DataError for a row that is no conversation.
        """
        try:
            last, place = "", 0
            with file.open(encoding="utf-8") as lines:
                for number, line in enumerate(lines, start=1):
                    last, place = (line, number) if line.strip() else (last, place)
        except (OSError, UnicodeDecodeError) as error:
            cause = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise UsageError(f"{file} cannot be read: {cause}", "Give a file that /save wrote.") from error
        if not last:
            raise UsageError(f"{file} holds no conversation", "Give a file that /save wrote.")
        where = f"{file}:{place}"
        try:
            row = dict(parse_json(last))
        except (ValueError, TypeError) as error:
            raise DataError(f"{where}: this is no conversation: {error}", "Give a file that /save wrote.") from error
        turns = read_turns(Row(row, where), "messages")
        if turns[-1].role != ASSISTANT:
            raise DataError(f"{where}: the last turn is the {turns[-1].role}'s", "End it with an answer.")
        self.system = turns[0].content if turns[0].role == SYSTEM else None
        self.turns, self.forgotten = list(turns), 0
        return len(turns)


class ResponderChat(Conversation):
    """A conversation with a registered responder, whose answers come as a whole."""

    def __init__(self, responder: RegisteredResponder, max_tokens: int, system: str | None = None) -> None:
        self.responder = responder
        self.max_tokens = max_tokens
        self.system = system
        self.reset()

    def answer(
        self,
        text: str,
        *,
        on_text: Callable[[str], None] | None = None,
        on_forgotten: Callable[[int], None] | None = None,
    ) -> str:
        """Say something, and return what the model answers; `on_text` gets it too.

        Raises DataError for a text without any content, and what the responder raises; then the conversation is
        unchanged.
        """
        said = [*self.turns, Turn(USER, content_of(text))]
        request = Generation("", (), self.max_tokens, tuple(messages(said)))
        answer = str(self.responder.answer([request]).answers[0]).strip()
        if answer:
            self.turns = [*said, Turn(ASSISTANT, answer)]
            if on_text is not None:
                on_text(answer)
        return answer


def open_responder_chat(
    model: str, decoding: Decoding, *, system: str | None = None, **settings: Any
) -> ResponderChat | None:
    """Open the responder that a model's name begins with to talk with; None for a model on this machine.

    `settings` are those that the user gave. Raises UsageError for settings of sampling, which no responder takes.
    """
    from gpt_tasks.scoring.responder import open_registered

    responder = open_registered(model, **settings)
    if responder is None:
        return None
    for name, field in Decoding.model_fields.items():
        # A temperature of 0 means the same.
        if name != "max_new_tokens" and getattr(decoding, name) not in (field.default, 0):
            raise UsageError(
                f"--{name.replace('_', '-')} is for a model on this machine: {model} gives its likeliest answer",
                "Leave it out.",
            )
    return ResponderChat(responder, decoding.max_new_tokens or NEW_TOKENS, system)


def content_of(text: str) -> str:
    """Return what is said, without white space around it. Raises DataError where there is nothing in it."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"The text holds half a character ({text[error.start]!a})", "Is it in the encoding of this terminal?"
        ) from error
    if not text.strip():
        raise DataError("There is nothing in what was said", "Say something.")
    return text.strip()
