"""Which stretches of a text name a person, an organization, a place, a product?"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gpt_tasks import FileFormat, HeadSpec, LearnerSpec, hookimpl
from gpt_tasks_plugins.ner.conll import read_conll
from gpt_tasks_plugins.ner.task import NamedEntities

if TYPE_CHECKING:
    from torch import nn


def _learner() -> type:
    from gpt_tasks_plugins.ner.learner import TokenClassificationLearner

    return TokenClassificationLearner


def _head(hidden_size: int, outputs: int) -> "nn.Module":
    from gpt_tasks_plugins.ner.head import TokenHead

    return TokenHead(hidden_size, outputs)


@hookimpl
def register_tasks() -> Sequence[NamedEntities]:
    """Return the task."""
    return [NamedEntities()]


@hookimpl
def register_learners() -> Sequence[LearnerSpec]:
    """Return the learner of labels of tokens."""
    return [LearnerSpec("token-classification", "A label for each word, by a head on its last token.", _learner)]


@hookimpl
def register_heads() -> Sequence[HeadSpec]:
    """Return the head on every token."""
    return [HeadSpec("token", "One row of logits for every token.", _head)]


@hookimpl
def register_sources() -> Sequence[FileFormat]:
    """Return the format of CoNLL."""
    suffixes = (".conll", ".iob", ".iob2", ".bio", ".bioes")
    return [FileFormat("conll", "A word and its tag a line, sentences separated by empty lines.", suffixes, read_conll)]
