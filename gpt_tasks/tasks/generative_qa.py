"""Generative question answering: the answer is written after the context and the question."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field

from gpt_tasks.extensions import Metric
from gpt_tasks.metrics.squad import Language
from gpt_tasks.tasks.base import TrainingExamples
from gpt_tasks.tasks.fixtures import Fixtures, longer_inputs
from gpt_tasks.tasks.options import TaskOptions
from gpt_tasks.tasks.span_answers import CONTEXT, QUESTION
from gpt_tasks.tasks.text_to_text import TextToTextTask
from gpt_tasks.types import Example, Row

if TYPE_CHECKING:
    from gpt_tasks.tasks.span import SpanTask


class AnswerOptions(TaskOptions):
    """The options of every task whose answers are those of a context, found or written."""

    language: Language | None = Field(
        None, description="By whose evaluation answers are compared: SQuAD's, MLQA's for German, CMRC 2018's."
    )
    longest_answer: int | None = Field(None, ge=1, description="The most tokens of an answer.")


class GenerativeQATask(TextToTextTask):
    """A task of answers in a context, generated instead of extracted.

    It reads the same data, and has the same metrics. Where there is no answer, the target is empty.
    """

    prompt = "{context}\nQuestion: {question}\nAnswer:"
    answer = " {answers}"
    may_answer_nothing = True
    cluster = CONTEXT
    Options = AnswerOptions

    def __init__(self, found: SpanTask) -> None:
        self.found = found
        self.name = found.name  # type: ignore[misc]
        self.columns = found.columns  # type: ignore[misc]
        self.language = found.language
        self.longest_answer = self.max_tokens = found.longest_answer

    def configured(self, options: TaskOptions) -> Self:
        """Return this task with its options applied."""
        return type(self)(self.found.configured(options))

    @property
    def description(self) -> str:
        """That of the task."""
        return self.found.description

    @property
    def own_metrics(self) -> Sequence[Metric]:  # type: ignore[override]
        """Those of answers that are found."""
        return self.found.own_metrics

    @property
    def metrics(self) -> Sequence[str]:  # type: ignore[override]
        """All of them."""
        return self.found.metrics

    def samples(self) -> Path | None:
        """Return the task's samples."""
        return self.found.samples()

    def fields(self, available: Sequence[str], mapping: Mapping[str, str], where: str) -> dict[str, str]:
        """Choose the columns as for answers that are found."""
        return self.found.fields(available, mapping, where)

    def input_fields(self, available: Sequence[str], mapping: Mapping[str, str], where: str) -> dict[str, str]:
        """Choose the columns as for answers that are found."""
        return self.found.input_fields(available, mapping, where)

    def example(self, row: Row, columns: Mapping[str, str], extra: Sequence[str] = ()) -> Example:
        """Read one row; where the question has no answer, the target is empty."""
        example = self.found.example(row, columns, extra)
        if example.target is None:
            return example
        texts = [self.answer.format(answers=span.text) for span in self.found.spans(example)]
        references = tuple(dict.fromkeys(texts)) or ("",)
        return replace(example, target=references[0], references=references)

    def fit(self, train: TrainingExamples, where: str) -> Self:
        """Note whether there are questions without an answer."""
        task = copy.copy(self)
        task.found = copy.copy(self.found)
        task.found.unanswerable = any(not example.target for example in train)
        return task

    def compared(self, example: Example, prediction: str) -> tuple[str, Sequence[str]]:
        """Return what was written, and the right answers."""
        return self.plain(prediction), self.references(example)

    def references(self, example: Example) -> tuple[str, ...]:
        """Return the right answers; none where the question has none."""
        return tuple(reference for reference in super().references(example) if reference)

    def shown(self, example: Example) -> Mapping[str, str]:
        """Return the question."""
        return {QUESTION: example.inputs[QUESTION]}

    def baselines(self, example: Example) -> Mapping[str, str]:
        """The longest run of words that question and context have in common."""
        return {"longest_shared": self.found.baseline(example).text}

    def fixtures(self) -> Fixtures:
        """As of any text; rows and other answers are those of answers that are found."""
        found = self.found.fixtures()
        return replace(
            super().fixtures(),
            retarget=found.retarget,
            row=found.row,
            target_key=found.target_key,
            lengthen=lambda example: longer_inputs(example, CONTEXT),
        )

    def state(self) -> dict[str, Any]:
        """What the task needs to be this one again."""
        return self.found.state()
