"""Dialogue: what does the assistant say next?"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from gpt_tasks.errors import DataError
from gpt_tasks.tasks.base import TaskOptions
from gpt_tasks.tasks.chat_template import end_token, give_template
from gpt_tasks.tasks.chat_window import asked, pieces
from gpt_tasks.tasks.measures import Part
from gpt_tasks.tasks.text_measures import TextMeasure, bleu, chrf, rouge
from gpt_tasks.tasks.text_to_text import TextToTextTask
from gpt_tasks.tasks.turns import (
    ASSISTANT,
    USER,
    Turn,
    as_text,
    from_text,
    holds_turns,
    messages,
    read_turns,
    transcript,
)
from gpt_tasks.types import Continuation, Encoded, Example, Generation, LogLikelihood, Request, Response, Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MESSAGES, HISTORY = "messages", "history"
"""The field of a conversation that holds the right answer, and of one whose last turn waits for an answer."""

PERPLEXITY = "perplexity"
MOST_COUNTED = 50_000


class DialogueOptions(TaskOptions):
    """The options of dialogue."""

    max_tokens: int | None = Field(None, ge=1, description="The most tokens of an answer.")
    empty_turns: Literal["refuse", "end"] | None = Field(
        None, description="Refuse a turn without a text, or end the conversation before it."
    )
    stop: tuple[str, ...] | None = Field(None, description="Texts at which an untrained model's answer ends.")
    introduction: str | None = Field(None, description="A text that an untrained model reads before everything else.")

    @field_validator("stop")
    @classmethod
    def _are_texts(cls, stop: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if stop and not all(stop):
            raise PydanticCustomError("stop", "a text to stop at is empty")
        return stop


class DialogueTask(TextToTextTask):
    """The answers of an assistant to a user, turn by turn.

    Every turn of the assistant's is learned, and none of the others'. What is written and compared is the answer to the
    last turn of the user's that has one; what a user says after it is left out. An example's one input is the
    conversation as JSON, the right answer among it where there is one.
    """

    prompt: str = "{messages}"
    answer: str = ""
    introduction: str = ""
    max_tokens: int = 64
    empty_turns: Literal["refuse", "end"] = "refuse"
    metrics: ClassVar[Sequence[str]] = ("bleu", "rougeL", "chrf")
    command: ClassVar[Literal["predict", "generate", "chat"]] = "chat"
    most_frequent: str = ""
    Options: ClassVar[type[TaskOptions]] = DialogueOptions

    @property
    def measures(self) -> Sequence[TextMeasure]:
        """BLEU with the words of languages that part them by spaces, ROUGE-L, and chrF, which knows no words.

        The perplexity is that of a model as it is; a trained one's is also of the ends of turns.
        """
        return TextMeasure(PERPLEXITY, "lower", "exponential"), bleu("en"), rouge("rougeL"), chrf()

    @property
    def asked_metrics(self) -> Sequence[str]:
        """The metrics of a model as it is: the perplexity of the assistant's turns, too."""
        return PERPLEXITY, *self.metrics

    def fields(self, available: Sequence[str], mapping: Mapping[str, str], where: str) -> dict[str, str]:
        """Choose the column of the turns."""
        odd = [field for field in mapping if field != MESSAGES]
        if odd:
            raise DataError(
                f"--column {odd[0]}={mapping[odd[0]]}: task '{self.name}' has no field '{odd[0]}'",
                f"Its one field is {MESSAGES}, which holds the turns of a conversation.",
            )
        column = mapping.get(MESSAGES, self.columns.get(MESSAGES, MESSAGES))
        if column not in available:
            raise DataError(
                f"{where}: there is no column '{column}'; the columns are {', '.join(available)}",
                f"Say which one holds the turns of a conversation: --column {MESSAGES}=NAME",
            )
        return {MESSAGES: column}

    def asked_fields(self, available: Sequence[str], mapping: Mapping[str, str], where: str) -> dict[str, str]:
        """Choose the column of turns that wait for an answer."""
        return {HISTORY: self.fields(available, mapping, where)[MESSAGES]}

    def example(self, row: Row, columns: Mapping[str, str], extra: Sequence[str] = ()) -> Example:
        """Read one row; its target is the last answer.

        Where `columns` are those of `asked_fields`, it has none, an answer to the last turn of the user's is not looked
        at, and a text by itself is a user's turn.
        """
        kept = {column: str(row.values.get(column, "")) for column in extra}
        lenient = self.empty_turns == "end"
        if HISTORY in columns:
            waiting = _waiting(row, columns[HISTORY], lenient)
            return Example({MESSAGES: as_text(waiting)}, None, row.where, kept)
        turns = _answered(read_turns(row, columns[MESSAGES], end_at_empty=lenient), row.where)
        answer = turns[-1].content
        return Example({MESSAGES: as_text(turns)}, answer, row.where, kept, references=(answer,))

    def settled(self, train: Iterable[Example]) -> Self:
        """Return this task with the most frequent last answer of the training data, to compare with."""
        task = copy.copy(self)
        counts = Counter(str(example.target) for example in islice(train, MOST_COUNTED))
        task.most_frequent = max(counts, key=counts.__getitem__, default="")
        return task

    def state(self) -> dict[str, Any]:
        """All that its options and the training data have settled."""
        return {**super().state(), "most_frequent": self.most_frequent}

    def prepare(self, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
        """Give the tokenizer a chat template where it has none; the assistant's turns end as that says."""
        give_template(tokenizer)
        return (end_token(tokenizer),)

    def naive(self, example: Example) -> Mapping[str, str]:
        """The most frequent last answer of the training data, whatever was asked."""
        return {"most_frequent": self.most_frequent} if self.most_frequent else {}

    def record(self, example: Example) -> Mapping[str, Any]:
        """Return the turns before the answer."""
        return {MESSAGES: messages(_before_answer(example))}

    def shown(self, example: Example) -> Mapping[str, str]:
        """Return the turn that is answered."""
        return {USER: _before_answer(example)[-1].content}

    def prompt_tokens(self, example: Example, tokenizer: PreTrainedTokenizerBase, room: int) -> list[int]:
        """Return the turns before the answer, in at most `room` tokens: the oldest ones give way."""
        return asked(tokenizer, _before_answer(example), room, example.where)

    def encode(self, examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[Encoded]:
        """Encode conversations, of which every turn of the assistant's and its end are learned, each of them once.

        One that is too long becomes several encodings, in which the oldest turns give way and the system's does not.
        """
        return [
            piece
            for example in examples
            for piece in pieces(tokenizer, from_text(example.inputs[MESSAGES]), max_length, example.where)
        ]

    def ask(self, example: Example, before: str) -> list[Request]:
        """Ask a model as it is, to which turns are lines of text, for an answer and for the likelihood of all turns."""

        def context(turns: Sequence[Turn]) -> str:
            return before + transcript([*turns, Turn(ASSISTANT, "")]).rstrip()

        turns = from_text(example.inputs[MESSAGES])
        said = [
            Continuation(context(turns[:place]), f" {turn.content}")
            for place, turn in enumerate(turns)
            if turn.role == ASSISTANT
        ]
        return [Generation(context(_before_answer(example)), self.stop, self.max_tokens), *said]

    def measure(self, example: Example, answers: Sequence[Response]) -> Mapping[str, Part]:
        """Compare the answer with the right one; where the likelihoods of turns are given, bring their nats too."""
        written, *said = answers
        found = {measure.name: measure.part(str(written).strip(), example.references) for measure in self.measures[1:]}
        known = [each for each in said if isinstance(each, LogLikelihood)]
        tokens = sum(each.tokens for each in known)
        if tokens:
            found[PERPLEXITY] = Part(-sum(each.value for each in known) / tokens, tokens)
        return found

    def shot(self, example: Example) -> str:
        """Return the conversation as lines of text."""
        return transcript(from_text(example.inputs[MESSAGES]))


def _before_answer(example: Example) -> tuple[Turn, ...]:
    turns = from_text(example.inputs[MESSAGES])
    return turns[:-1] if turns[-1].role == ASSISTANT else turns


def _answered(turns: tuple[Turn, ...], where: str) -> tuple[Turn, ...]:
    """Return turns up to the last answer. Raises DataError where there is none."""
    places = [place for place, turn in enumerate(turns) if turn.role == ASSISTANT]
    if not places:
        raise DataError(f"{where}: there is no turn of the {ASSISTANT}'s", "Leave the row out: nothing is learned.")
    kept = turns[: places[-1] + 1]
    if not any(turn.role == USER for turn in kept):
        raise DataError(f"{where}: the {ASSISTANT} answers no turn of the {USER}'s", "Leave the row out.")
    return kept


def _waiting(row: Row, column: str, end_at_empty: bool) -> tuple[Turn, ...]:
    """Return turns up to the last one of the user's. Raises DataError where there is none."""
    value = row.values.get(column)
    if isinstance(value, str) and value.strip() and not holds_turns(value):
        return (Turn(USER, value.strip()),)
    turns = read_turns(row, column, end_at_empty=end_at_empty)
    while turns and turns[-1].role != USER:
        turns = turns[:-1]
    if not turns:
        raise DataError(f"{row.where}: there is no turn of the {USER}'s to answer", "Leave the row out.")
    return turns
