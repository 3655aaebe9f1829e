"""The fine-tuning of a model that writes: the loss on its answers, validation by what it writes, what is left of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice

from gpt_tasks.data.encoded import EncodedExamples
from gpt_tasks.evaluation.measured import evaluate_measured
from gpt_tasks.evaluation.report import Report
from gpt_tasks.evaluation.written import PERPLEXITY, AnswerWriter
from gpt_tasks.generation.decoding import end_also_at
from gpt_tasks.generation.generator import Generator
from gpt_tasks.heads.language_model import LanguageModel
from gpt_tasks.plugins import Plugins
from gpt_tasks.processes import all_gather, rank, world_size
from gpt_tasks.scoring.results import figure
from gpt_tasks.tasks.base import Task
from gpt_tasks.tasks.text_to_text import TextToTextTask
from gpt_tasks.training.causal import CausalSession

# So many examples of validation are answered on the way.
MOST_WRITTEN = 100


@dataclass
class WritingSession(CausalSession):
    """A fine-tuning to write answers."""

    task: TextToTextTask

    @staticmethod
    def directions(task: Task, plugins: Plugins) -> Mapping[str, str]:
        """Return the directions of perplexity and of the task's metrics."""
        assert isinstance(task, TextToTextTask)
        measures = {measure.name: measure.better for measure in task.measures if measure.name in task.metrics}
        return {PERPLEXITY.name: PERPLEXITY.better, **measures}

    @property
    def answering(self) -> AnswerWriter:
        """The model as it is now, with its task."""
        backbone, settings = self.backbone, self.settings
        return AnswerWriter(
            self.task,
            self.model,
            Generator(backbone.model, backbone.tokenizer, window=backbone.context_length, precision=settings.precision),
            backbone.tokenizer,
            settings.max_length,
            settings.batch_tokens,
            settings.precision,
        )

    def build(self) -> LanguageModel:
        """Settle the task by the training data, and give the backbone what the task needs."""
        self.task = self.task.settled(self.splits.train)
        tokenizer, model = self.backbone.tokenizer, self.backbone.model
        end_also_at(model, tokenizer, self.task.prepare(tokenizer))
        return super().build()

    def judge(self, validation: EncodedExamples) -> Mapping[str, float]:
        """Return the loss by token, and the metrics of what is written about the first 100 examples."""
        answering, loss = self.answering, self.loss(validation)
        few = list(islice(self.splits.validation, rank(), MOST_WRITTEN, world_size()))
        answers = [each.text for each in answering.write(few)] if few else []
        found = [dict(self.task.measure(example, [text])) for example, text in zip(few, answers, strict=True)]
        everyone = [part for some in all_gather(found) for part in some]
        measured = {
            measure.name: figure(measure, [parts[measure.name] for parts in everyone]).value
            for measure in answering.measures[1:]
        }
        return {"loss": loss, PERPLEXITY.name: math.exp(loss), **measured}

    def finish(self) -> Report:
        """Save the model; report what it writes on the test split, beside answers that cost nothing."""
        self.save()
        return evaluate_measured(
            self.answering,
            self.splits.test,
            split="test",
            training=self.training,
            notes=self.splits.notes,
            output=self.folder.path,
        )
