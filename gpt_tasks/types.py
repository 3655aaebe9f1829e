"""The values that travel between rooms: rows, examples, encodings, predictions, scores and events."""

from __future__ import annotations

from collections.abc import Mapping
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
    answer is (for classification one of the labels, for multiple choice its place among `choices`) and None where it
    is not known. Of an answer that is written, `references` are all right ones, the target first. `extra` holds further
    columns as text, kept for slices of the evaluation.
    """

    inputs: Mapping[str, str]
    target: str | None
    where: str
    extra: Mapping[str, str] = field(default_factory=dict)
    choices: tuple[str, ...] = ()
    references: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Continuation:
    """Asked of a language model: how likely is `text` after `context`, and is it what the model would say by itself?"""

    context: str
    text: str


@dataclass(frozen=True, slots=True)
class Rolling:
    """Asked of a language model: how likely is a whole text, in windows where it is longer than the model's context?"""

    text: str


@dataclass(frozen=True, slots=True)
class Generation:
    """Asked of a language model: what comes after `context`, up to one of the stop texts or to `max_tokens`?"""

    context: str
    stop: tuple[str, ...]
    max_tokens: int


Request = Continuation | Rolling | Generation


@dataclass(frozen=True, slots=True)
class LogLikelihood:
    """The natural logarithm of a probability, whether greedy decoding would have said just this, and of how many tokens
    it is; 0 where they were not counted.
    """

    value: float
    is_greedy: bool
    tokens: int = 0


Response = LogLikelihood | str


@dataclass(frozen=True, slots=True)
class Encoded:
    """An example as token ids; `truncated` counts the tokens that were cut off to make it fit.

    `learned` are the stretches [start, end) of tokens that a language model is to foretell; none for a head. A head
    reads `others` too, further sequences of the same example, and what it says of them all is averaged; `windows` says
    in how many parts a text that is too long for one is read. Where an example has choices, `choices` says of every
    sequence by its place which one it is about.
    """

    input_ids: list[int]
    truncated: int = 0
    learned: tuple[tuple[int, int], ...] = ()
    others: tuple[list[int], ...] = ()
    windows: int = 1
    choices: tuple[int, ...] = ()

    @property
    def sequences(self) -> list[list[int]]:
        """All that a head reads of the example."""
        return [self.input_ids, *self.others]


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model answers: a label, and the probability of every label in the model's order."""

    label: str
    probabilities: Mapping[str, float]


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


@dataclass(frozen=True, slots=True)
class Score:
    """A figure over `n` examples with its 95 % interval [low, high]."""

    value: float
    low: float
    high: float
    n: int


EventKind = Literal["run_started", "step", "evaluated", "saved", "run_ended"]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in a run, told to every `observe` hook.

    `step` counts updates of the weights, `epoch` passes over the training data; `values` holds what belongs to the
    kind: the loss and learning rate of a step, the metrics of an evaluation, `status` of the end of a run.
    """

    kind: EventKind
    run: Path | None
    step: int = 0
    epoch: float = 0.0
    values: Mapping[str, float | str] = field(default_factory=dict)
