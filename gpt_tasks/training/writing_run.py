"""A finished run of a model that writes: its answers, and a report of them beside those that cost nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from gpt_tasks.backbone.precision import resolve_precision, resolve_writing_precision
from gpt_tasks.data.examples import stream_examples
from gpt_tasks.data.sources import Source
from gpt_tasks.evaluation.measured import evaluate_measured
from gpt_tasks.evaluation.report import Report
from gpt_tasks.evaluation.written import GREEDY, AnswerWriter
from gpt_tasks.generation.generator import Generator
from gpt_tasks.heads.language_model import LanguageModel
from gpt_tasks.tasks.text_to_text import TextToTextTask
from gpt_tasks.training.run import Run
from gpt_tasks.types import Example


class WritingRun(Run[TextToTextTask, str]):
    """A model that was fine-tuned to write answers."""

    family = TextToTextTask

    @cached_property
    def answering(self) -> AnswerWriter:
        """The model with its task, loaded when it is first asked for."""
        with self._guarded():
            saved, task, device = self._saved()
            writes = resolve_writing_precision(self._precision, device)
            causal_lm: Any = saved.backbone.model
            causal_lm = causal_lm.to(device).eval()
            tokenizer, window = saved.backbone.tokenizer, saved.backbone.context_length
            return AnswerWriter(
                task=task,
                model=LanguageModel(causal_lm.base_model, causal_lm).eval(),
                writer=Generator(causal_lm, tokenizer, window=window, precision=writes),
                tokenizer=tokenizer,
                max_length=self.record["settings"]["max_length"],
                batch_tokens=self.record["settings"]["batch_tokens"],
                # How likely the right answers are is read off the weights as they are.
                precision=resolve_precision("auto", device) if writes == "int8" else writes,
                decoding=self._decoding or GREEDY,
            )

    @property
    def task(self) -> TextToTextTask:
        """The task, with the prompt that it was trained with."""
        return self.answering.task

    def _answers(self, examples: Iterable[Example]) -> Iterator[tuple[Example, str]]:
        return self.answering.predict(examples)

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
        answering, notes = self.answering, source.notes
        if answering.writer.precision == "int8":
            notes = (*notes, f"The answers are written in int8, perplexity is computed in {answering.precision}.")
        return evaluate_measured(
            answering,
            stream_examples(self.task, source, split, columns=columns, need_labels=True),
            split=split,
            training=self.report.training,
            notes=notes,
            output=output,
        )
