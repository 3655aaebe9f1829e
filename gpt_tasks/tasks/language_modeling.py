"""Language modeling: how likely is a text?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, field_validator

from gpt_tasks.errors import DataError
from gpt_tasks.tasks.base import TaskOptions
from gpt_tasks.tasks.measures import Measure, Part, perplexity
from gpt_tasks.tasks.untrained import UntrainedTask, checked_template, plain_text
from gpt_tasks.types import Encoded, Example, LogLikelihood, Request, Response, Rolling, Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

WORDS, BYTES = "original_words", "original_bytes"
SMALL = 30_000_000
TEXT, PASSAGE, CONTINUES = "text", "passage", "continues"


class LanguageModelingOptions(TaskOptions):
    """The options of every language-modeling task."""

    prompt: str | None = Field(None, min_length=1, description="How a row reads as text, as in '{text}'.")

    _is_template = field_validator("prompt")(checked_template)


class LanguageModelingTask(UntrainedTask):
    """The likelihood of whole texts, in windows where they are longer than the model's context.

    Words are what white space separates. Where a text was changed after it was counted (a detokenized one, say), a
    row can bring the numbers to count by: `original_words` and `original_bytes`. Nothing stands before a text: no
    shots, no introduction. A row that `continues` goes on in the next one, so that no end is learned behind it: rows of
    plain text are such passages.
    """

    takes_shots: ClassVar[bool] = False
    trains: ClassVar[bool] = True
    best_by: ClassVar[str] = "loss"
    command: ClassVar[Literal["predict", "generate", "chat"]] = "generate"
    Options: ClassVar[type[TaskOptions]] = LanguageModelingOptions
    prompt: str = "{text}"
    columns: ClassVar[Mapping[str, str]] = {}
    metrics: ClassVar[Sequence[str]] = ("word_perplexity", "byte_perplexity", "bits_per_byte")
    measures: Sequence[Measure] = (
        perplexity("perplexity"),
        perplexity("word_perplexity"),
        perplexity("byte_perplexity"),
        Measure("bits_per_byte", "lower"),
    )

    def defaults(self, method: str, parameters: int) -> Mapping[str, float | int]:
        """A small backbone goes on learning what it learned before: at the rate of a head it would forget that."""
        return {"learning_rate": 1e-4} if method == "full" and parameters <= SMALL else {}

    def fields(self, available: Sequence[str], mapping: Mapping[str, str], where: str) -> dict[str, str]:
        """Choose the columns of the text, and of what is told about it where they are there."""
        told = {field: mapping.get(field, field) for field in (WORDS, BYTES, CONTINUES)}
        texts = {field: column for field, column in mapping.items() if field not in told}
        if TEXT in self.reads() and TEXT not in (*available, *texts) and PASSAGE in available:
            texts[TEXT] = PASSAGE
        found = super().fields(available, texts, where)
        return {**found, **{field: column for field, column in told.items() if column in available}}

    def example(self, row: Row, columns: Mapping[str, str], extra: Sequence[str] = ()) -> Example:
        """Read one row. Raises DataError where the text is empty."""
        texts = {name: plain_text(row, column) for name, column in columns.items() if name != CONTINUES}
        text = self.prompt.format_map(texts)
        if not text.strip():
            raise DataError(f"{row.where}: the text is empty", "Leave the row out.")
        kept = {column: str(row.values.get(column, "")) for column in extra}
        told = {WORDS: str(len(text.split())), BYTES: str(len(text.encode()))}
        for field in told.keys() & texts.keys():
            if not texts[field].strip().isdecimal() or int(texts[field]) < 1:
                raise DataError(
                    f"{row.where}: column '{columns[field]}' is {texts[field]!r}, not a number of one or more",
                    "Give a whole number, or leave the column out.",
                )
        continues = str(row.values[columns[CONTINUES]] if CONTINUES in columns else False).lower()
        if continues not in ("true", "false"):
            raise DataError(
                f"{row.where}: column '{columns[CONTINUES]}' is {continues!r}, neither true nor false",
                "Say whether the text goes on in the next row, or leave the column out.",
            )
        return Example({**told, **texts, CONTINUES: continues}, None, row.where, kept)

    def encode(self, examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[Encoded]:
        """Cut each text, and the end of text behind one that ends, into windows in which each token is foretold once.

        A window begins with the last token of the one before it, the first with what stands before a text.
        """
        if max_length < 2:
            raise DataError(f"--max-length {max_length} holds no token and one before it", "Give at least 2.")
        first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        texts = [self.prompt.format_map(example.inputs) for example in examples]
        every = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        encoded = []
        for example, ids in zip(examples, every, strict=True):
            whole = [first, *ids, *([] if example.inputs[CONTINUES] == "true" else [tokenizer.eos_token_id])]
            for start in range(0, len(whole) - 1, max_length - 1):
                window = whole[start : start + max_length]
                encoded.append(Encoded(window, learned=((1, len(window)),)))
        return encoded

    def ask(self, example: Example, before: str) -> list[Request]:
        """Ask for the likelihood of the text."""
        return [Rolling(self.prompt.format_map(example.inputs))]

    def shot(self, example: Example) -> str:
        """Return the text."""
        return self.prompt.format_map(example.inputs)

    def measure(self, example: Example, answers: Sequence[Response]) -> Mapping[str, Part]:
        """Nats by tokens, words and bytes, and bits by bytes."""
        (answer,) = answers
        assert isinstance(answer, LogLikelihood)
        words, size = float(example.inputs[WORDS]), float(example.inputs[BYTES])
        nats = -answer.value
        return {
            "perplexity": Part(nats / max(1, answer.tokens), answer.tokens),
            "word_perplexity": Part(nats / words, words),
            "byte_perplexity": Part(nats / size, size),
            "bits_per_byte": Part(nats / size / math.log(2), size),
        }
