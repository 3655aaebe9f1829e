"""A finished run of a classification: labels with their probabilities, and a report beside the baselines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from gpt_tasks.backbone.precision import resolve_precision
from gpt_tasks.data.sources import Source
from gpt_tasks.data.splits import load_examples
from gpt_tasks.evaluation.baselines import load_baselines
from gpt_tasks.evaluation.evaluate import evaluate_examples
from gpt_tasks.evaluation.predictor import Predictor
from gpt_tasks.evaluation.report import Report
from gpt_tasks.heads.model import TaskModel
from gpt_tasks.tasks.classification import ClassificationTask
from gpt_tasks.training.run import Run
from gpt_tasks.types import Example, Prediction


class ClassificationRun(Run[ClassificationTask, Prediction]):
    """A model that was fine-tuned to tell labels."""

    family = ClassificationTask

    @cached_property
    def predictor(self) -> Predictor:
        """The model with its task, loaded when it is first asked for."""
        with self._guarded():
            saved, task, device = self._saved()
            assert saved.head is not None
            return Predictor(
                task=task,
                model=TaskModel(saved.backbone.model.base_model, saved.head).to(device),
                tokenizer=saved.backbone.tokenizer,
                max_length=self.record["settings"]["max_length"],
                batch_tokens=self.record["settings"]["batch_tokens"],
                precision=resolve_precision(self._precision, device),
            )

    @property
    def task(self) -> ClassificationTask:
        """The task, with the labels and the prompt that it was trained with."""
        return self.predictor.task

    def _reads(self) -> Sequence[str]:
        return self.task.inputs or super()._reads()

    def _answers(self, examples: Iterable[Example]) -> Iterator[tuple[Example, Prediction]]:
        return self.predictor.predict(examples)

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
