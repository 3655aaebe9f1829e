"""The values that travel between modules: rows, examples, encodings, predictions, scores and events."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a source as it was read; `where` names it in error messages, as in `reviews.csv:17`."""

    values: Mapping[str, Any]
    where: str


@dataclass(frozen=True, slots=True)
class Example:
    """One row of data, typed by its task.

    `inputs` maps the task's fields to text, in the order in which the prompt reads them. `target` is what a right
    answer is (for classification one of the labels, for multiple choice its index in `choices`) and None where it
    is not known. Of an answer that is written, `references` are all right ones, the target first. `extra` holds further
    columns as text, for slices of the evaluation.
    """

    inputs: Mapping[str, str]
    target: str | None
    where: str
    extra: Mapping[str, str] = field(default_factory=dict)
    choices: tuple[str, ...] = ()
    references: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Continuation:
    """A request to a language model: how likely is `text` after `context`, and is it the greedy continuation?"""

    context: str
    text: str


@dataclass(frozen=True, slots=True)
class Rolling:
    """A request to a language model: how likely is a text, in windows if it is longer than the model's context?"""

    text: str


@dataclass(frozen=True, slots=True)
class Generation:
    """A request to a language model: what comes after `context`, up to one of the stop texts or to `max_tokens`?

    Where there are `messages`, the next turn of that conversation is requested instead: each has a `role` and its
    `content`, as chat templates read them.
    """

    context: str
    stop: tuple[str, ...]
    max_tokens: int
    messages: tuple[Mapping[str, str], ...] = ()


Request = Continuation | Rolling | Generation


@dataclass(frozen=True, slots=True)
class LogLikelihood:
    """The natural logarithm of a probability, whether greedy decoding would have written just this, and of how many
    tokens it is; 0 where they were not counted.
    """

    value: float
    is_greedy: bool
    tokens: int = 0


Response = LogLikelihood | str


@dataclass(frozen=True, slots=True)
class Encoded:
    """An example as token ids; `truncated` counts the tokens that were cut off to make it fit.

    `label_spans` are the stretches [start, end) of tokens that a language model learns to write; none for a head. A
    head reads `more_sequences` too, further sequences of the same example, whose logits are averaged; `windows` is the
    number of parts in which a text that is too long for one is read. Where an example has choices, `choices` says of
    every sequence by its index which one it is about.
    """

    input_ids: list[int]
    truncated: int = 0
    label_spans: tuple[tuple[int, int], ...] = ()
    more_sequences: tuple[list[int], ...] = ()
    windows: int = 1
    choices: tuple[int, ...] = ()

    @property
    def sequences(self) -> list[list[int]]:
        """All that a head reads of the example."""
        return [self.input_ids, *self.more_sequences]


@dataclass(frozen=True, slots=True)
class Features:
    """What a model reads of an example, and what it is to learn: a learner's `encode` returns one for each.

    `sequences` are lists or arrays of token ids, mostly one. `labels` is an array of one shape for all examples: a
    class index, zeros and ones, a number, positions. A learner of tokens gives `token_labels` instead, one number for
    each token of all sequences, one after the other: integers, or floats for all examples. A label of -100 counts in no
    loss. `values` are further numbers that the loss reads (float32), as many for every example; a batch has them when
    examples are answered too. `choices` says of each sequence which of the example's choices it is about; logits are
    then `[choices]`, or `[choices, outputs]` of a head with several outputs. `truncated` counts tokens that were cut
    off, `windows` the parts in which a long text is read.
    """

    sequences: Sequence[Any]
    labels: Any = None
    token_labels: Sequence[float] | None = None
    values: Sequence[float] = ()
    choices: tuple[int, ...] = ()
    truncated: int = 0
    windows: int = 1

    def __len__(self) -> int:
        return sum(map(len, self.sequences))


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model answers: a label, and the probability of every label in the model's order.

    Where the labels are an example's choices, they are their indices from 0; a model that was prompted without training
    has the choices' `log_likelihoods` too.
    """

    label: str
    probabilities: Mapping[str, float]
    log_likelihoods: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class MultiLabelPrediction:
    """What a model answers where several labels can be right: those it gives, and the probability of every one."""

    labels: tuple[str, ...]
    probabilities: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class SpanAnswer:
    """What a model answers by a stretch of a context: its characters [start, end), and how probable it is.

    The text is empty where there is no answer. `candidates` are the best ones, "no answer" among them where that can
    be, whose probabilities sum to 1.
    """

    text: str
    start: int
    end: int
    probability: float
    candidates: tuple[SpanAnswer, ...]


class TextPrediction(str):
    """What a model writes: the text itself, why it ended, and how likely the model finds the right text, if known."""

    finish_reason: str
    log_likelihood: LogLikelihood | None

    def __new__(cls, text: str, finish_reason: str = "", log_likelihood: LogLikelihood | None = None) -> TextPrediction:
        """Make a text that carries its log-likelihood."""
        self = super().__new__(cls, text)
        self.finish_reason, self.log_likelihood = finish_reason, log_likelihood
        return self


@dataclass(frozen=True, slots=True)
class Statistic:
    """What one example contributes to a metric: a number, or the counts of a corpus score, and the weight it has.

    The weight is 1, or a number of tokens, words or bytes; an example of weight 0 is not about what is measured.
    """

    value: float | tuple[float, ...]
    weight: float = 1.0

    @property
    def columns(self) -> tuple[float, ...]:
        """The number, or the counts, as a row."""
        return self.value if isinstance(self.value, tuple) else (self.value,)


@dataclass(frozen=True, slots=True)
class Score:
    """A figure over `n` examples with its 95 % interval [low, high], and its standard error where it has one."""

    value: float
    low: float
    high: float
    n: int
    stderr: float = math.nan


EventKind = Literal["run_started", "step", "evaluated", "saved", "run_ended"]
Command = Literal["finetune", "pretrain", "score", "evaluate"]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in a run of a command; every `observe` hook gets it.

    `run` is the folder, None where nothing is written. `step` counts updates of the weights, `epoch` passes over the
    training data. `values` holds what belongs to the kind: the whole configuration when a run starts, the loss and
    learning rate of a step, the figures of an evaluation, `status` and the figures when it ends. `artifacts` are the
    files and folders that it then leaves.
    """

    kind: EventKind
    run: Path | None
    step: int = 0
    epoch: float = 0.0
    values: Mapping[str, Any] = field(default_factory=dict)
    command: Command = "finetune"
    artifacts: tuple[Path, ...] = ()
