"""A finished run of extractive question answering."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from gpt_tasks.backbone.precision import resolve_precision
from gpt_tasks.data.examples import stream_examples
from gpt_tasks.data.sources import Source
from gpt_tasks.errors import UsageError
from gpt_tasks.evaluation.measured import evaluate_measured
from gpt_tasks.evaluation.report import Report
from gpt_tasks.evaluation.spanned import SpanFinder
from gpt_tasks.heads.model import TaskModel
from gpt_tasks.tasks.span import CONTEXT, QUESTION, SpanTask
from gpt_tasks.training.run import Run
from gpt_tasks.types import Example, SpanAnswer


class SpanRun(Run[SpanTask, SpanAnswer]):
    """A model that was fine-tuned to find answers in contexts."""

    family = SpanTask

    @cached_property
    def finder(self) -> SpanFinder:
        """The model with its task, loaded when it is first asked for."""
        with self._guarded():
            saved, task, device = self._saved()
            assert saved.head is not None
            return SpanFinder(
                task=task,
                model=TaskModel(saved.backbone.model.base_model, saved.head, loss="span").to(device),
                tokenizer=saved.backbone.tokenizer,
                max_length=self.record["settings"]["max_length"],
                batch_tokens=self.record["settings"]["batch_tokens"],
                precision=resolve_precision(self._precision, device),
            )

    @property
    def task(self) -> SpanTask:
        """The task, as training settled it."""
        return self.finder.task

    def _reads(self) -> Sequence[str]:
        return (QUESTION, CONTEXT)

    def _answers(self, examples: Iterable[Example]) -> Iterator[tuple[Example, SpanAnswer]]:
        return self.finder.predict(examples)

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
        if by is not None:
            raise UsageError(f"--by {by} is for tasks of one label", "Leave it out.")
        return evaluate_measured(
            self.finder,
            stream_examples(self.task, source, split, columns=columns, need_labels=True),
            split=split,
            training=self.report.training,
            notes=source.notes,
            output=output,
        )
