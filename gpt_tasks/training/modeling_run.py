"""A finished run of a model that foretells texts: a report of how well it does. To let it write is for `generate`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Never

from gpt_tasks.backbone.precision import resolve_precision
from gpt_tasks.data.examples import stream_examples
from gpt_tasks.data.sources import Source
from gpt_tasks.errors import UsageError
from gpt_tasks.evaluation.modeled import evaluate_modeled
from gpt_tasks.evaluation.report import Report
from gpt_tasks.tasks.language_modeling import LanguageModelingTask
from gpt_tasks.training.run import Run
from gpt_tasks.types import Example

if TYPE_CHECKING:
    import torch

    from gpt_tasks.heads.saved import SavedModel


class ModelingRun(Run[LanguageModelingTask, Never]):
    """A model that was fine-tuned to texts."""

    family = LanguageModelingTask

    @cached_property
    def _opened_model(self) -> tuple[SavedModel, LanguageModelingTask, torch.device]:
        with self._guarded():
            return self._saved()

    @property
    def task(self) -> LanguageModelingTask:
        """The task, with the prompt that it was trained with."""
        return self._opened_model[1]

    def _answers(self, examples: Iterable[Example]) -> Iterator[tuple[Example, Never]]:
        raise UsageError(
            f"The run in {self.path} answers nothing: it writes on", f'Take gpt-tasks generate {self.path} "TEXT"'
        )

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
        saved, task, device = self._opened_model
        return evaluate_modeled(
            task,
            saved.backbone,
            stream_examples(task, source, split, columns=columns, need_labels=True),
            split=split,
            device=device,
            precision=resolve_precision(self._precision, device),
            training=self.report.training,
            notes=source.notes,
            output=output,
        )
