"""Dialogue: what does the assistant say next?"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from gpt_tasks.errors import DataError
from gpt_tasks.extensions import Metric
from gpt_tasks.metrics.aggregate import perplexity
from gpt_tasks.metrics.text import bleu, chrf, rouge
from gpt_tasks.tasks.chat_template import end_token, give_template
from gpt_tasks.tasks.chat_window import asked, pieces
from gpt_tasks.tasks.encoding import encode_text
from gpt_tasks.tasks.fixtures import LONGER, SENTENCES, Fixtures, with_column
from gpt_tasks.tasks.options import ASKED, READING, TaskOptions
from gpt_tasks.tasks.reading import choose_columns, extra_columns, refuse_unknown_fields, require_columns
from gpt_tasks.tasks.text_to_text import PERPLEXITY, TextToTextTask
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
from gpt_tasks.types import (
    Continuation,
    Encoded,
    Example,
    Generation,
    LogLikelihood,
    Request,
    Response,
    Row,
    TextPrediction,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MESSAGES, HISTORY = "messages", "history"
"""The field of a conversation that holds the right answer, and of one whose last turn waits for an answer."""

MOST_COUNTED = 50_000


class DialogueOptions(TaskOptions):
    """The options of dialogue."""

    max_tokens: int | None = Field(None, ge=1, description="The most tokens of an answer.")
    empty_turns: Literal["refuse", "end"] | None = Field(
        None,
        description="Refuse a turn without a text, or end the conversation before it.",
        json_schema_extra=READING,
    )
    stop: tuple[str, ...] | None = Field(None, description="Texts at which the answer ends.", json_schema_extra=ASKED)
    instruction: str | None = Field(
        None, description="A text that comes before everything else.", json_schema_extra=ASKED
    )

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
    max_tokens: int = 64
    empty_turns: Literal["refuse", "end"] = "refuse"
    metrics: Sequence[str] = ("bleu", "rougeL", "chrf")
    command: ClassVar[Literal["predict", "generate", "chat"]] = "chat"
    most_frequent: str = ""
    Options: ClassVar[type[TaskOptions]] = DialogueOptions

    @property
    def own_metrics(self) -> Sequence[Metric]:  # type: ignore[override]
        """BLEU with the words of each answer's script, ROUGE-L, and chrF, which needs no words.

        The perplexity is that of the assistant's turns, where their likelihood was requested.
        """
        return perplexity(PERPLEXITY), bleu(), rouge("rougeL"), chrf()

    @property
    def zero_shot_metrics(self) -> Sequence[str]:
        """The perplexity of the assistant's turns, too."""
        return PERPLEXITY, *self.metrics

    def field_names(self) -> list[str]:
        """Return the one field: the turns."""
        return [MESSAGES]

    def fields(self, available: Sequence[str], mapping: Mapping[str, str], where: str) -> dict[str, str]:
        """Choose the column of the turns."""
        refuse_unknown_fields(self.name, [MESSAGES], mapping)
        chosen = choose_columns([MESSAGES], self.columns, mapping)
        require_columns(chosen, available, where)
        return chosen

    def input_fields(self, available: Sequence[str], mapping: Mapping[str, str], where: str) -> dict[str, str]:
        """Choose the column of turns that wait for an answer."""
        return {HISTORY: self.fields(available, mapping, where)[MESSAGES]}

    def example(self, row: Row, columns: Mapping[str, str], extra: Sequence[str] = ()) -> Example:
        """Read one row; its target is the last answer.

        Where `columns` are those of `input_fields`, it has none, an answer to the last turn of the user's is ignored,
        and a plain text is a user's turn.
        """
        others = extra_columns(row, extra)
        lenient = self.empty_turns == "end"
        if HISTORY in columns:
            waiting = _waiting(row, columns[HISTORY], lenient)
            return Example({MESSAGES: as_text(waiting)}, None, row.where, others)
        turns = _answered(read_turns(row, columns[MESSAGES], end_at_empty=lenient), row.where)
        answer = turns[-1].content
        return Example({MESSAGES: as_text(turns)}, answer, row.where, others, references=(answer,))

    def fit_baselines(self, train: Iterable[Example]) -> Self:
        """Take the most frequent last answer of the training data."""
        task = copy.copy(self)
        counts = Counter(str(example.target) for example in islice(train, MOST_COUNTED))
        task.most_frequent = max(counts, key=counts.__getitem__, default="")
        return task

    def private(self) -> Self:
        """Return this task without its most frequent answer."""
        task = copy.copy(self)
        task.most_frequent = ""
        return task

    def state(self) -> dict[str, Any]:
        """Save what its options and the training data say."""
        return {**super().state(), "most_frequent": self.most_frequent}

    def prepare(self, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
        """Give the tokenizer a chat template where it has none; the assistant's turns end as that says."""
        give_template(tokenizer)
        return (end_token(tokenizer),)

    def baselines(self, example: Example) -> Mapping[str, str]:
        """The most frequent last answer of the training data, for every question."""
        return {"most_frequent": self.most_frequent} if self.most_frequent else {}

    def record(self, example: Example) -> Mapping[str, Any]:
        """Return the turns before the answer."""
        return {MESSAGES: messages(_before_answer(example))}

    def shown(self, example: Example) -> Mapping[str, str]:
        """Return the turn that is answered."""
        return {USER: _before_answer(example)[-1].content}

    def prompt_tokens(self, example: Example, tokenizer: PreTrainedTokenizerBase, room: int) -> list[int]:
        """Return the turns before the answer, in at most `room` tokens: the oldest ones are dropped."""
        return asked(tokenizer, _before_answer(example), room, example.where)

    def encode(self, examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[Encoded]:
        """Encode conversations, of which every turn of the assistant's and its end are learned, each of them once.

        One that is too long becomes several encodings, in which the oldest turns are dropped and the system's is not.
        """
        return [
            piece
            for example in examples
            for piece in pieces(tokenizer, from_text(example.inputs[MESSAGES]), max_length, example.where)
        ]

    def compared(self, example: Example, prediction: str) -> tuple[str, Sequence[str]]:
        """Return the answer and the right one."""
        return self.plain(prediction), example.references

    def requests(self, example: Example, context: str) -> list[Request]:
        """Request an answer and the likelihood of all turns; turns are lines of text."""

        def before(turns: Sequence[Turn]) -> str:
            return context + transcript([*turns, Turn(ASSISTANT, "")]).rstrip()

        turns = from_text(example.inputs[MESSAGES])
        said = [
            Continuation(before(turns[:place]), f" {turn.content}")
            for place, turn in enumerate(turns)
            if turn.role == ASSISTANT
        ]
        return [Generation(before(_before_answer(example)), self.stop, self.max_tokens), *said]

    def prediction(self, example: Example, responses: Sequence[Response]) -> TextPrediction:
        """Return what was written, with the log-likelihood of the assistant's turns."""
        written, *said = responses
        known = [each for each in said if isinstance(each, LogLikelihood)]
        whole = LogLikelihood(
            sum(each.value for each in known), all(each.is_greedy for each in known), sum(each.tokens for each in known)
        )
        return TextPrediction(str(written), log_likelihood=whole)

    def fewshot_example(self, example: Example) -> str:
        """Return the conversation as lines of text."""
        return transcript(from_text(example.inputs[MESSAGES]))

    def fixtures(self) -> Fixtures:
        """As of any text; another last answer, longer turns of the user's, and made-up conversations."""
        column = self.columns.get(MESSAGES, MESSAGES)

        def retarget(row: Row, other: Row, columns: Mapping[str, str]) -> Row:
            turns = list(from_text(self.example(row, columns).inputs[MESSAGES]))
            turns[-1] = replace(turns[-1], content="Nobody can say that.")
            return with_column(row, **{columns[MESSAGES]: messages(turns)})

        def lengthen(example: Example) -> Example:
            turns = [
                replace(turn, content=" ".join([turn.content] * LONGER)) if turn.role == USER else turn
                for turn in from_text(example.inputs[MESSAGES])
            ]
            return replace(example, inputs={MESSAGES: as_text(turns)})

        def row(number: int) -> Mapping[str, Any]:
            text, word = SENTENCES[number % len(SENTENCES)]
            turns = [("user", f"What is this about? {text}"), ("assistant", f"It is about a {word}.")]
            return {column: [{"role": role, "content": said} for role, said in turns]}

        def learned_texts(example: Example) -> list[str]:
            return [turn.content for turn in from_text(example.inputs[MESSAGES]) if turn.role == ASSISTANT]

        def room(example: Example, tokenizer: Any) -> int:
            lengths = [len(encode_text(tokenizer, text)) for text in learned_texts(example)]
            whole = encode_text(tokenizer, transcript(from_text(example.inputs[MESSAGES])))
            return max(max(lengths) + 64, int(0.6 * len(whole)))

        return replace(
            super().fixtures(),
            retarget=retarget,
            lengthen=lengthen,
            row=row,
            learned_texts=learned_texts,
            room=room,
        )


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
