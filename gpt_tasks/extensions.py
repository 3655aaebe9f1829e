"""What plugins register besides tasks: metrics, suites, backbones, heads, learners, methods, sources, responders."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict

from gpt_tasks.types import Request, Response, Row, Statistic

if TYPE_CHECKING:
    import numpy
    from torch import nn


@dataclass(frozen=True)
class Rows:
    """All rows of an evaluation side by side, for a metric that is no mean of what single examples contribute.

    `references` and `predictions` are what `Task.compared` returns of each example: for one of several labels its name.
    `probabilities` `[n, labels]` are there where predictions have them, `labels` are the names in the model's order.
    `clusters` `[n]` numbers, from 0 on, what rows belong together, where that is known: intervals go by it.
    """

    references: Sequence[Any]
    predictions: Sequence[Any]
    labels: Sequence[str] = ()
    probabilities: numpy.ndarray | None = None
    clusters: numpy.ndarray | None = None

    def __len__(self) -> int:
        return len(self.references)

    def take(self, indices: numpy.ndarray) -> Rows:
        """Return the rows at `indices`, some of them perhaps several times."""
        import numpy

        taken = Rows(
            [self.references[index] for index in indices.tolist()],
            [self.predictions[index] for index in indices.tolist()],
            self.labels,
            None if self.probabilities is None else self.probabilities[indices],
            None if self.clusters is None else numpy.unique(self.clusters[indices], return_inverse=True)[1],
        )
        if self.labels:
            taken.__dict__["codes"] = tuple(codes[indices] for codes in self.codes)
        return taken

    @cached_property
    def codes(self) -> tuple[numpy.ndarray, numpy.ndarray]:
        """References and predictions `[n]` as indices into `labels`."""
        import numpy

        index = {label: place for place, label in enumerate(self.labels)}
        references, predictions = (
            numpy.array([index[label] for label in column], dtype=numpy.int64)
            for column in (self.references, self.predictions)
        )
        return references, predictions


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric over the examples of an evaluation, of any task.

    Most metrics are additive. Each example contributes a `Statistic`: from its task, or from
    `statistic(prediction, references)`, which gets what `Task.compared` returns. `aggregate` makes the figure of the
    sums `[..., columns]` of statistics by their weights, and of the sums of weights `[...]`: a function, or one of the
    names in `gpt_tasks.metrics.aggregate.AGGREGATES`. `prepare` changes the statistics of all examples `[n, columns]`
    first. From that follow the standard error, the interval, the mean over groups and the paired comparison of two
    models.

    A metric whose statistics need all examples at once, as ranks among them do, has `each(rows)`: it gets all `Rows`
    and returns the statistic of each; the rest follows as above. One that is not additive has `whole(rows)`, a function
    of all `Rows`; its interval is the function's `interval` or else that of a bootstrap. `better` says in which
    direction a metric improves, `range` the values that it can have: intervals stay within it, and where both ends are
    finite they hold for few examples better. `signature(references)` says how it was computed, given how many right
    answers each example has (-1: it varies).
    """

    name: str
    description: str = ""
    better: Literal["higher", "lower"] = "higher"
    range: tuple[float, float] = (-math.inf, math.inf)
    statistic: Callable[[Any, Any], float | Statistic] | None = None
    aggregate: str | Callable[[numpy.ndarray, numpy.ndarray], numpy.ndarray] = "mean"
    prepare: Callable[[numpy.ndarray], numpy.ndarray] | None = None
    each: Callable[[Rows], Sequence[float | Statistic]] | None = None
    whole: Callable[[Rows], float] | None = None
    interval: Callable[[Rows], tuple[float, float]] | None = None
    signature: Callable[[int], str] | None = None

    @property
    def best(self) -> float:
        """The best value that it can have; infinite where there is no bound."""
        return self.range[1] if self.better == "higher" else self.range[0]


@dataclass(frozen=True, slots=True)
class Suite:
    """A list of tasks to score a model on, written as a YAML file."""

    name: str
    path: Path

    @property
    def description(self) -> str:
        """The suite's description, from the file."""
        from gpt_tasks.strict_yaml import parse_yaml

        content = parse_yaml(self.path.read_text(encoding="utf-8")).value
        return str(content.get("description", "")) if isinstance(content, dict) else ""


@dataclass(frozen=True, slots=True)
class BackbonePreset:
    """A short name for a causal language model: `location()` returns a hub id, or its folder or GGUF file.

    `otherwise` says how else to have it where the hub cannot be reached.
    """

    name: str
    description: str
    location: Callable[[], str | Path]
    otherwise: str = ""


@dataclass(frozen=True, slots=True)
class HeadSpec:
    """A kind of head: `build(hidden_size, outputs)` returns a module.

    The module is called with hidden states `[batch, length, hidden]` and attention mask `[batch, length]`, and
    returns logits `[batch, outputs]`, or those of spans `[batch, length, 2]`. `frozen` names the kind that takes its
    place on a backbone that does not move.
    """

    name: str
    description: str
    build: Callable[[int, int], nn.Module]
    frozen: str | None = None


@dataclass(frozen=True, slots=True)
class LearnerSpec:
    """A learner by its name, by which tasks choose it: `load()` imports and returns the class."""

    name: str
    description: str
    load: Callable[[], type[Any]]


# The settings that a method has defaults for, by their names in FinetuneConfig.
SET_BY_METHODS = ("epochs", "learning_rate", "batch_tokens", "warmup", "weight_decay")


class MethodOptions(BaseModel):
    """A method's own settings. Each field becomes a flag of `gpt-tasks finetune TASK`, and a setting of its file.

    Its name begins with the method's, as `lora_r` does, and it has a default.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, slots=True)
class Method:
    """A way of tuning: which weights of the backbone move.

    `prepare(backbone)` returns the module to train, with `requires_grad` set on what moves; `finish(backbone)`
    turns the trained module back into a plain one (LoRA merges its matrices). `defaults(parameters)` gives
    numbers for the settings in `SET_BY_METHODS` by the backbone's number of parameters. With `frozen` the backbone
    does not move at all, so that its features are computed once.

    Some methods add what cannot become part of a plain model, such as vectors before the text. With `saved_separately`,
    `finish` leaves it where it is, the trained weights are saved next to the model, and `prepare` adds it again when a
    run is loaded; only tasks with a head can be trained so. Their module is called with `input_ids` and
    `attention_mask`, both `[batch, length]`, and `use_cache=False`, and returns what has a `last_hidden_state`
    `[batch, length, hidden]`. `num_virtual_tokens` is how many positions of the model's window the method takes.

    With fields of its own, `options` are given to `prepare` after the backbone; `num_virtual_tokens` can be a function
    of them. With `adapter`, what `prepare` returns is a `PeftModel` of peft, whose adapter a run can keep.
    """

    name: str
    description: str
    prepare: Callable[..., nn.Module]
    finish: Callable[[nn.Module], nn.Module]
    defaults: Callable[[int], Mapping[str, float | int]]
    frozen: bool = False
    saved_separately: bool = False
    num_virtual_tokens: int | Callable[[Any], int] = 0
    options: type[MethodOptions] = MethodOptions
    adapter: bool = False


@dataclass(frozen=True, slots=True)
class FileFormat:
    """A kind of text file, chosen by the suffixes of its name, as `.conll`.

    `read(lines, name)` gets the lines of a file, decoded, and its name for error messages, and yields its rows; one
    that cannot be read is a `BrokenRow`.
    """

    name: str
    description: str
    suffixes: tuple[str, ...]
    read: Callable[[Iterable[str], str], Iterator[Row]]


@dataclass(frozen=True, slots=True)
class SourceScheme:
    """A kind of data source, chosen by the prefix of its name, as `hf:` or `sqlite:`.

    `splits(location)` gets the text behind the prefix and returns, for each split (`train`, `validation`, `test`, or
    the one split `all`), a function that starts reading its rows from the beginning.
    """

    prefix: str
    description: str
    splits: Callable[[str], Mapping[str, Callable[[], Iterator[Row]]]]


Reader = SourceScheme | FileFormat
"""What data can be read from."""


class Responder(Protocol):
    """A language model that answers requests, on this machine or behind an endpoint.

    It may have two attributes more. `identity` is a mapping of texts that says whose answers these are; its `model`
    identifies the model in scores, in place of the name. `tokenizer` is needed by --chat-template only.
    """

    def respond(self, requests: Sequence[Request]) -> Iterator[Response]:
        """Yield the response to every request, in their order, each as soon as it is known: it is then saved.

        A Continuation and a Rolling are answered by a LogLikelihood, a Generation by a text. Raises UsageError or
        ModelError for what it cannot answer, if possible before any answer, and MachineError where it is down.
        """
        ...


@dataclass(frozen=True, slots=True)
class ResponderSpec:
    """A kind of responder, chosen by the prefix of a model's name, as `openai:`.

    `open(location, settings)` gets the text behind the prefix, and by name those of `device`, `precision`, `engine`,
    `batch_tokens`, `trust_remote_code` and `verify` that the user gave; it refuses what it has no use for with
    UsageError.
    """

    prefix: str
    description: str
    open: Callable[[str, Mapping[str, Any]], Responder]
