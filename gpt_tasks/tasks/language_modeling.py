"""Language modeling: how likely is a text?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, field_validator

from gpt_tasks.errors import DataError
from gpt_tasks.extensions import Metric
from gpt_tasks.metrics.aggregate import perplexity
from gpt_tasks.tasks.card import TaskCard
from gpt_tasks.tasks.cloze import log_likelihood_to_json
from gpt_tasks.tasks.encoding import encode_texts, end_of_text, start_of_text
from gpt_tasks.tasks.fixtures import SENTENCES, Fixtures, longer_inputs
from gpt_tasks.tasks.options import TaskOptions
from gpt_tasks.tasks.prompted import PromptedTask
from gpt_tasks.tasks.prompts import check_template, filled, prompt_fields
from gpt_tasks.tasks.reading import as_text, extra_columns, plain_text, truth_value, whole_number
from gpt_tasks.types import Encoded, Example, LogLikelihood, Request, Response, Rolling, Row, Statistic
from gpt_tasks.words import is_unspaced, words

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

WORDS, BYTES = "original_words", "original_bytes"
SMALL = 30_000_000
TEXT, PASSAGE, CONTINUES = "text", "passage", "continues"


class LanguageModelingOptions(TaskOptions):
    """The options of every language-modeling task."""

    prompt: str | None = Field(None, min_length=1, description="How a row reads as text, as in '{text}'.")

    _is_template = field_validator("prompt")(check_template)


class LanguageModelingTask(PromptedTask):
    """The likelihood of whole texts, in windows where they are longer than the model's context.

    Words are what white space separates. Where a text was changed after it was counted (a detokenized one, say), a row
    can give the numbers to count by: `original_words` and `original_bytes`. Nothing precedes a text: no shots, no
    instruction. A row that `continues` continues in the next one, so no end of text is learned after it: rows of plain
    text are such passages.
    """

    takes_shots: ClassVar[bool] = False
    learner: ClassVar[str | None] = "language-modeling"
    command: ClassVar[Literal["predict", "generate", "chat"]] = "generate"
    Options: ClassVar[type[TaskOptions]] = LanguageModelingOptions
    prompt: str = "{text}"
    columns: ClassVar[Mapping[str, str]] = {}
    metrics: Sequence[str] = ("word_perplexity", "byte_perplexity", "bits_per_byte")
    own_metrics: Sequence[Metric] = (
        perplexity("perplexity"),
        perplexity("word_perplexity"),
        perplexity("byte_perplexity"),
        Metric("bits_per_byte", "Cross-entropy in bits per byte of UTF-8.", "lower", (0.0, math.inf)),
    )

    def defaults(self, method: str, parameters: int) -> Mapping[str, float | int]:
        """Return a lower learning rate for a small backbone: at the rate of a head it would forget its pretraining."""
        return {"learning_rate": 1e-4} if method == "full" and parameters <= SMALL else {}

    def fields(self, available: Sequence[str], mapping: Mapping[str, str], where: str) -> dict[str, str]:
        """Choose the columns of the text, and of its counts where they are there."""
        counts = {field: mapping.get(field, field) for field in (WORDS, BYTES, CONTINUES)}
        texts = {field: column for field, column in mapping.items() if field not in counts}
        if TEXT in self.field_names() and TEXT not in (*available, *texts) and PASSAGE in available:
            texts[TEXT] = PASSAGE
        found = super().fields(available, texts, where)
        return {**found, **{field: column for field, column in counts.items() if column in available}}

    def example(self, row: Row, columns: Mapping[str, str], extra: Sequence[str] = ()) -> Example:
        """Read one row. Raises DataError where the text is empty."""
        texts = {name: plain_text(row, column) for name, column in columns.items() if name != CONTINUES}
        text = self.prompt.format_map(texts)
        if not text.strip():
            raise DataError(f"{row.where}: the text is empty", "Leave the row out.")
        counts = {WORDS: str(len(words(text) if is_unspaced(text) else text.split())), BYTES: str(len(text.encode()))}
        for field in counts.keys() & texts.keys():
            number = whole_number(texts[field])
            if number is None or number < 1:
                raise DataError(
                    f"{row.where}: column '{columns[field]}' is {texts[field]!r}, not a number of one or more",
                    "Give a whole number, or leave the column out.",
                )
            texts[field] = str(number)
        continues = truth_value(row.values[columns[CONTINUES]]) if CONTINUES in columns else False
        if continues is None:
            raise DataError(
                f"{row.where}: column '{columns[CONTINUES]}' is {row.values[columns[CONTINUES]]!r}, neither true nor "
                "false",
                "Say whether the text continues in the next row, or leave the column out.",
            )
        return Example({**counts, **texts, CONTINUES: as_text(continues)}, None, row.where, extra_columns(row, extra))

    def encode(self, examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[Encoded]:
        """Cut each text, and the end of text after one that ends, into windows in which each token is predicted once.

        A window begins with the last token of the one before it, the first with the token before a text.
        """
        if max_length < 2:
            raise DataError(f"--max-length {max_length} holds no token and one before it", "Give at least 2.")
        front, end = start_of_text(tokenizer)[-1], end_of_text(tokenizer)
        texts = [filled(self.prompt, example.inputs, tokenizer) for example in examples]
        every = encode_texts(tokenizer, texts, begins=False, control=True)
        encoded = []
        for example, ids in zip(examples, every, strict=True):
            whole = [front, *ids, *([] if example.inputs[CONTINUES] == "true" else [end])]
            for start in range(0, len(whole) - 1, max_length - 1):
                window = whole[start : start + max_length]
                encoded.append(Encoded(window, label_spans=((1, len(window)),)))
        return encoded

    def score(self, example: Example, prediction: LogLikelihood) -> Mapping[str, Statistic]:
        """Nats by tokens, words and bytes, and bits by bytes."""
        words, size = float(example.inputs[WORDS]), float(example.inputs[BYTES])
        nats = -prediction.value
        return {
            "perplexity": Statistic(nats / max(1, prediction.tokens), prediction.tokens),
            "word_perplexity": Statistic(nats / words, words),
            "byte_perplexity": Statistic(nats / size, size),
            "bits_per_byte": Statistic(nats / size / math.log(2), size),
        }

    def references(self, example: Example) -> Sequence[Any]:
        """Return nothing: the text itself is what is predicted."""
        return ()

    def line(self, example: Example, prediction: LogLikelihood) -> Mapping[str, Any]:
        """Return the text with its counts."""
        return example.inputs

    def to_json(self, prediction: LogLikelihood) -> dict[str, Any]:
        """Return the log-likelihood of the text."""
        return log_likelihood_to_json(prediction)

    def to_text(self, prediction: LogLikelihood) -> str:
        """Return the log-likelihood."""
        return f"{prediction.value:.2f}"

    def card(self) -> TaskCard:
        """Return what a model card says of a language model."""
        return TaskCard(
            answers="text",
            does="writes like the texts that it was trained on",
            limits=("It writes fluent text that can be wrong; nothing checks what it says.",),
            baselines="The baseline is the backbone before training. ",
            pipeline_tag="text-generation",
            saved="the task",
        )

    def display(self, example: Example, prediction: LogLikelihood) -> None:
        """Show nothing: there is no answer to show."""

    def requests(self, example: Example, context: str) -> list[Request]:
        """Request the likelihood of the text."""
        return [Rolling(self.prompt.format_map(example.inputs))]

    def prediction(self, example: Example, responses: Sequence[Response]) -> LogLikelihood:
        """Return the log-likelihood of the text."""
        (response,) = responses
        assert isinstance(response, LogLikelihood)
        return response

    def fewshot_example(self, example: Example) -> str:
        """Return the text."""
        return self.prompt.format_map(example.inputs)

    def fixtures(self) -> Fixtures:
        """A certain text, longer ones, and rows of made-up texts."""

        def row(number: int) -> Mapping[str, Any]:
            values = dict.fromkeys(prompt_fields(self.prompt), SENTENCES[number % len(SENTENCES)][0])
            return {self.columns.get(field, field): value for field, value in values.items()}

        return Fixtures(
            gold=lambda example: LogLikelihood(0.0, True, 1),
            lengthen=lambda example: longer_inputs(example, *prompt_fields(self.prompt)),
            row=row,
            room=lambda example, tokenizer: 16,
        )
