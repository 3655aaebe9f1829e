"""A finished run of a model with a head: what it answers, and a report of that."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from gpt_tasks.backbone.precision import resolve_precision
from gpt_tasks.data.examples import stream_examples
from gpt_tasks.data.sources import Source
from gpt_tasks.data.splits import load_examples
from gpt_tasks.evaluation.baselines import load_baselines
from gpt_tasks.evaluation.evaluate import evaluate_examples
from gpt_tasks.evaluation.measured import HeadAnswers, evaluate_measured
from gpt_tasks.evaluation.predictor import Predictor
from gpt_tasks.evaluation.report import Report
from gpt_tasks.evaluation.spanned import SpanFinder
from gpt_tasks.heads.model import TaskModel
from gpt_tasks.tasks.classification import ClassificationTask
from gpt_tasks.tasks.headed import HeadTask, MeasuredTask
from gpt_tasks.tasks.span import SpanTask
from gpt_tasks.training.run import Run
from gpt_tasks.types import Example, MultiLabelPrediction, Prediction, SpanAnswer

HeadTaskT = TypeVar("HeadTaskT", bound=HeadTask | SpanTask)
AnswerT = TypeVar("AnswerT", bound=Prediction | MultiLabelPrediction | SpanAnswer | float)


class HeadRun(Run[HeadTaskT, AnswerT]):
    """A model that was fine-tuned with a head; `answering` says what makes answers of its logits."""

    answering: ClassVar[Callable[..., Any]] = Predictor

    @cached_property
    def predictor(self) -> Any:
        """The model with its task, loaded when it is first asked for."""
        with self._guarded():
            saved, task, device = self._saved()
            assert saved.head is not None
            return self.answering(
                task=task,
                model=TaskModel(saved.transformer, saved.head, loss=task.loss).to(device),
                tokenizer=saved.backbone.tokenizer,
                max_length=self.record["settings"]["max_length"],
                batch_tokens=self.record["settings"]["batch_tokens"],
                precision=resolve_precision(self._precision, device),
            )

    @property
    def task(self) -> HeadTaskT:
        """The task, as training settled it."""
        task: HeadTaskT = self.predictor.task
        return task

    def _answers(self, examples: Iterable[Example]) -> Iterator[tuple[Example, AnswerT]]:
        answered: Iterator[tuple[Example, Any]] = self.predictor.predict(examples)
        return answered


class ClassificationRun(HeadRun[ClassificationTask, Prediction]):
    """A model that was fine-tuned to tell labels."""

    family = ClassificationTask
    sliced = True

    def _reads(self) -> Sequence[str]:
        return self.task.inputs or super()._reads()

    def _evaluated(
        self,
        source: Source,
        split: str,
        columns: Mapping[str, str],
        *,
        by: str | None,
        scratch: Path,
        output: Path | None,
    ) -> Report:
        baselines = load_baselines(self._folder.baselines)
        return evaluate_examples(
            self.predictor,
            load_examples(self.task, source, split, columns=columns, by=by, scratch=scratch),
            split=split,
            metrics=[self._plugins.registry.metrics[name] for name in self.task.metrics],
            baselines=baselines,
            by=by,
            training=self.report.training,
            notes=(*source.notes, *baselines.notes),
            output=output,
        )


class MeasuredRun(HeadRun[MeasuredTask, Prediction | MultiLabelPrediction | float]):
    """A model that was fine-tuned to tell all labels that are right, a number, or which of several choices is right."""

    family = MeasuredTask

    def _reads(self) -> Sequence[str]:
        return self.task.inputs or super()._reads()

    def _evaluated(
        self,
        source: Source,
        split: str,
        columns: Mapping[str, str],
        *,
        by: str | None,
        scratch: Path,
        output: Path | None,
    ) -> Report:
        baselines = None if self.task.loss == "choice" else load_baselines(self._folder.baselines)
        return evaluate_measured(
            HeadAnswers(self.predictor, baselines),
            load_examples(self.task, source, split, columns=columns, scratch=scratch),
            split=split,
            training=self.report.training,
            notes=(*source.notes, *(baselines.notes if baselines else ())),
            output=output,
        )


class SpanRun(HeadRun[SpanTask, SpanAnswer]):
    """A model that was fine-tuned to find answers in contexts."""

    family = SpanTask
    answering = SpanFinder

    def _evaluated(
        self,
        source: Source,
        split: str,
        columns: Mapping[str, str],
        *,
        by: str | None,
        scratch: Path,
        output: Path | None,
    ) -> Report:
        return evaluate_measured(
            self.predictor,
            stream_examples(self.task, source, split, columns=columns, need_labels=True),
            split=split,
            training=self.report.training,
            notes=source.notes,
            output=output,
        )
