"""Cloze: how likely is the one right ending of a text, and would greedy decoding write it?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from gpt_tasks.extensions import Metric
from gpt_tasks.metrics.aggregate import perplexity
from gpt_tasks.tasks.fixtures import SENTENCES, Fixtures, with_column
from gpt_tasks.tasks.options import TaskOptions
from gpt_tasks.tasks.prompted import PromptedTask, PromptOptions
from gpt_tasks.tasks.prompts import distinct_fields, prompt_fields
from gpt_tasks.tasks.reading import extra_columns, plain_text
from gpt_tasks.types import Continuation, Example, LogLikelihood, Request, Response, Row, Statistic


class ClozeOptions(PromptOptions):
    """The options of every cloze task."""

    ending: str | None = Field(None, description="How the right ending reads, as in ' {target}'.")


class ClozeTask(PromptedTask):
    """A text and its ending: accuracy is the share of endings that greedy decoding would write.

    A prediction is the log-likelihood of the right ending.
    """

    prompt: str = "{context}"
    ending: str = " {target}"
    metrics: Sequence[str] = ("accuracy", "perplexity")
    own_metrics: Sequence[Metric] = (
        Metric("accuracy", "Share of endings that greedy decoding writes."),
        perplexity("perplexity"),
    )
    columns: ClassVar[Mapping[str, str]] = {}
    Options: ClassVar[type[TaskOptions]] = ClozeOptions

    def field_names(self) -> list[str]:
        """Return the fields of the prompt and of the ending."""
        return distinct_fields(self.prompt, self.ending)

    def example(self, row: Row, columns: Mapping[str, str], extra: Sequence[str] = ()) -> Example:
        """Read one row; its target is the ending."""
        texts = {name: plain_text(row, column) for name, column in columns.items()}
        return Example(texts, self.ending.format_map(texts), row.where, extra_columns(row, extra))

    def score(self, example: Example, prediction: LogLikelihood) -> Mapping[str, Statistic]:
        """Perplexity is per ending, regardless of its number of tokens."""
        return {"accuracy": Statistic(float(prediction.is_greedy)), "perplexity": Statistic(-prediction.value)}

    def to_json(self, prediction: LogLikelihood) -> dict[str, Any]:
        """Return whether the ending is what the model writes, and its log-likelihood."""
        return log_likelihood_to_json(prediction)

    def to_text(self, prediction: LogLikelihood) -> str:
        """Return the log-likelihood."""
        return f"{prediction.value:.2f}"

    def display(self, example: Example, prediction: LogLikelihood) -> None:
        """Show nothing: there is no answer to show."""

    def requests(self, example: Example, context: str) -> list[Request]:
        """Request the likelihood of the ending."""
        return [Continuation(context + self.prompt.format_map(example.inputs), str(example.target))]

    def prediction(self, example: Example, responses: Sequence[Response]) -> LogLikelihood:
        """Return the log-likelihood of the ending."""
        (response,) = responses
        assert isinstance(response, LogLikelihood)
        return response

    def fewshot_example(self, example: Example) -> str:
        """Return the whole text."""
        return self.prompt.format_map(example.inputs) + str(example.target)

    def fixtures(self) -> Fixtures:
        """A certain ending, another ending, and rows of made-up texts."""
        asked = prompt_fields(self.prompt)
        endings = [field for field in prompt_fields(self.ending) if field not in asked] or prompt_fields(self.ending)

        def retarget(row: Row, other: Row, columns: Mapping[str, str]) -> Row:
            return with_column(row, **{columns[field]: other.values.get(columns[field]) for field in endings})

        def made_up(number: int) -> Mapping[str, Any]:
            text, word = SENTENCES[number % len(SENTENCES)]
            values = {**dict.fromkeys(asked, text), **dict.fromkeys(endings, word)}
            return {self.columns.get(field, field): value for field, value in values.items()}

        return Fixtures(gold=lambda example: LogLikelihood(0.0, True, 1), retarget=retarget, row=made_up)


def log_likelihood_to_json(prediction: LogLikelihood) -> dict[str, Any]:
    """Return a log-likelihood as JSON values."""
    return {"predicted": round(prediction.value, 6), "is_greedy": prediction.is_greedy, "tokens": prediction.tokens}
