"""The fine-tuning of a model that writes: the loss on its answers, validation by what it writes, what is left of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from transformers import TrainerCallback

from gpt_tasks.data.encoded import EncodedExamples
from gpt_tasks.evaluation.report import Report
from gpt_tasks.evaluation.written import PERPLEXITY, AnswerWriter, evaluate_written
from gpt_tasks.generation.ends import end_also_at
from gpt_tasks.generation.writer import Writer
from gpt_tasks.heads.language_model import LanguageModel
from gpt_tasks.heads.model import save_model
from gpt_tasks.plugins import Plugins
from gpt_tasks.processes import gathered, rank, world_size
from gpt_tasks.scoring.results import figure
from gpt_tasks.tasks.base import Task
from gpt_tasks.tasks.text_to_text import TextToTextTask
from gpt_tasks.training.session import Session
from gpt_tasks.training.trainer import TaskTrainer

# Of validation: so many examples are answered on the way, and so many are judged by their loss.
MOST_WRITTEN, MOST_JUDGED = 100, 2_000


@dataclass
class WritingSession(Session):
    """A fine-tuning to write answers."""

    task: TextToTextTask
    model: LanguageModel = field(init=False)

    @staticmethod
    def directions(task: Task, plugins: Plugins) -> Mapping[str, str]:
        """Return the directions of perplexity and of the task's metrics."""
        assert isinstance(task, TextToTextTask)
        measures = {measure.name: measure.better for measure in task.measures if measure.name in task.metrics}
        return {PERPLEXITY.name: PERPLEXITY.better, **measures}

    @property
    def reads_embedding(self) -> bool:
        """A tied output matrix is the embedding."""
        return True

    @property
    def answering(self) -> AnswerWriter:
        """The model as it is now, with its task."""
        backbone, settings = self.backbone, self.settings
        return AnswerWriter(
            self.task,
            self.model,
            Writer(backbone.model, backbone.tokenizer, window=backbone.context_length, precision=settings.precision),
            backbone.tokenizer,
            settings.max_length,
            settings.batch_tokens,
            settings.precision,
        )

    def build(self) -> LanguageModel:
        """Settle the task by the training data, and let the backbone's own output matrix foretell the answers."""
        self.task = self.task.settled(self.splits.train)
        causal_lm: Any = self.backbone.model
        end_also_at(causal_lm, self.backbone.tokenizer, self.task.prepare(self.backbone.tokenizer))
        return LanguageModel(self.method.prepare(causal_lm.base_model), causal_lm)

    def trainer(
        self, train: EncodedExamples, validation: EncodedExamples, callbacks: list[TrainerCallback]
    ) -> TaskTrainer:
        """Return what trains the backbone on the answers."""
        return TaskTrainer(
            self.model,
            self.settings,
            train=train,
            validation=validation,
            judge=self.judge,
            pad_token_id=self.backbone.tokenizer.pad_token_id,
            checkpoints=self.folder.checkpoints,
            callbacks=callbacks,
        )

    def judge(self) -> Mapping[str, float]:
        """Return the loss by token and the metrics on validation: of its first 2,000 examples and its first 100."""
        answering = self.answering
        mine = list(islice(self.splits.validation, rank(), MOST_JUDGED, world_size()))
        few = list(islice(self.splits.validation, rank(), MOST_WRITTEN, world_size()))
        answers = [each.text for each in answering.write(few)] if few else []
        found = [dict(self.task.measure(example, [text])) for example, text in zip(few, answers, strict=True)]
        everyone = [part for some in gathered(found) for part in some]
        nats = [part for some in gathered(answering.nats(mine) if mine else []) for part in some]
        measured = {
            measure.name: figure(measure, [parts[measure.name] for parts in everyone]).value
            for measure in answering.measures[1:]
        }
        perplexity = figure(PERPLEXITY, nats).value
        return {"loss": float(np.log(perplexity)), PERPLEXITY.name: perplexity, **measured}

    def finish(self) -> Report:
        """Save the model; report what it writes on the test split, beside answers that cost nothing."""
        folder = self.folder
        self.model.backbone = self.method.finish(self.model.backbone)
        save_model(folder.model, self.backbone.model, self.backbone.tokenizer, None, self.task_record("", 0))
        return evaluate_written(
            self.answering,
            self.splits.test,
            split="test",
            training=self.training,
            notes=self.splits.notes,
            output=folder.path,
        )
