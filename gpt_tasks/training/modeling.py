"""The fine-tuning of a language model to texts like those that it is shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from gpt_tasks.backbone.load import open_backbone
from gpt_tasks.data.encoded import EncodedExamples
from gpt_tasks.evaluation.modeled import evaluate_modeled
from gpt_tasks.evaluation.report import Report
from gpt_tasks.plugins import Plugins
from gpt_tasks.tasks.base import Task
from gpt_tasks.tasks.language_modeling import LanguageModelingTask
from gpt_tasks.training.causal import CausalSession


@dataclass
class ModelingSession(CausalSession):
    """A fine-tuning to write as texts are written."""

    task: LanguageModelingTask

    @staticmethod
    def directions(task: Task, plugins: Plugins) -> Mapping[str, str]:
        """Nothing but the loss is measured on the way."""
        return {}

    def judge(self, validation: EncodedExamples) -> Mapping[str, float]:
        """Return the loss by token, the end of each text among them."""
        return {"loss": self.loss(validation)}

    def finish(self) -> Report:
        """Save the model; report how well it foretells the test split, beside the backbone as it was."""
        self.save()
        return evaluate_modeled(
            self.task,
            self.backbone,
            self.splits.test,
            split="test",
            device=torch.device(self.settings.device),
            precision=self.settings.precision,
            before=open_backbone(self.backbone.location),
            training=self.training,
            notes=self.splits.notes,
            output=self.folder.path,
        )
