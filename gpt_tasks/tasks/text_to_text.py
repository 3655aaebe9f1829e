"""Text to text: what does the model write, and is it the right answer?"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from gpt_tasks.errors import DataError
from gpt_tasks.tasks.base import TaskOptions, encode_prompts, prompt_fields, text_of
from gpt_tasks.tasks.measures import Part
from gpt_tasks.tasks.text_measures import TextMeasure
from gpt_tasks.tasks.untrained import PromptOptions, UntrainedTask, plain_text
from gpt_tasks.types import Encoded, Example, Generation, Request, Response, Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class TextToTextOptions(PromptOptions):
    """The options of every text-to-text task."""

    answer: str | None = Field(None, description="How the right answer reads after the prompt, as in ' {target}'.")
    stop: tuple[str, ...] | None = Field(None, description="Texts at which the answer ends.")
    max_tokens: int | None = Field(None, ge=1, description="The most tokens of an answer.")
    extract: str | None = Field(None, description="A regular expression; what its group finds first is compared.")
    ignore: tuple[str, ...] | None = Field(None, description="Regular expressions; what they find is not compared.")

    @field_validator("stop")
    @classmethod
    def _are_texts(cls, stop: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if stop and not all(stop):
            raise PydanticCustomError("stop", "a text to stop at is empty")
        return stop

    @field_validator("extract", "ignore")
    @classmethod
    def _is_expression(cls, value: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
        for pattern in (value,) if isinstance(value, str) else value or ():
            try:
                re.compile(pattern)
            except re.error as error:
                raise PydanticCustomError("pattern", "{cause}", {"cause": f"{pattern!r}: {error}"}) from None
        return value


class TextToTextTask(UntrainedTask):
    """An answer that is written, and compared with the right one, or with several.

    A column that the answer reads may hold a list of texts: each is a right answer.
    """

    prompt: str = "{question}"
    answer: str = " {answer}"
    stop: tuple[str, ...] = ("\n",)
    max_tokens: int = 64
    extract: str | None = None
    ignore: tuple[str, ...] = ()
    columns: ClassVar[Mapping[str, str]] = {}
    metrics: ClassVar[Sequence[str]] = ("exact_match",)
    trains: ClassVar[bool] = True
    best_by: ClassVar[str] = "loss"
    Options: ClassVar[type[TaskOptions]] = TextToTextOptions

    @property
    def measures(self) -> Sequence[TextMeasure]:
        """Exact match."""
        return (TextMeasure("exact_match"),)

    def reads(self) -> list[str]:
        """Return the fields of the prompt and of the answer."""
        return list(dict.fromkeys([*prompt_fields(self.prompt), *prompt_fields(self.answer)]))

    def state(self) -> dict[str, Any]:
        """All that its options have settled."""
        return {name: getattr(self, name) for name in self.Options.model_fields}

    def answer_columns(self) -> list[str]:
        """Return the columns of what only the answer reads, by their names where none are given."""
        asked = prompt_fields(self.prompt)
        return [self.columns.get(field, field) for field in prompt_fields(self.answer) if field not in asked]

    def asked_fields(self, available: Sequence[str], mapping: Mapping[str, str], where: str) -> dict[str, str]:
        """Choose the columns of the prompt alone."""
        chosen = self.fields([*available, *self.answer_columns()], mapping, where)
        return {field: chosen[field] for field in dict.fromkeys(prompt_fields(self.prompt))}

    def example(self, row: Row, columns: Mapping[str, str], extra: Sequence[str] = ()) -> Example:
        """Read one row; its target is the answer, where `columns` say where that stands.

        Raises DataError where there is none.
        """
        asked, answered = dict.fromkeys(prompt_fields(self.prompt)), prompt_fields(self.answer)
        kept = {column: str(row.values.get(column, "")) for column in extra}
        if not all(name in columns for name in answered):
            return Example({name: text_of(row, columns[name]) for name in asked}, None, row.where, kept)
        texts: dict[str, str] = {}
        several: list[dict[str, str]] = [{}]
        for name, column in columns.items():
            if name in answered and name not in asked and isinstance(row.values.get(column), list):
                found = [plain_text(replace(row, values={column: value}), column) for value in row.values[column]]
                if not found:
                    raise DataError(f"{row.where}: column '{column}' holds no answer", "Give at least one.")
                several = [{**before, name: text} for before in several for text in found]
                texts[name] = found[0]
            else:
                texts[name] = plain_text(row, column)
        references = tuple(self.answer.format_map({**texts, **chosen}) for chosen in several)
        return Example({name: texts[name] for name in asked}, references[0], row.where, kept, references=references)

    def settled(self, train: Iterable[Example]) -> Self:
        """Return this task with what the training data settle of it."""
        return self

    def prepare(self, tokenizer: PreTrainedTokenizerBase) -> Sequence[int]:
        """Give a tokenizer that is to be trained with what the task needs; return the tokens that end an answer.

        The end of text need not be among them.
        """
        return ()

    def naive(self, example: Example) -> Mapping[str, str]:
        """Return answers that cost nothing, by the names of their ways: what a model has to beat."""
        return {}

    def right(self, example: Example) -> tuple[str, ...]:
        """Return the right answers as they are written down."""
        return tuple(reference.strip() for reference in example.references)

    def shown(self, example: Example) -> Mapping[str, str]:
        """Return what was asked as texts, to be shown beside the answer."""
        return example.inputs

    def prompt_tokens(self, example: Example, tokenizer: PreTrainedTokenizerBase, room: int) -> list[int]:
        """Return the prompt as it is trained, in at most `room` tokens."""
        texts = {field: example.inputs[field] for field in dict.fromkeys(prompt_fields(self.prompt))}
        return encode_prompts(self.prompt, [texts], tokenizer, room)[0].input_ids

    def encode(self, examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[Encoded]:
        """Encode prompt, answer and end of text, of which the answer and the end are learned.

        What does not fit is cut from the prompt's texts. Of an answer that leaves no room for the prompt without
        texts, the end is cut, and then there is no end of text to learn.
        """
        asked = list(dict.fromkeys(prompt_fields(self.prompt)))
        least = len(tokenizer(self.prompt.format_map(dict.fromkeys(asked, "")), verbose=False)["input_ids"])
        if least >= max_length:
            raise DataError(
                f"The prompt alone takes {least} of {max_length} tokens", "Raise --max-length or shorten the prompt."
            )
        encoded = []
        for example in examples:
            texts = {field: example.inputs[field] for field in asked}
            answer = [
                *self._continuation(self.prompt.format_map(texts), str(example.target), tokenizer),
                tokenizer.eos_token_id,
            ]
            cut = max(0, len(answer) - (max_length - least))
            answer = answer[: len(answer) - cut]
            (prompt,) = encode_prompts(self.prompt, [texts], tokenizer, max_length - len(answer))
            ids = [*prompt.input_ids, *answer]
            encoded.append(Encoded(ids, prompt.truncated + cut, ((len(prompt.input_ids), len(ids)),)))
        return encoded

    @staticmethod
    def _continuation(prompt: str, answer: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """Return the answer's tokens as they stand behind the prompt's."""
        before: list[int] = tokenizer(prompt, verbose=False)["input_ids"]
        joined: list[int] = tokenizer(prompt + answer, verbose=False)["input_ids"]
        if joined[: len(before)] == before:
            return joined[len(before) :]
        # A token spans the border: the prompt's own tokens are what the model will be given.
        apart: list[int] = tokenizer(answer, add_special_tokens=False, verbose=False)["input_ids"]
        return apart

    def ask(self, example: Example, before: str) -> list[Request]:
        """Ask the model to write."""
        return [Generation(before + self.prompt.format_map(example.inputs), self.stop, self.max_tokens)]

    def shot(self, example: Example) -> str:
        """Return the prompt with the right answer behind it."""
        return self.prompt.format_map(example.inputs) + str(example.target)

    def measure(self, example: Example, answers: Sequence[Response]) -> Mapping[str, Part]:
        """Compare what is extracted of the answer with the right ones."""
        (answer,) = answers
        given = self._extracted(str(answer))
        references = [self._bare(reference) for reference in example.references or (str(example.target),)]
        # What nothing could be extracted of is no answer, and equals none.
        bare = "" if given is None else self._bare(given)
        return {measure.name: measure.part(bare, references) for measure in self.measures}

    def _extracted(self, answer: str) -> str | None:
        if self.extract is None:
            return answer
        found = re.search(self.extract, answer)
        return None if found is None else next((group for group in found.groups() if group), found[0])

    def _bare(self, text: str) -> str:
        for pattern in self.ignore:
            text = re.sub(pattern, "", text)
        return text.strip()
