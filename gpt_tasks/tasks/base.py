"""What every task says of itself: its name, its columns, how an example reads as text, what counts as right."""

from __future__ import annotations

import copy
import inspect
import string
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict

from gpt_tasks.errors import DataError, UsageError
from gpt_tasks.types import Encoded, Example, MultiLabelPrediction, Prediction, Row

if TYPE_CHECKING:
    import numpy
    from transformers import PreTrainedTokenizerBase


class TaskOptions(BaseModel):
    """A task's own settings. Each field becomes a flag of `gpt-tasks finetune TASK`; a family adds its fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Task(ABC):
    """What is asked of a backbone. One instance serves every run: it holds no state of any of them.

    A subclass gives `name`, `columns` (its fields and the data's columns they are read from) and `prompt` (how an
    example reads as text: a format string over the fields). `metrics` names the metrics that its reports hold. A task
    that `trains` says which metric chooses the best checkpoint (`best_by`), which kind of head, if it has one, and by
    which `command` a run is put to use.
    """

    name: ClassVar[str]
    columns: ClassVar[Mapping[str, str]]
    prompt: str
    metrics: ClassVar[Sequence[str]]
    trains: ClassVar[bool] = False
    head: ClassVar[str | None] = None
    best_by: ClassVar[str] = ""
    command: ClassVar[Literal["predict", "generate", "chat"]] = "predict"
    Options: ClassVar[type[TaskOptions]] = TaskOptions

    def defaults(self, method: str, parameters: int) -> Mapping[str, float | int]:
        """Return settings that suit this task better than the method's own, for a backbone of so many parameters."""
        return {}

    @property
    def description(self) -> str:
        """The first line of the class's docstring."""
        return (inspect.getdoc(type(self)) or self.name).splitlines()[0]

    def samples(self) -> Path | None:
        """The folder of embedded samples: `samples/` beside the module that defines the task, where there is one."""
        folder = Path(inspect.getfile(type(self))).parent / "samples"
        return folder if folder.is_dir() else None

    def configured(self, options: TaskOptions) -> Self:
        """Return this task with its options applied."""
        task = copy.copy(self)
        for field, value in options.model_dump(exclude_none=True).items():
            setattr(task, field, value)
        return task

    def resolved(self) -> Task:
        """Return the task that does the work: this one, unless a setting makes it one of another family."""
        return self

    def untrained(self) -> Task:
        """Return the task that is asked of a model as it is, in place of this one."""
        return self

    @abstractmethod
    def fields(self, available: Sequence[str], mapping: Mapping[str, str], where: str) -> dict[str, str]:
        """Choose the columns to read: field -> column, given the columns there are and the user's own mapping.

        Raises DataError, naming the columns that are there, where one that the task needs is not.
        """

    @abstractmethod
    def example(self, row: Row, columns: Mapping[str, str], extra: Sequence[str] = ()) -> Example:
        """Read one row; it has no target where `columns` are those of `asked_fields`.

        Raises DataError naming the row where a text or the target cannot be used.
        """

    def asked_fields(self, available: Sequence[str], mapping: Mapping[str, str], where: str) -> dict[str, str]:
        """Choose the columns to read of rows whose right answers are not looked at, or are not there."""
        return self.fields(available, mapping, where)

    def encode(self, examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[Encoded]:
        """Turn examples into at most `max_length` token ids each; what is cut is the texts, never the prompt."""
        raise self._headless()

    def record(self, example: Example) -> Mapping[str, Any]:
        """Return what was asked as JSON values, to stand beside the answer in a file."""
        return example.inputs

    def decode(self, logits: numpy.ndarray) -> Sequence[Prediction | MultiLabelPrediction | float]:
        """Turn the head's logits `[n, outputs]` into answers."""
        raise self._headless()

    def _headless(self) -> UsageError:
        return UsageError(
            f"Task '{self.name}' trains no head", "A model is scored on it as it is: gpt-tasks score, with a suite."
        )

    def state(self) -> dict[str, Any]:
        """What must travel with a trained model so that `restored` rebuilds this task: JSON values only."""
        return {"prompt": self.prompt}

    def restored(self, state: Mapping[str, Any]) -> Self:
        """Return this task as it was when `state` was saved."""
        task = copy.copy(self)
        for field, value in state.items():
            setattr(task, field, tuple(value) if isinstance(value, list) else value)
        return task


def prompt_fields(prompt: str) -> list[str]:
    """Return the names of the fields that a prompt reads, in order.

    Raises ValueError where it is no format string, or asks for more than to put a text in a place.
    """
    fields = []
    for _, name, form, conversion in string.Formatter().parse(prompt):
        if form or conversion:
            raise ValueError(f"'{{{name}}}' can have nothing behind its name")
        if name is not None:
            fields.append(name)
    return fields


def text_of(row: Row, column: str) -> str:
    """Return the text in a row's column. Raises DataError where it is missing, empty or no text."""
    value = row.values.get(column)
    if value is None:
        raise DataError(f"{row.where}: column '{column}' is missing", "Give every row a text, or leave the row out.")
    if not isinstance(value, str):
        raise DataError(
            f"{row.where}: column '{column}' holds a {type(value).__name__}, not a text: {str(value)[:60]}",
            "Give the text as one string.",
        )
    if not value.strip():
        raise DataError(f"{row.where}: column '{column}' is empty", "Give every row a text, or leave the row out.")
    return value


def encode_prompts(
    prompt: str,
    inputs: Sequence[Mapping[str, str]],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
) -> list[Encoded]:
    """Encode a filled prompt for each of `inputs` in at most `max_length` tokens, shortening the longest text first.

    The joined text is tokenized as a whole, so that tokens may span the prompt's joints. Raises DataError where the
    prompt without any text is already too long.
    """
    texts = [prompt.format_map(values) for values in inputs]
    encoded = []
    for values, full in zip(inputs, tokenizer(texts)["input_ids"], strict=True):
        ids = full if len(full) <= max_length else _shortened(prompt, values, full, tokenizer, max_length)
        encoded.append(Encoded(ids, truncated=len(full) - len(ids)))
    return encoded


def _shortened(
    prompt: str, values: Mapping[str, str], ids: list[int], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> list[int]:
    while len(ids) > max_length:
        starts = {
            field: [start for start, _ in tokens_of(text, tokenizer)["offset_mapping"]]
            for field, text in values.items()
        }
        kept = {field: len(tokens) for field, tokens in starts.items()}
        if not any(kept.values()):
            raise DataError(
                f"The prompt alone takes more than {max_length} tokens", "Raise --max-length or shorten the prompt."
            )
        for _ in range(min(len(ids) - max_length, sum(kept.values()))):
            kept[max(kept, key=kept.__getitem__)] -= 1
        values = {
            field: text[: starts[field][kept[field]]] if kept[field] < len(starts[field]) else text
            for field, text in values.items()
        }
        ids = tokenizer(prompt.format_map(values))["input_ids"]
    return ids


def tokens_of(text: str, tokenizer: PreTrainedTokenizerBase) -> Mapping[str, Any]:
    """Return a text's own tokens as `input_ids` and where each stands in it as `offset_mapping`."""
    encoded: Mapping[str, Any] = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    return encoded
