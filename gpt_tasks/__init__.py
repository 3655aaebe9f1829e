"""gpt-tasks: one GPT backbone, many tasks, each a plugin."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpt_tasks.backbone.load import Backbone as Backbone
    from gpt_tasks.data.encoded import IGNORE_INDEX as IGNORE_INDEX
    from gpt_tasks.data.encoded import EncodedExamples as EncodedExamples
    from gpt_tasks.data.examples import Examples as Examples
    from gpt_tasks.data.invalid import BrokenRow as BrokenRow
    from gpt_tasks.errors import DataError as DataError
    from gpt_tasks.errors import GptTasksError as GptTasksError
    from gpt_tasks.errors import MachineError as MachineError
    from gpt_tasks.errors import ModelError as ModelError
    from gpt_tasks.errors import PluginError as PluginError
    from gpt_tasks.errors import UsageError as UsageError
    from gpt_tasks.evaluation.prompted_model import ZeroShotModel as ZeroShotModel
    from gpt_tasks.evaluation.report import Report as Report
    from gpt_tasks.evaluation.zero_shot import zero_shot as zero_shot
    from gpt_tasks.extensions import BackbonePreset as BackbonePreset
    from gpt_tasks.extensions import FileFormat as FileFormat
    from gpt_tasks.extensions import HeadSpec as HeadSpec
    from gpt_tasks.extensions import LearnerSpec as LearnerSpec
    from gpt_tasks.extensions import Method as Method
    from gpt_tasks.extensions import MethodOptions as MethodOptions
    from gpt_tasks.extensions import Metric as Metric
    from gpt_tasks.extensions import Responder as Responder
    from gpt_tasks.extensions import ResponderSpec as ResponderSpec
    from gpt_tasks.extensions import Rows as Rows
    from gpt_tasks.extensions import SourceScheme as SourceScheme
    from gpt_tasks.extensions import Suite as Suite
    from gpt_tasks.heads.language_model import LanguageModel as LanguageModel
    from gpt_tasks.heads.model import HeadModel as HeadModel
    from gpt_tasks.heads.model import last_hidden_state as last_hidden_state
    from gpt_tasks.heads.model import recompute_activations as recompute_activations
    from gpt_tasks.heads.sequence import pool_last as pool_last
    from gpt_tasks.heads.sequence import pool_mean as pool_mean
    from gpt_tasks.hookspecs import hookimpl as hookimpl
    from gpt_tasks.learners.base import FrozenFit as FrozenFit
    from gpt_tasks.learners.base import Learner as Learner
    from gpt_tasks.learners.base import LearnerSettings as LearnerSettings
    from gpt_tasks.learners.base import Remarks as Remarks
    from gpt_tasks.learners.inference import rows_of as rows_of
    from gpt_tasks.learners.inference import tokens_of as tokens_of
    from gpt_tasks.learners.sequence import SequenceLearner as SequenceLearner
    from gpt_tasks.metrics.aggregate import pearson as pearson
    from gpt_tasks.metrics.aggregate import perplexity as perplexity
    from gpt_tasks.metrics.aggregate import spearman as spearman
    from gpt_tasks.metrics.modules import as_evaluate_module as as_evaluate_module
    from gpt_tasks.metrics.text import ROUGE as ROUGE
    from gpt_tasks.metrics.text import bleu as bleu
    from gpt_tasks.metrics.text import chrf as chrf
    from gpt_tasks.metrics.text import exact_match as exact_match
    from gpt_tasks.metrics.text import rouge as rouge
    from gpt_tasks.pretraining.pretrain import pretrain as pretrain
    from gpt_tasks.scoring.responder import open_responder as open_responder
    from gpt_tasks.scoring.score import score as score
    from gpt_tasks.scoring.score import score_all as score_all
    from gpt_tasks.tasks.base import Task as Task
    from gpt_tasks.tasks.base import TrainingExamples as TrainingExamples
    from gpt_tasks.tasks.card import Display as Display
    from gpt_tasks.tasks.card import TaskCard as TaskCard
    from gpt_tasks.tasks.classification import ClassificationOptions as ClassificationOptions
    from gpt_tasks.tasks.classification import ClassificationTask as ClassificationTask
    from gpt_tasks.tasks.cloze import ClozeTask as ClozeTask
    from gpt_tasks.tasks.dialogue import DialogueTask as DialogueTask
    from gpt_tasks.tasks.encoding import encode_continuation as encode_continuation
    from gpt_tasks.tasks.encoding import encode_text as encode_text
    from gpt_tasks.tasks.encoding import encode_texts as encode_texts
    from gpt_tasks.tasks.encoding import encode_with_offsets as encode_with_offsets
    from gpt_tasks.tasks.encoding import literal as literal
    from gpt_tasks.tasks.fixtures import Fixtures as Fixtures
    from gpt_tasks.tasks.fixtures import longer_inputs as longer_inputs
    from gpt_tasks.tasks.fixtures import with_column as with_column
    from gpt_tasks.tasks.headed import DELIMITER as DELIMITER
    from gpt_tasks.tasks.headed import HeadOptions as HeadOptions
    from gpt_tasks.tasks.headed import HeadTask as HeadTask
    from gpt_tasks.tasks.labels import LabelOptions as LabelOptions
    from gpt_tasks.tasks.labels import known_label as known_label
    from gpt_tasks.tasks.labels import most_frequent_spellings as most_frequent_spellings
    from gpt_tasks.tasks.language_modeling import LanguageModelingTask as LanguageModelingTask
    from gpt_tasks.tasks.multi_label import MultiLabelTask as MultiLabelTask
    from gpt_tasks.tasks.multiple_choice import MultipleChoiceOptions as MultipleChoiceOptions
    from gpt_tasks.tasks.multiple_choice import MultipleChoiceTask as MultipleChoiceTask
    from gpt_tasks.tasks.options import TaskOptions as TaskOptions
    from gpt_tasks.tasks.prompted import PromptedTask as PromptedTask
    from gpt_tasks.tasks.prompted import PromptOptions as PromptOptions
    from gpt_tasks.tasks.reading import as_label as as_label
    from gpt_tasks.tasks.reading import choose_columns as choose_columns
    from gpt_tasks.tasks.reading import extra_columns as extra_columns
    from gpt_tasks.tasks.reading import from_cell as from_cell
    from gpt_tasks.tasks.reading import refuse_unknown_fields as refuse_unknown_fields
    from gpt_tasks.tasks.reading import require_columns as require_columns
    from gpt_tasks.tasks.reading import text_of as text_of
    from gpt_tasks.tasks.regression import RegressionTask as RegressionTask
    from gpt_tasks.tasks.span import SpanOptions as SpanOptions
    from gpt_tasks.tasks.span import SpanTask as SpanTask
    from gpt_tasks.tasks.text_to_text import TextToTextOptions as TextToTextOptions
    from gpt_tasks.tasks.text_to_text import TextToTextTask as TextToTextTask
    from gpt_tasks.training.finetune import finetune as finetune
    from gpt_tasks.training.run import Run as Run
    from gpt_tasks.training.run import load as load
    from gpt_tasks.training.run import load_all as load_all
    from gpt_tasks.types import Continuation as Continuation
    from gpt_tasks.types import Event as Event
    from gpt_tasks.types import Example as Example
    from gpt_tasks.types import Features as Features
    from gpt_tasks.types import Generation as Generation
    from gpt_tasks.types import LogLikelihood as LogLikelihood
    from gpt_tasks.types import MultiLabelPrediction as MultiLabelPrediction
    from gpt_tasks.types import Prediction as Prediction
    from gpt_tasks.types import Request as Request
    from gpt_tasks.types import Response as Response
    from gpt_tasks.types import Rolling as Rolling
    from gpt_tasks.types import Row as Row
    from gpt_tasks.types import Score as Score
    from gpt_tasks.types import SpanAnswer as SpanAnswer
    from gpt_tasks.types import Statistic as Statistic
    from gpt_tasks.types import TextPrediction as TextPrediction
    from gpt_tasks.words import first_words as first_words

# Loaded on first access, so that importing gpt_tasks never waits for torch.
_HOMES = {
    "Backbone": "gpt_tasks.backbone.load",
    "BackbonePreset": "gpt_tasks.extensions",
    "BrokenRow": "gpt_tasks.data.invalid",
    "ClassificationOptions": "gpt_tasks.tasks.classification",
    "ClassificationTask": "gpt_tasks.tasks.classification",
    "ClozeTask": "gpt_tasks.tasks.cloze",
    "Continuation": "gpt_tasks.types",
    "DELIMITER": "gpt_tasks.tasks.headed",
    "DataError": "gpt_tasks.errors",
    "DialogueTask": "gpt_tasks.tasks.dialogue",
    "Display": "gpt_tasks.tasks.card",
    "EncodedExamples": "gpt_tasks.data.encoded",
    "Event": "gpt_tasks.types",
    "Example": "gpt_tasks.types",
    "Examples": "gpt_tasks.data.examples",
    "Features": "gpt_tasks.types",
    "FileFormat": "gpt_tasks.extensions",
    "Fixtures": "gpt_tasks.tasks.fixtures",
    "FrozenFit": "gpt_tasks.learners.base",
    "Generation": "gpt_tasks.types",
    "GptTasksError": "gpt_tasks.errors",
    "HeadModel": "gpt_tasks.heads.model",
    "HeadOptions": "gpt_tasks.tasks.headed",
    "HeadSpec": "gpt_tasks.extensions",
    "HeadTask": "gpt_tasks.tasks.headed",
    "IGNORE_INDEX": "gpt_tasks.data.encoded",
    "LabelOptions": "gpt_tasks.tasks.labels",
    "LanguageModel": "gpt_tasks.heads.language_model",
    "LanguageModelingTask": "gpt_tasks.tasks.language_modeling",
    "Learner": "gpt_tasks.learners.base",
    "LearnerSettings": "gpt_tasks.learners.base",
    "LearnerSpec": "gpt_tasks.extensions",
    "LogLikelihood": "gpt_tasks.types",
    "MachineError": "gpt_tasks.errors",
    "Method": "gpt_tasks.extensions",
    "MethodOptions": "gpt_tasks.extensions",
    "Metric": "gpt_tasks.extensions",
    "ModelError": "gpt_tasks.errors",
    "MultiLabelPrediction": "gpt_tasks.types",
    "MultiLabelTask": "gpt_tasks.tasks.multi_label",
    "MultipleChoiceOptions": "gpt_tasks.tasks.multiple_choice",
    "MultipleChoiceTask": "gpt_tasks.tasks.multiple_choice",
    "PluginError": "gpt_tasks.errors",
    "Prediction": "gpt_tasks.types",
    "PromptOptions": "gpt_tasks.tasks.prompted",
    "PromptedTask": "gpt_tasks.tasks.prompted",
    "ROUGE": "gpt_tasks.metrics.text",
    "RegressionTask": "gpt_tasks.tasks.regression",
    "Remarks": "gpt_tasks.learners.base",
    "Report": "gpt_tasks.evaluation.report",
    "Request": "gpt_tasks.types",
    "Responder": "gpt_tasks.extensions",
    "ResponderSpec": "gpt_tasks.extensions",
    "Response": "gpt_tasks.types",
    "Rolling": "gpt_tasks.types",
    "Row": "gpt_tasks.types",
    "Rows": "gpt_tasks.extensions",
    "Run": "gpt_tasks.training.run",
    "Score": "gpt_tasks.types",
    "SequenceLearner": "gpt_tasks.learners.sequence",
    "SourceScheme": "gpt_tasks.extensions",
    "SpanAnswer": "gpt_tasks.types",
    "SpanOptions": "gpt_tasks.tasks.span",
    "SpanTask": "gpt_tasks.tasks.span",
    "Statistic": "gpt_tasks.types",
    "Suite": "gpt_tasks.extensions",
    "Task": "gpt_tasks.tasks.base",
    "TaskCard": "gpt_tasks.tasks.card",
    "TaskOptions": "gpt_tasks.tasks.options",
    "TextPrediction": "gpt_tasks.types",
    "TextToTextOptions": "gpt_tasks.tasks.text_to_text",
    "TextToTextTask": "gpt_tasks.tasks.text_to_text",
    "TrainingExamples": "gpt_tasks.tasks.base",
    "UsageError": "gpt_tasks.errors",
    "ZeroShotModel": "gpt_tasks.evaluation.prompted_model",
    "as_evaluate_module": "gpt_tasks.metrics.modules",
    "as_label": "gpt_tasks.tasks.reading",
    "bleu": "gpt_tasks.metrics.text",
    "choose_columns": "gpt_tasks.tasks.reading",
    "chrf": "gpt_tasks.metrics.text",
    "encode_continuation": "gpt_tasks.tasks.encoding",
    "encode_text": "gpt_tasks.tasks.encoding",
    "encode_texts": "gpt_tasks.tasks.encoding",
    "encode_with_offsets": "gpt_tasks.tasks.encoding",
    "exact_match": "gpt_tasks.metrics.text",
    "extra_columns": "gpt_tasks.tasks.reading",
    "finetune": "gpt_tasks.training.finetune",
    "from_cell": "gpt_tasks.tasks.reading",
    "first_words": "gpt_tasks.words",
    "hookimpl": "gpt_tasks.hookspecs",
    "known_label": "gpt_tasks.tasks.labels",
    "last_hidden_state": "gpt_tasks.heads.model",
    "literal": "gpt_tasks.tasks.encoding",
    "load": "gpt_tasks.training.run",
    "load_all": "gpt_tasks.training.run",
    "longer_inputs": "gpt_tasks.tasks.fixtures",
    "most_frequent_spellings": "gpt_tasks.tasks.labels",
    "open_responder": "gpt_tasks.scoring.responder",
    "pearson": "gpt_tasks.metrics.aggregate",
    "perplexity": "gpt_tasks.metrics.aggregate",
    "pool_last": "gpt_tasks.heads.sequence",
    "pool_mean": "gpt_tasks.heads.sequence",
    "pretrain": "gpt_tasks.pretraining.pretrain",
    "recompute_activations": "gpt_tasks.heads.model",
    "refuse_unknown_fields": "gpt_tasks.tasks.reading",
    "require_columns": "gpt_tasks.tasks.reading",
    "rouge": "gpt_tasks.metrics.text",
    "rows_of": "gpt_tasks.learners.inference",
    "score": "gpt_tasks.scoring.score",
    "score_all": "gpt_tasks.scoring.score",
    "spearman": "gpt_tasks.metrics.aggregate",
    "text_of": "gpt_tasks.tasks.reading",
    "tokens_of": "gpt_tasks.learners.inference",
    "with_column": "gpt_tasks.tasks.fixtures",
    "zero_shot": "gpt_tasks.evaluation.zero_shot",
}

__all__ = sorted(_HOMES)  # noqa: PLE0605
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'gpt_tasks' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
