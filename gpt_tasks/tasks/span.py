"""Extractive question answering: the answer is a stretch of a context, or there is none."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any, ClassVar, Literal, Self

from pydantic import Field

from gpt_tasks.errors import DataError, UsageError
from gpt_tasks.tasks.base import Task, TaskOptions, text_of
from gpt_tasks.tasks.generative_qa import AnswerOptions, GenerativeQATask
from gpt_tasks.tasks.headed import Loss
from gpt_tasks.tasks.measures import Part
from gpt_tasks.tasks.span_answers import CONTEXT, QUESTION, Span, read_answers
from gpt_tasks.tasks.span_measures import Language, span_measures
from gpt_tasks.tasks.text_measures import TextMeasure
from gpt_tasks.types import Example, Row, SpanAnswer

ANSWERS, IMPOSSIBLE = "answers", "is_impossible"
Mode = Literal["extractive", "generative"]
# Chinese characters stand by themselves, other letters and digits in words.
_WORD = re.compile(r"[\u3400-\u9fff]|[^\W\u3400-\u9fff]+")


class SpanOptions(AnswerOptions):
    """The options of every task whose answers stand in a context."""

    mode: Mode | None = Field(None, description="Whether answers are found in the context, or written behind it.")
    stride: int | None = Field(None, ge=0, description="Tokens that windows of a long context have in common.")
    n_best: int | None = Field(None, ge=1, description="So many answers are given with their probabilities.")


class SpanTask(Task):
    """An answer that is copied from a context, for a question about it.

    The question stands before the context, because a causal model cannot look ahead, and a context that is too long is
    read in windows. A row's `answers` are {"text": [...], "answer_start": [...]} or a list of such objects; a question
    without one has no answer, and where training data hold such questions the model may say so: from a probability on
    (`above`) that is chosen on validation. With the option `mode` the answer is written instead.
    """

    columns: ClassVar[Mapping[str, str]] = {QUESTION: QUESTION, CONTEXT: CONTEXT, ANSWERS: ANSWERS}
    prompt: str = "{question}\n{context}"
    mode: Mode = "extractive"
    language: Language = "en"
    stride: int = 64
    longest_answer: int = 30
    n_best: int = 20
    unanswerable: bool = False
    above: float = 0.5
    metrics: ClassVar[Sequence[str]] = ("exact_match", "f1")
    loss: ClassVar[Loss] = "span"
    trains: ClassVar[bool] = True
    head: ClassVar[str] = "span"
    best_by: ClassVar[str] = "f1"
    Options: ClassVar[type[TaskOptions]] = SpanOptions

    @property
    def measures(self) -> Sequence[TextMeasure]:
        """Exact match and F1; where there may be no answer, also of the questions that have one and have none."""
        return span_measures(self.language, unanswerable=self.unanswerable)

    def configured(self, options: TaskOptions) -> Self:
        """Return this task with its options applied. Raises UsageError for those that its mode has no use for."""
        task = super().configured(options)
        for name in ("stride", "n_best"):
            if task.mode == "generative" and getattr(options, name) is not None:
                raise UsageError(
                    f"--{name.replace('_', '-')} is for answers that are found, not for --mode generative",
                    "Leave it out.",
                )
        return task

    def resolved(self) -> Task:
        """Return this task, or that of answers that are written."""
        return self if self.mode == "extractive" else GenerativeQATask(self)

    def untrained(self) -> Task:
        """Return the task of answers that are written: without training nothing finds them."""
        return GenerativeQATask(self)

    def fields(self, available: Sequence[str], mapping: Mapping[str, str], where: str) -> dict[str, str]:
        """Choose the columns of question, context and answers, and the one that says that there is none, if any."""
        known = [QUESTION, CONTEXT, ANSWERS, IMPOSSIBLE]
        odd = [field for field in mapping if field not in known]
        if odd:
            raise DataError(
                f"--column {odd[0]}={mapping[odd[0]]}: task '{self.name}' has no field '{odd[0]}'",
                f"Its fields are {', '.join(known)}.",
            )
        chosen = {field: mapping.get(field, self.columns.get(field, field)) for field in known}
        if chosen[IMPOSSIBLE] not in available and IMPOSSIBLE not in mapping:
            del chosen[IMPOSSIBLE]
        for field, column in chosen.items():
            if column not in available:
                raise DataError(
                    f"{where}: there is no column '{column}'; the columns are {', '.join(available)}",
                    f"Say which one holds it: --column {field}=NAME",
                )
        return chosen

    def asked_fields(self, available: Sequence[str], mapping: Mapping[str, str], where: str) -> dict[str, str]:
        """Choose the columns of question and context alone."""
        answers = mapping.get(ANSWERS, self.columns.get(ANSWERS, ANSWERS))
        chosen = self.fields([*available, answers], mapping, where)
        return {field: chosen[field] for field in (QUESTION, CONTEXT)}

    def example(self, row: Row, columns: Mapping[str, str], extra: Sequence[str] = ()) -> Example:
        """Read one row; its target is the answers as JSON: texts, and where they start as far as it is told."""
        inputs = {field: text_of(row, columns[field]) for field in (QUESTION, CONTEXT)}
        kept = {column: "" if row.values.get(column) is None else str(row.values[column]) for column in extra}
        if ANSWERS not in columns:
            return Example(inputs, None, row.where, kept)
        answers = read_answers(row, columns[ANSWERS], columns.get(IMPOSSIBLE))
        target = json.dumps([[answer.text, answer.start] for answer in answers], ensure_ascii=False)
        return Example(inputs, target, row.where, kept)

    def right(self, example: Example) -> tuple[Span, ...]:
        """Return the right answers; none where the question has none."""
        return tuple(Span(text, start) for text, start in json.loads(str(example.target)))

    def measure(self, example: Example, answer: SpanAnswer) -> Mapping[str, Part]:
        """Compare the answer with the right ones."""
        references = [span.text for span in self.right(example)]
        return {measure.name: measure.part(answer.text, references) for measure in self.measures}

    def naive(self, example: Example) -> SpanAnswer:
        """The longest run of words that question and context have in common."""
        context = example.inputs[CONTEXT]
        words = list(_WORD.finditer(context))
        asked = [word[0].lower() for word in _WORD.finditer(example.inputs[QUESTION])]
        matcher = SequenceMatcher(None, [word[0].lower() for word in words], asked, autojunk=False)
        run = matcher.find_longest_match()
        if not run.size:
            return SpanAnswer("", 0, 0, 1.0, ())
        start, end = words[run.a].start(), words[run.a + run.size - 1].end()
        return SpanAnswer(context[start:end], start, end, 1.0, ())

    def state(self) -> dict[str, Any]:
        """All that options, training data and validation have settled."""
        names = ("mode", "language", "stride", "longest_answer", "n_best", "unanswerable", "above")
        return {name: getattr(self, name) for name in names}
