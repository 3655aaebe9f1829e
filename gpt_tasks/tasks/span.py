"""Extractive question answering: the answer is a span of a context, or there is none."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any, ClassVar, Literal, Self

from pydantic import Field

from gpt_tasks.errors import UsageError
from gpt_tasks.extensions import Metric
from gpt_tasks.metrics.squad import Language, squad_metrics
from gpt_tasks.tasks.base import Task, TrainingExamples
from gpt_tasks.tasks.card import Display, TaskCard
from gpt_tasks.tasks.encoding import encode_text
from gpt_tasks.tasks.fixtures import SENTENCES, Fixtures, longer_inputs, with_column
from gpt_tasks.tasks.generative_qa import AnswerOptions, GenerativeQATask
from gpt_tasks.tasks.options import TaskOptions
from gpt_tasks.tasks.reading import choose_columns, extra_columns, refuse_unknown_fields, require_columns, text_of
from gpt_tasks.tasks.span_answers import CONTEXT, QUESTION, Span, read_answers
from gpt_tasks.tasks.text_to_text import ODD_TEXTS
from gpt_tasks.types import Example, Row, SpanAnswer
from gpt_tasks.words import folded, word_spans, words

ANSWERS, IMPOSSIBLE = "answers", "is_impossible"
Mode = Literal["extractive", "generative"]
# Chinese characters are words, other letters and digits form words.


class SpanOptions(AnswerOptions):
    """The options of every task whose answers are in a context."""

    mode: Mode | None = Field(None, description="Whether answers are found in the context, or written after it.")
    stride: int | None = Field(None, ge=0, description="Tokens that windows of a long context have in common.")
    n_best: int | None = Field(None, ge=1, description="So many answers are given with their probabilities.")


class SpanTask(Task):
    """An answer that is copied from a context, for a question about it.

    The question comes before the context, because a causal model cannot look ahead, and a context that is too long is
    read in windows. A row's `answers` are {"text": [...], "answer_start": [...]} or a list of such objects; a question
    without one has no answer, and where training data hold such questions the model may say so: above a probability
    (`above`) that is chosen on validation. With the option `mode` the answer is generated instead.
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
    best_metric: str = "f1"
    learner: ClassVar[str | None] = "span"
    head: ClassVar[str | None] = "span"
    cluster: ClassVar[str] = CONTEXT
    Options: ClassVar[type[TaskOptions]] = SpanOptions

    @property
    def own_metrics(self) -> Sequence[Metric]:  # type: ignore[override]
        """Exact match and F1; where there may be no answer, also of the questions that have one and have none."""
        return squad_metrics(self.language, unanswerable=self.unanswerable)

    @property
    def metrics(self) -> Sequence[str]:  # type: ignore[override]
        """All of them."""
        return [metric.name for metric in self.own_metrics]

    def configured(self, options: TaskOptions) -> Self:
        """Return this task with its options applied. Raises UsageError for those that do not apply to its mode."""
        task = super().configured(options)
        for name in ("stride", "n_best"):
            if task.mode == "generative" and getattr(options, name) is not None:
                raise UsageError(
                    f"--{name.replace('_', '-')} is for answers that are found, not for --mode generative: "
                    f"{getattr(options, name)}",
                    "Leave it out.",
                )
        return task

    def resolved(self) -> Task:
        """Return this task, or that of answers that are generated."""
        return self if self.mode == "extractive" else GenerativeQATask(self)

    def zero_shot(self) -> Task:
        """Return the task of answers that are generated: extraction needs training."""
        return GenerativeQATask(self)

    def fields(self, available: Sequence[str], mapping: Mapping[str, str], where: str) -> dict[str, str]:
        """Choose the columns of question, context and answers, and the one that says that there is none, if any."""
        known = [QUESTION, CONTEXT, ANSWERS, IMPOSSIBLE]
        refuse_unknown_fields(self.name, known, mapping)
        chosen = choose_columns(known, self.columns, mapping)
        if chosen[IMPOSSIBLE] not in available and IMPOSSIBLE not in mapping:
            del chosen[IMPOSSIBLE]
        require_columns(chosen, available, where)
        return chosen

    def input_fields(self, available: Sequence[str], mapping: Mapping[str, str], where: str) -> dict[str, str]:
        """Choose the columns of question and context alone."""
        answers = mapping.get(ANSWERS, self.columns.get(ANSWERS, ANSWERS))
        chosen = self.fields([*available, answers], mapping, where)
        return {field: chosen[field] for field in (QUESTION, CONTEXT)}

    def example(self, row: Row, columns: Mapping[str, str], extra: Sequence[str] = ()) -> Example:
        """Read one row; its target is the answers as JSON: texts, and where they start as far as the data say."""
        inputs = {field: text_of(row, columns[field]) for field in (QUESTION, CONTEXT)}
        others = extra_columns(row, extra)
        if ANSWERS not in columns:
            return Example(inputs, None, row.where, others)
        answers = read_answers(row, columns[ANSWERS], columns.get(IMPOSSIBLE))
        target = json.dumps([[answer.text, answer.start] for answer in answers], ensure_ascii=False)
        return Example(inputs, target, row.where, others)

    def fit(self, train: TrainingExamples, where: str) -> Self:
        """Note whether there are questions without an answer."""
        task = copy.copy(self)
        task.unanswerable = "[]" in train.observed
        return task

    def spans(self, example: Example) -> tuple[Span, ...]:
        """Return the right answers; none where the question has none, or where they are not known."""
        return (
            ()
            if example.target is None
            else tuple(Span(text, start) for text, start in json.loads(str(example.target)))
        )

    def references(self, example: Example) -> list[str]:
        """Return the texts of the right answers."""
        return [span.text for span in self.spans(example)]

    def plain(self, prediction: SpanAnswer) -> str:
        """Return the text of the answer."""
        return prediction.text

    def confidence(self, prediction: SpanAnswer) -> float | None:
        """Return the probability of the span."""
        return prediction.probability

    def to_json(self, prediction: SpanAnswer) -> dict[str, Any]:
        """Return the answer with its place and probability, and the best candidates."""
        return {**_span_to_json(prediction), "n_best": [_span_to_json(each) for each in prediction.candidates]}

    def pipeline_output(self, example: Example, prediction: SpanAnswer) -> Any:
        """Return the answer, its probability and its place in the context."""
        return {
            "answer": prediction.text,
            "score": prediction.probability,
            "start": prediction.start,
            "end": prediction.end,
        }

    def display(self, example: Example, prediction: SpanAnswer) -> Display:
        """Return the question, the right answers and the one given."""
        right = tuple(self.references(example)) or ("-",)
        return {QUESTION: example.inputs[QUESTION]}, right, prediction.text or "-"

    def baseline(self, example: Example) -> SpanAnswer:
        """The longest run of words that question and context have in common."""
        context = example.inputs[CONTEXT]
        places = word_spans(context)
        found = [folded(context[start:end]) for start, end in places]
        asked = words(example.inputs[QUESTION])
        run = SequenceMatcher(None, found, asked, autojunk=False).find_longest_match()
        if not run.size:
            return SpanAnswer("", 0, 0, 1.0, ())
        start, end = places[run.a][0], places[run.a + run.size - 1][1]
        return SpanAnswer(context[start:end], start, end, 1.0, ())

    def card(self) -> TaskCard:
        """Return what a model card says of answers in a context."""
        return TaskCard(
            answers="span",
            does="answers {task} with a span of the context that it is given",
            limits=("It answers by what is in the context, whether that is true or not.",),
            baselines="The baseline is the longest run of words that question and context have in common. ",
            headline="f1",
            pipeline_tag="question-answering",
        )

    def fixtures(self) -> Fixtures:
        """The right span, another row's answers, longer contexts, odd answers, and rows of made-up texts."""
        columns = {**{field: field for field in (QUESTION, CONTEXT, ANSWERS)}, **self.columns}

        def gold(example: Example) -> SpanAnswer:
            # Where nothing is right, no answer is.
            span = next(iter(self.spans(example)), Span("", 0))
            return SpanAnswer(span.text, span.start, span.end, 1.0, ())

        def retarget(row: Row, other: Row, columns: Mapping[str, str]) -> Row:
            answers = {
                columns[field]: other.values.get(columns[field]) for field in (ANSWERS, IMPOSSIBLE) if field in columns
            }
            return with_column(row, **answers)

        def row(number: int) -> Mapping[str, Any]:
            text, word = SENTENCES[number % len(SENTENCES)]
            answers = {"text": [word], "answer_start": [text.index(word)]}
            values = {QUESTION: f"What is number {number} about?", CONTEXT: text, ANSWERS: answers}
            return {columns[field]: value for field, value in values.items()}

        def target_key(row: Row) -> str:
            value = row.values.get(columns[ANSWERS])
            return str(bool(value.get("text") if isinstance(value, Mapping) else value))

        return Fixtures(
            gold=gold,
            retarget=retarget,
            lengthen=lambda example: longer_inputs(example, CONTEXT),
            row=row,
            target_key=target_key,
            room=lambda example, tokenizer: len(encode_text(tokenizer, example.inputs[QUESTION])) + 2 * self.stride + 8,
            any_predictions=lambda example: [SpanAnswer(text, 0, len(text), 0.5, ()) for text in ODD_TEXTS],
        )

    def state(self) -> dict[str, Any]:
        """Save what options, training data and validation say."""
        return {"unanswerable": self.unanswerable, "above": self.above, **super().state()}


def _span_to_json(answer: SpanAnswer) -> dict[str, Any]:
    place = {"predicted": answer.text, "start": answer.start, "end": answer.end}
    return {**place, "probability": round(answer.probability, 6)}
