"""gpt-tasks: one GPT backbone, many tasks, each a plugin."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpt_tasks.errors import DataError as DataError
    from gpt_tasks.errors import GptTasksError as GptTasksError
    from gpt_tasks.errors import UsageError as UsageError
    from gpt_tasks.evaluation.report import Report as Report
    from gpt_tasks.extensions import BackbonePreset as BackbonePreset
    from gpt_tasks.extensions import HeadSpec as HeadSpec
    from gpt_tasks.extensions import Method as Method
    from gpt_tasks.extensions import Metric as Metric
    from gpt_tasks.extensions import SourceScheme as SourceScheme
    from gpt_tasks.extensions import Suite as Suite
    from gpt_tasks.hookspecs import hookimpl as hookimpl
    from gpt_tasks.pretraining.pretrain import pretrain as pretrain
    from gpt_tasks.scoring.score import score as score
    from gpt_tasks.tasks.base import Task as Task
    from gpt_tasks.tasks.base import TaskOptions as TaskOptions
    from gpt_tasks.tasks.classification import ClassificationOptions as ClassificationOptions
    from gpt_tasks.tasks.classification import ClassificationTask as ClassificationTask
    from gpt_tasks.tasks.cloze import ClozeTask as ClozeTask
    from gpt_tasks.tasks.dialogue import DialogueTask as DialogueTask
    from gpt_tasks.tasks.headed import DELIMITER as DELIMITER
    from gpt_tasks.tasks.headed import HeadOptions as HeadOptions
    from gpt_tasks.tasks.language_modeling import LanguageModelingTask as LanguageModelingTask
    from gpt_tasks.tasks.multi_label import MultiLabelTask as MultiLabelTask
    from gpt_tasks.tasks.multiple_choice import MultipleChoiceOptions as MultipleChoiceOptions
    from gpt_tasks.tasks.multiple_choice import MultipleChoiceTask as MultipleChoiceTask
    from gpt_tasks.tasks.regression import RegressionTask as RegressionTask
    from gpt_tasks.tasks.span import SpanOptions as SpanOptions
    from gpt_tasks.tasks.span import SpanTask as SpanTask
    from gpt_tasks.tasks.text_measures import ROUGE as ROUGE
    from gpt_tasks.tasks.text_measures import TextMeasure as TextMeasure
    from gpt_tasks.tasks.text_measures import bleu as bleu
    from gpt_tasks.tasks.text_measures import chrf as chrf
    from gpt_tasks.tasks.text_measures import rouge as rouge
    from gpt_tasks.tasks.text_to_text import TextToTextOptions as TextToTextOptions
    from gpt_tasks.tasks.text_to_text import TextToTextTask as TextToTextTask
    from gpt_tasks.training.finetune import finetune as finetune
    from gpt_tasks.training.run import Run as Run
    from gpt_tasks.training.run import load as load
    from gpt_tasks.types import Event as Event
    from gpt_tasks.types import Example as Example
    from gpt_tasks.types import MultiLabelPrediction as MultiLabelPrediction
    from gpt_tasks.types import Prediction as Prediction
    from gpt_tasks.types import Row as Row
    from gpt_tasks.types import SpanAnswer as SpanAnswer

# Loaded when first asked for, so that importing gpt_tasks never waits for torch.
_HOMES = {
    "BackbonePreset": "gpt_tasks.extensions",
    "ClassificationOptions": "gpt_tasks.tasks.classification",
    "ClassificationTask": "gpt_tasks.tasks.classification",
    "ClozeTask": "gpt_tasks.tasks.cloze",
    "DELIMITER": "gpt_tasks.tasks.headed",
    "DataError": "gpt_tasks.errors",
    "DialogueTask": "gpt_tasks.tasks.dialogue",
    "Event": "gpt_tasks.types",
    "Example": "gpt_tasks.types",
    "GptTasksError": "gpt_tasks.errors",
    "HeadOptions": "gpt_tasks.tasks.headed",
    "HeadSpec": "gpt_tasks.extensions",
    "LanguageModelingTask": "gpt_tasks.tasks.language_modeling",
    "Method": "gpt_tasks.extensions",
    "Metric": "gpt_tasks.extensions",
    "MultiLabelPrediction": "gpt_tasks.types",
    "MultiLabelTask": "gpt_tasks.tasks.multi_label",
    "MultipleChoiceOptions": "gpt_tasks.tasks.multiple_choice",
    "MultipleChoiceTask": "gpt_tasks.tasks.multiple_choice",
    "Prediction": "gpt_tasks.types",
    "ROUGE": "gpt_tasks.tasks.text_measures",
    "RegressionTask": "gpt_tasks.tasks.regression",
    "Report": "gpt_tasks.evaluation.report",
    "Row": "gpt_tasks.types",
    "Run": "gpt_tasks.training.run",
    "SourceScheme": "gpt_tasks.extensions",
    "SpanAnswer": "gpt_tasks.types",
    "SpanOptions": "gpt_tasks.tasks.span",
    "SpanTask": "gpt_tasks.tasks.span",
    "Suite": "gpt_tasks.extensions",
    "Task": "gpt_tasks.tasks.base",
    "TaskOptions": "gpt_tasks.tasks.base",
    "TextMeasure": "gpt_tasks.tasks.text_measures",
    "TextToTextOptions": "gpt_tasks.tasks.text_to_text",
    "TextToTextTask": "gpt_tasks.tasks.text_to_text",
    "UsageError": "gpt_tasks.errors",
    "bleu": "gpt_tasks.tasks.text_measures",
    "chrf": "gpt_tasks.tasks.text_measures",
    "finetune": "gpt_tasks.training.finetune",
    "hookimpl": "gpt_tasks.hookspecs",
    "load": "gpt_tasks.training.run",
    "pretrain": "gpt_tasks.pretraining.pretrain",
    "rouge": "gpt_tasks.tasks.text_measures",
    "score": "gpt_tasks.scoring.score",
}

__all__ = sorted(_HOMES)  # noqa: PLE0605
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'gpt_tasks' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
