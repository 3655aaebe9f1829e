"""Text to text: what does the model write, and is it the right answer?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from gpt_tasks.errors import DataError, UsageError
from gpt_tasks.extensions import Metric
from gpt_tasks.limits import check_pattern, search, sub
from gpt_tasks.metrics.text import exact_match
from gpt_tasks.tasks.card import Display, TaskCard
from gpt_tasks.tasks.encoding import encode_continuation, encode_text, end_of_text, literal
from gpt_tasks.tasks.fixtures import SENTENCES, Fixtures, longer_inputs, with_column
from gpt_tasks.tasks.options import ASKED, TaskOptions
from gpt_tasks.tasks.prompted import PromptedTask, PromptOptions
from gpt_tasks.tasks.prompts import distinct_fields, encode_prompts, filled, prompt_fields
from gpt_tasks.tasks.reading import extra_columns, plain_text, text_of
from gpt_tasks.types import Encoded, Example, Generation, Request, Response, Row, Statistic, TextPrediction

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PERPLEXITY = "perplexity"
"""Of the tokens of the right answer, where their likelihood was requested too."""

ODD_TEXTS = (
    "",
    " ",
    "\n\n",
    "\x00",
    "?!...",
    "(",
    "\\1 {0} {text} %s",
    "1234567890",
    "3.5e400",
    "é ß 漢字 العربية 👩‍👧",
    "\u202eback to front",
    "the " * 2000,
    "assistant: user: </s> <|endoftext|>",
)
"""What a model may write; no metric may fail on it."""


class TextToTextOptions(PromptOptions):
    """The options of every text-to-text task."""

    answer: str | None = Field(None, description="How the right answer reads after the prompt, as in ' {target}'.")
    stop: tuple[str, ...] | None = Field(None, description="Texts at which the answer ends.", json_schema_extra=ASKED)
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
                check_pattern(pattern)
            except ValueError as error:
                raise PydanticCustomError("pattern", "{cause}", {"cause": f"{pattern!r}: {error}"}) from None
        return value


class TextToTextTask(PromptedTask):
    """A generated answer, compared with the right one, or with several.

    A column that the answer reads may hold a list of texts: each is a right answer.
    """

    prompt: str = "{question}"
    answer: str = " {answer}"
    stop: tuple[str, ...] = ("\n",)
    max_tokens: int = 64
    extract: str | None = None
    ignore: tuple[str, ...] = ()
    columns: ClassVar[Mapping[str, str]] = {}
    metrics: Sequence[str] = ("exact_match",)
    own_metrics: Sequence[Metric] = (exact_match(),)
    learner: ClassVar[str | None] = "text-to-text"
    Options: ClassVar[type[TaskOptions]] = TextToTextOptions

    def field_names(self) -> list[str]:
        """Return the fields of the prompt and of the answer."""
        return distinct_fields(self.prompt, self.answer)

    def answer_columns(self) -> list[str]:
        """Return the columns of what only the answer reads, by their names where none are given."""
        return [self.columns.get(field, field) for field in self._answer_fields()]

    def input_fields(self, available: Sequence[str], mapping: Mapping[str, str], where: str) -> dict[str, str]:
        """Choose the columns of the prompt alone."""
        chosen = self.fields([*available, *self.answer_columns()], mapping, where)
        return {field: chosen[field] for field in distinct_fields(self.prompt)}

    def example(self, row: Row, columns: Mapping[str, str], extra: Sequence[str] = ()) -> Example:
        """Read one row; its target is the answer, where `columns` name its column.

        Raises DataError where there is none.
        """
        asked, answered = distinct_fields(self.prompt), prompt_fields(self.answer)
        others = extra_columns(row, extra)
        if not all(name in columns for name in answered):
            return Example({name: text_of(row, columns[name]) for name in asked}, None, row.where, others)
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
        return Example({name: texts[name] for name in asked}, references[0], row.where, others, references=references)

    def prepare(self, tokenizer: PreTrainedTokenizerBase) -> Sequence[int]:
        """Give a tokenizer for training what the task needs; return the tokens that end an answer.

        The end of text need not be among them.
        """
        return ()

    def fit_baselines(self, train: Iterable[Example]) -> Self:
        """Return this task with what its `baselines` need of the training data."""
        return self

    def baselines(self, example: Example) -> Mapping[str, str]:
        """Return the baselines' answers, by their names: what a model has to beat."""
        return {}

    def references(self, example: Example) -> tuple[str, ...]:
        """Return the right answers as written in the data."""
        return tuple(reference.strip() for reference in example.references)

    def plain(self, prediction: str) -> str:
        """Return the text without the white space around it."""
        return prediction.strip()

    def compared(self, example: Example, prediction: str) -> tuple[str, Sequence[str]]:
        """Return what is extracted of the text, and of the references, without what is to be ignored."""
        given = self._extracted(str(prediction))
        references = [self._bare(reference) for reference in example.references or (str(example.target),)]
        # A text from which nothing is extracted is no answer, and equals none.
        return "" if given is None else self._bare(given), references

    def score(self, example: Example, prediction: str) -> Mapping[str, Statistic]:
        """Compare the text with the references; where the right text's log-likelihood is known, its perplexity."""
        known = getattr(prediction, "log_likelihood", None)
        found = dict(super().score(example, prediction))
        if known is not None and known.tokens:
            found[PERPLEXITY] = Statistic(-known.value / known.tokens, known.tokens)
        return found

    def line(self, example: Example, prediction: str) -> Mapping[str, Any]:
        """Return the inputs, the references, the text, and why it ended."""
        reason = getattr(prediction, "finish_reason", "")
        return {**super().line(example, prediction), **({"finish": reason} if reason else {})}

    def shown(self, example: Example) -> Mapping[str, str]:
        """Return the inputs as texts, to be shown with the answer."""
        return example.inputs

    def pipeline_output(self, example: Example, prediction: str) -> Any:
        """Return the text."""
        return {"generated_text": str(prediction)}

    def display(self, example: Example, prediction: str) -> Display:
        """Return the inputs, the references and the text."""
        return dict(self.shown(example)), self.references(example) or ("-",), self.to_text(prediction)

    def card(self) -> TaskCard:
        """Return what a model card says of a model that writes."""
        return TaskCard(
            answers="text",
            does="answers {task} in its own words",
            limits=("It writes fluent text that can be wrong; nothing checks what it says.",),
            baselines="The baseline answers need no model. ",
            headline=next(iter(self.metrics)) if self.best_metric == "loss" else self.best_metric,
            pipeline_tag="text-generation",
            saved="the task",
        )

    def fixtures(self) -> Fixtures:
        """The right text, another one, longer questions, odd answers, and rows of made-up texts."""
        fields = self._answer_fields() or prompt_fields(self.answer)

        def retarget(row: Row, other: Row, columns: Mapping[str, str]) -> Row | None:
            if not fields:
                return None
            return with_column(
                row, **{columns[field]: other.values.get(columns[field]) for field in fields if field in columns}
            )

        def row(number: int) -> Mapping[str, Any]:
            text, word = SENTENCES[number % len(SENTENCES)]
            values = {**dict.fromkeys(prompt_fields(self.prompt), text), **dict.fromkeys(fields, word)}
            return {self.columns.get(field, field): value for field, value in values.items()}

        return Fixtures(
            gold=lambda example: TextPrediction(str(example.target)),
            retarget=retarget,
            lengthen=longer_inputs,
            row=row,
            any_predictions=lambda example: [TextPrediction(text) for text in ODD_TEXTS],
            learned_texts=lambda example: [str(example.target)],
            room=self._least_room,
        )

    def prompt_tokens(self, example: Example, tokenizer: PreTrainedTokenizerBase, room: int) -> list[int]:
        """Return the prompt as in training, in at most `room` tokens."""
        texts = {field: example.inputs[field] for field in distinct_fields(self.prompt)}
        return encode_prompts(self.prompt, [texts], tokenizer, room)[0].input_ids

    def encode(self, examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[Encoded]:
        """Encode prompt, answer and end of text, of which the answer and the end are learned.

        What does not fit is cut from the prompt's texts. If an answer leaves no room for the prompt without texts, its
        end is cut, and no end of text is learned.
        """
        asked = distinct_fields(self.prompt)
        least = len(encode_text(tokenizer, self.prompt.format_map(dict.fromkeys(asked, "")), control=True))
        if least >= max_length:
            raise DataError(
                f"The prompt alone takes {least} of {max_length} tokens",
                "Shorten the prompt, or train with a larger --max-length.",
            )
        encoded = []
        for example in examples:
            texts = {field: example.inputs[field] for field in asked}
            before, target = filled(self.prompt, texts, tokenizer), literal(tokenizer, str(example.target))
            answer = [*encode_continuation(tokenizer, before, target, control=True), end_of_text(tokenizer)]
            cut = max(0, len(answer) - (max_length - least))
            answer = answer[: len(answer) - cut]
            (prompt,) = encode_prompts(self.prompt, [texts], tokenizer, max_length - len(answer))
            ids = [*prompt.input_ids, *answer]
            encoded.append(Encoded(ids, prompt.truncated + cut, ((len(prompt.input_ids), len(ids)),)))
        return encoded

    def requests(self, example: Example, context: str) -> list[Request]:
        """Request a generated answer."""
        return [Generation(context + self.prompt.format_map(example.inputs), self.stop, self.max_tokens)]

    def prediction(self, example: Example, responses: Sequence[Response]) -> TextPrediction:
        """Return what was written."""
        (response,) = responses
        return TextPrediction(str(response))

    def fewshot_example(self, example: Example) -> str:
        """Return the prompt with the right answer after it."""
        return self.prompt.format_map(example.inputs) + str(example.target)

    def _least_room(self, example: Example, tokenizer: Any) -> int:
        """Return the tokens of the prompt without texts and of the answer, and some more."""
        prompt, answer = self.prompt.format_map(dict.fromkeys(distinct_fields(self.prompt), "")), str(example.target)
        return sum(len(encode_text(tokenizer, text)) for text in (prompt, answer)) + 9

    def _answer_fields(self) -> list[str]:
        """Return the fields that the answer alone reads."""
        asked = prompt_fields(self.prompt)
        return [field for field in prompt_fields(self.answer) if field not in asked]

    def _extracted(self, answer: str) -> str | None:
        if self.extract is None:
            return answer
        with _in_time("extract"):
            found = search(self.extract, answer)
        return None if found is None else next((group for group in found.groups() if group), found[0])

    def _bare(self, text: str) -> str:
        for pattern in self.ignore:
            with _in_time("ignore"):
                text = sub(pattern, "", text)
        return text.strip()


@contextmanager
def _in_time(option: str) -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise UsageError(f"--{option}: {error} on one answer", "Write it without repetitions in each other.") from None
