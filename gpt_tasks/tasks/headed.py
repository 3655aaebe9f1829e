"""Tasks that a head answers: the texts it is read from, one or a pair, and what the head is to say."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from gpt_tasks.errors import DataError
from gpt_tasks.tasks.answers import answer_as_text
from gpt_tasks.tasks.base import Task, TaskOptions, encode_prompts, prompt_fields, text_of
from gpt_tasks.tasks.long_texts import encode_windows
from gpt_tasks.tasks.measures import Measure, Part
from gpt_tasks.types import Encoded, Example, Row

if TYPE_CHECKING:
    import numpy
    from transformers import PreTrainedTokenizerBase

DELIMITER = "<|delimiter|>"
"""Stands between the texts of a pair, as a token of its own that the model is given for it (Radford et al. 2018)."""

Loss = Literal["cross_entropy", "binary", "squared", "choice", "span"]
"""What a head learns by: one of several labels, each label for itself, a number, one of an example's own choices, or
the positions of a stretch of tokens."""


LongTexts = Literal["windows", "truncate"]
LONG_TEXTS: Any = Field(
    None, description="windows: read a text that is too long in parts that overlap; truncate: read its beginning."
)


class HeadOptions(TaskOptions):
    """The options of every task that a head answers."""

    prompt: str | None = Field(None, min_length=1, description="How an example reads as text, as in '{text}'.")
    long_texts: LongTexts | None = LONG_TEXTS

    @field_validator("prompt")
    @classmethod
    def _prompt_names_fields(cls, prompt: str | None) -> str | None:
        try:
            fields = prompt_fields(prompt or "{text}")
        except ValueError as error:
            raise PydanticCustomError("prompt", "{cause}", {"cause": str(error)}) from None
        if not fields or not all(field.isidentifier() for field in fields):
            raise PydanticCustomError("prompt", "a prompt names the fields it reads, each in braces")
        return prompt


class HeadTask(Task):
    """What a head on the backbone says of a text or of a pair of texts.

    A task whose `columns` name two texts is about pairs; `pair_prompt` lets a task about one text take pairs too,
    where the data has both columns. One that is `symmetric` reads a pair in both orders. `target` is the field of the
    right answer. What a training settles is kept in `inputs`, the fields it read, and in what a family adds.
    """

    columns: ClassVar[Mapping[str, str]] = {"text": "text"}
    target: ClassVar[str]
    loss: ClassVar[Loss]
    prompt: str = "{text}"
    pair_prompt: str | None = None
    symmetric: ClassVar[bool] = False
    long_texts: LongTexts = "windows"
    inputs: tuple[str, ...] = ()
    trains: ClassVar[bool] = True
    head: ClassVar[str] = "sequence"
    Options: ClassVar[type[TaskOptions]] = HeadOptions

    @property
    @abstractmethod
    def outputs(self) -> int:
        """How many numbers the head says of an example, once the task is fitted."""

    def hides(self, value: object) -> bool:
        """Tell whether data that holds `value` in place of a right answer keep the answers to themselves."""
        return value in (None, "")

    @abstractmethod
    def read_target(self, row: Row, column: str) -> str:
        """Return the right answer as a text. Raises DataError naming the row where it cannot be one."""

    @abstractmethod
    def fitted(self, observed: Mapping[str, int], inputs: Sequence[str], where: str) -> tuple[Self, dict[str, str]]:
        """Settle what the training data says: `observed` counts its right answers, `inputs` are the fields it has.

        Returns the task, and what each observed answer stands for. Raises DataError where nothing can be learned.
        """

    @abstractmethod
    def canonical(self, target: str, where: str) -> str:
        """Return what a right answer of data stands for. Raises DataError where the model cannot give it."""

    @abstractmethod
    def goals(self, targets: Sequence[str]) -> numpy.ndarray:
        """Return what the head is to say of each right answer: places of labels or choices `[n]` as integers; or in
        float32 zeros and ones `[n, labels]`, or numbers `[n]`.
        """

    def fields(self, available: Sequence[str], mapping: Mapping[str, str], where: str) -> dict[str, str]:
        """Choose the columns of the texts, of a pair where there is one, and of the right answer."""
        single, double = prompt_fields(self.prompt), prompt_fields(self.pair_prompt or "")
        if self.inputs:
            single = double = list(self.inputs)
        known = dict.fromkeys([*single, *double, self.target])
        odd = [field for field in mapping if field not in known]
        if odd:
            raise DataError(
                f"--column {odd[0]}={mapping[odd[0]]}: task '{self.name}' has no field '{odd[0]}'",
                f"Its fields are {', '.join(known)}.",
            )
        texts = {field: mapping.get(field, self.columns.get(field, field)) for field in single}
        pair = {field: mapping.get(field, self.columns.get(field, field)) for field in double}
        mapped = [fields for fields in (pair, texts) if any(field in mapping for field in fields)]
        # What the user maps decides; else the one of which the data has more columns, and of two whole ones the pair.
        if mapped:
            texts = mapped[0]
        elif _share(pair, available) >= _share(texts, available) and _share(pair, available) > 0:
            texts = pair
        missing = [(field, column) for field, column in texts.items() if column not in available]
        if missing:
            field, column = missing[0]
            raise DataError(
                f"{where}: there is no column '{column}'; the columns are {', '.join(available)}",
                f"Say which one holds it: --column {field}=NAME",
            )
        column = self.target_column(mapping)
        if column not in available and self.target in mapping:
            raise DataError(
                f"{where}: there is no column '{column}'; the columns are {', '.join(available)}",
                f"Say which one holds the {self.target}: --column {self.target}=NAME",
            )
        return {**texts, self.target: column} if column in available else texts

    def target_column(self, mapping: Mapping[str, str]) -> str:
        """Return the column of the right answer, given the user's own mapping."""
        return mapping.get(self.target, self.columns.get(self.target, self.target))

    def asked_fields(self, available: Sequence[str], mapping: Mapping[str, str], where: str) -> dict[str, str]:
        """Choose the columns of the texts alone."""
        chosen = self.fields(available, mapping, where)
        chosen.pop(self.target, None)
        return chosen

    def example(self, row: Row, columns: Mapping[str, str], extra: Sequence[str] = ()) -> Example:
        """Read one row; its target is the right answer as `read_target` tells it."""
        inputs = {field: text_of(row, column) for field, column in columns.items() if field != self.target}
        target = self.read_target(row, columns[self.target]) if self.target in columns else None
        kept = {column: "" if row.values.get(column) is None else str(row.values[column]) for column in extra}
        return Example(inputs, target, row.where, kept)

    def encode(self, examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[Encoded]:
        """Fill the prompt, in both orders where the task is symmetric; a text that is too long is read in windows.

        Where the windows have no room, and where texts are to be truncated, the longest text is cut first.
        """
        if not examples:
            return []
        prompt = self._prompt_for(examples[0].inputs)
        encoded = self.encoding(prompt, [example.inputs for example in examples], tokenizer, max_length)
        if not self.symmetric or len(examples[0].inputs) != 2:
            return encoded
        turned = self.encoding(prompt, [_turned(example.inputs) for example in examples], tokenizer, max_length)
        return [
            replace(
                one,
                truncated=max(one.truncated, other.truncated),
                others=(*one.others, other.input_ids, *other.others),
                windows=max(one.windows, other.windows),
            )
            for one, other in zip(encoded, turned, strict=True)
        ]

    @property
    def encoding(self) -> Callable[..., list[Encoded]]:
        """How filled prompts become tokens: cut where they are too long, or in windows."""
        return encode_prompts if self.long_texts == "truncate" else encode_windows

    def own_tokens(self) -> tuple[str, ...]:
        """Return the tokens that the model must be given to read what the task was fitted to."""
        return (DELIMITER,) if DELIMITER in self._prompt_for(dict.fromkeys(self.inputs, "")) else ()

    def state(self) -> dict[str, Any]:
        """Keep the prompts, how long texts are read, and the fields that were trained on."""
        return {
            "prompt": self.prompt,
            "pair_prompt": self.pair_prompt,
            "long_texts": self.long_texts,
            "inputs": list(self.inputs),
        }

    def _prompt_for(self, inputs: Mapping[str, str]) -> str:
        paired = self.pair_prompt and set(inputs) != set(prompt_fields(self.prompt))
        return str(self.pair_prompt) if paired else self.prompt


class MeasuredTask(HeadTask):
    """A task of a head whose figures follow from what each example brings to them (see `gpt_tasks.tasks.measures`)."""

    measures: ClassVar[Sequence[Measure]]

    def tuned(self, logits: numpy.ndarray, goals: numpy.ndarray) -> Self:
        """Settle, by the head's logits and goals on validation, what is left to choose: nothing, as a rule."""
        return self

    def even(self) -> Self:
        """Return this task as it decides where nothing was chosen for a model: what baselines answer by."""
        return self

    def shown(self, example: Example, answer: Any) -> tuple[str, str]:
        """Return the right answer and the one given as people read them."""
        return str(example.target), answer_as_text(answer)

    def naive(self, examples: Sequence[Example]) -> Mapping[str, Sequence[Any]]:
        """Return answers that need no training, by the names of their ways: what a model has to beat."""
        return {}

    @abstractmethod
    def measure(self, example: Example, answer: Any) -> Mapping[str, Part]:
        """Return what an example brings to every measure, given the answer: one of those that `decode` returns."""


def _share(fields: Mapping[str, str], available: Sequence[str]) -> float:
    """Return the share of the fields' columns that are there."""
    return sum(column in available for column in fields.values()) / len(fields) if fields else 0.0


def _turned(inputs: Mapping[str, str]) -> dict[str, str]:
    return dict(zip(inputs, reversed(list(inputs.values())), strict=True))
