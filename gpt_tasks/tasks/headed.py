"""Tasks that a head answers: the texts it reads, one or a pair, and the column of the target."""

from __future__ import annotations

import copy
import string
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from gpt_tasks.errors import UsageError
from gpt_tasks.tasks.base import Task, TrainingExamples
from gpt_tasks.tasks.fixtures import Fixtures, longer_inputs, with_column
from gpt_tasks.tasks.options import TRAINED, TaskOptions
from gpt_tasks.tasks.pieces import LongTexts, encode_pieces
from gpt_tasks.tasks.prompts import distinct_fields, prompt_fields
from gpt_tasks.tasks.reading import choose_columns, refuse_unknown_fields, require_columns
from gpt_tasks.types import Encoded, Example, Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

DELIMITER = "<|delimiter|>"
"""Separates the texts of a pair: a special token that is added to the model (Radford et al. 2018)."""

LONG_TEXTS: Any = Field(
    None,
    description="windows: read a text that is too long in parts that overlap; truncate: read its beginning.",
    json_schema_extra=TRAINED,
)


class HeadOptions(TaskOptions):
    """The options of every task that a head answers."""

    prompt: str | None = Field(
        None, min_length=1, description="How an example reads as text, as in '{text}', in place of the task's own."
    )
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
    """What a head on the backbone answers about a text or a pair of texts.

    A task whose `columns` name two texts is about pairs; `pair_prompt` lets a task about one text take pairs too,
    where the data has both columns. One that is `symmetric` reads a pair in both orders. `target` is the field of the
    right answer. `inputs` are the fields of the texts that training read.
    """

    columns: ClassVar[Mapping[str, str]] = {"text": "text"}
    prompt: str = "{text}"
    pair_prompt: str | None = None
    symmetric: ClassVar[bool] = False
    long_texts: LongTexts = "windows"
    head: ClassVar[str | None] = "sequence"
    Options: ClassVar[type[TaskOptions]] = HeadOptions

    def configured(self, options: TaskOptions) -> Self:
        """Return this task with its options applied. Raises UsageError for a prompt that names the answer."""
        prompt = getattr(options, "prompt", None)
        if prompt is not None and self.target in prompt_fields(prompt):
            known = distinct_fields(self.prompt, *filter(None, [self.pair_prompt]))
            raise UsageError(
                f"--prompt {prompt!r} names '{self.target}', which is the answer",
                f"Name what is read: {', '.join(f'{{{name}}}' for name in known)}.",
            )
        return super().configured(options)

    def is_unlabelled(self, value: object) -> bool:
        """Return whether data that hold `value` in place of a right answer hide the answers."""
        return value in (None, "")

    def is_labelled(self, row: Row, mapping: Mapping[str, str]) -> bool:
        """Return whether a row has its right answer."""
        return not self.is_unlabelled(row.values.get(self.target_column(mapping)))

    def input_fields(self, available: Sequence[str], mapping: Mapping[str, str], where: str) -> dict[str, str]:
        """Choose the columns of the texts alone."""
        single, double = prompt_fields(self.prompt), prompt_fields(self.pair_prompt or "")
        if self.inputs:
            single = double = list(self.inputs)
        refuse_unknown_fields(self.name, dict.fromkeys([*single, *double, self.target]), mapping)
        texts, pair = (choose_columns(fields, self.columns, mapping) for fields in (single, double))
        mapped = [fields for fields in (pair, texts) if any(field in mapping for field in fields)]
        # The user's mapping decides; else the one with more of its columns in the data, and of two complete ones the
        # pair.
        if mapped:
            texts = mapped[0]
        elif _share(pair, available) >= _share(texts, available) and _share(pair, available) > 0:
            texts = pair
        require_columns(texts, available, where)
        return texts

    def target_column(self, mapping: Mapping[str, str]) -> str:
        """Return the column of the right answer, given the user's own mapping."""
        return mapping.get(self.target, self.columns.get(self.target, self.target))

    def fit(self, train: TrainingExamples, where: str) -> Self:
        """Take the fields that the training data are read by."""
        task = copy.copy(self)
        task.inputs = tuple(train.fields)
        return task

    def encode(self, examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[Encoded]:
        """Fill the prompt, in both orders where the task is symmetric; a text that is too long is read in windows.

        Where the windows have no room, and where texts are to be truncated, the longest text is cut first.
        """
        if not examples:
            return []
        prompt, inputs = self.trained_prompt(examples[0].inputs), [example.inputs for example in examples]
        encoded = encode_pieces(prompt, inputs, tokenizer, max_length, self.long_texts)
        if not self.symmetric or len(examples[0].inputs) != 2:
            return encoded
        turned = encode_pieces(prompt, list(map(_turned, inputs)), tokenizer, max_length, self.long_texts)
        return [
            replace(
                one,
                truncated=max(one.truncated, other.truncated),
                more_sequences=(*one.more_sequences, other.input_ids, *other.more_sequences),
                windows=max(one.windows, other.windows),
            )
            for one, other in zip(encoded, turned, strict=True)
        ]

    def special_tokens(self) -> tuple[str, ...]:
        """Return the tokens that the model must be given to read what the task was fitted to."""
        return (DELIMITER,) if DELIMITER in self.trained_prompt(dict.fromkeys(self.inputs, "")) else ()

    def prompt_for(self, inputs: Mapping[str, str]) -> str:
        """Return the prompt for texts: that of pairs where they are one."""
        paired = self.pair_prompt and set(inputs) != set(prompt_fields(self.prompt))
        return str(self.pair_prompt) if paired else self.prompt

    def trained_prompt(self, inputs: Mapping[str, str]) -> str:
        """Return the prompt that a trained model reads texts by: by default `prompt_for`."""
        return self.prompt_for(inputs)

    def fixtures(self) -> Fixtures:
        """Another row's target, and longer texts."""
        return Fixtures(
            retarget=lambda row, other, columns: with_column(
                row, **{columns[self.target]: other.values.get(columns[self.target])}
            ),
            lengthen=longer_inputs,
            target_key=lambda row: str(row.values.get(self.target_column({}))),
            prompt_ending=self._prompt_ending,
        )

    def _prompt_ending(self, example: Example) -> str:
        """Return the prompt's own words after its last text."""
        ending, field, *_ = list(string.Formatter().parse(self.trained_prompt(example.inputs)))[-1]
        return ending if field is None else ""

    def state(self) -> dict[str, Any]:
        """Save the prompt of pairs too."""
        return {"pair_prompt": self.pair_prompt, **super().state()}


def _share(fields: Mapping[str, str], available: Sequence[str]) -> float:
    """Return the share of the fields' columns that are there."""
    return sum(column in available for column in fields.values()) / len(fields) if fields else 0.0


def _turned(inputs: Mapping[str, str]) -> dict[str, str]:
    return dict(zip(inputs, reversed(list(inputs.values())), strict=True))
