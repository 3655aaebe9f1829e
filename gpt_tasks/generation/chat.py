"""A conversation with a model on this machine: what part of it the model still reads, and what it answers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from gpt_tasks.errors import DataError, ModelError, UsageError
from gpt_tasks.generation.conversation import Conversation, content_of
from gpt_tasks.generation.decoding import Decoding
from gpt_tasks.generation.generator import Generator, open_writer
from gpt_tasks.shown import quoted
from gpt_tasks.tasks.chat_template import end_token
from gpt_tasks.tasks.chat_window import history
from gpt_tasks.tasks.turns import ASSISTANT, USER, Turn


@dataclass
class Chat(Conversation):
    """A conversation with a model on this machine, whose answers are shown as they come."""

    writer: Generator
    decoding: Decoding
    system: str | None = None
    turns: list[Turn] = field(init=False)
    forgotten: int = field(init=False, default=0)
    _answers: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.reset()

    def answer(
        self,
        text: str,
        *,
        on_text: Callable[[str], None] | None = None,
        on_forgotten: Callable[[int], None] | None = None,
    ) -> str:
        """Say something, and return what the model answers.

        `on_text` gets the answer as it comes. `on_forgotten` gets, before the answer begins, how many turns in all no
        longer fit, whenever the number has grown. Of an answer that is interrupted (KeyboardInterrupt) the part so far
        is saved, if any. Raises DataError for a text without any content, and for one that is too long alone; then the
        conversation is unchanged.
        """
        said = [*self.turns, Turn(USER, content_of(text))]
        room = self._room()
        found = history(self.writer.tokenizer, said, room, "The conversation")
        if len(found.input_ids) > room:
            raise DataError(
                f"This takes {len(found.input_ids):,} tokens with the text that must surround it, and there is room "
                f"for {room:,}",
                "Say it in fewer words, or leave more room: --max-new-tokens.",
            )
        if found.forgotten > self.forgotten and on_forgotten is not None:
            on_forgotten(found.forgotten)
        self.forgotten = found.forgotten
        came: list[str] = []

        def take(piece: str) -> None:
            # A template may leave the space before an answer to the answer.
            shown = piece if "".join(came).strip() else piece.lstrip()
            came.append(piece)
            if on_text is not None and shown:
                on_text(shown)

        # Each answer draws its own tokens, and the whole conversation follows from the seed.
        decoding = self.decoding.model_copy(update={"seed": (self.decoding.seed + self._answers) % 2**32})
        self._answers += 1
        try:
            self.writer.write_on([found.input_ids], decoding, on_text=take)
        finally:
            answer = "".join(came).strip()
            if answer:
                self.turns = [*said, Turn(ASSISTANT, answer)]
        return answer

    def _room(self) -> int:
        """Return how many tokens there are for what was said, with room for an answer after it."""
        longest = self.decoding.longest(self.writer.window)
        if longest is None:
            return 2**31
        room = longest - self.decoding.room(0, None)
        if room < 1:
            raise UsageError(
                f"Answers of {longest - room} tokens leave no room in the model's {longest}", "Lower --max-new-tokens."
            )
        return room


def open_chat(
    model: str,
    decoding: Decoding,
    *,
    system: str | None = None,
    device: str = "auto",
    precision: str = "auto",
    trust_remote_code: bool = False,
    verify: bool = True,
) -> Chat:
    """Load what a user names (a preset, a folder, a run or a hub id) to talk with.

    Without `verify` the files of a run are taken as they are. Raises UsageError, ModelError (also for a model whose
    tokenizer has no chat template) or MachineError.
    """
    how: dict[str, Any] = {"trust_remote_code": trust_remote_code, "verify": verify}
    writer = open_writer(model, device=device, precision=precision, **how)
    if not writer.tokenizer.chat_template:
        raise ModelError(
            f"{model}: the tokenizer has no chat template, so the format of its turns is unknown",
            f"Fine-tune it on conversations (gpt-tasks finetune dialogue --backbone {quoted(model)}), or use generate.",
        )
    # For many models that are not chat models yet, only the template says how a turn ends; for some, not even that.
    with suppress(ModelError):
        writer.end_also_at([end_token(writer.tokenizer)])
    chat = Chat(writer, decoding, system)
    # Unusable settings are reported at once, and not after the first turn.
    room = chat._room()
    named = f"--system {system!r}" if system else model
    least = len(history(writer.tokenizer, [*chat.turns, Turn(USER, "?")], room, named).input_ids)
    if system and least > room:
        raise UsageError(
            f"--system takes {least:,} tokens with the shortest question, and there is room for {room:,}",
            "Shorten it, or leave more room: --max-new-tokens.",
        )
    return chat
