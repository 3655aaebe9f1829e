"""What a plugin can register beside tasks: metrics, suites, backbones, heads, methods and sources."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from gpt_tasks.types import Row

if TYPE_CHECKING:
    import numpy
    from torch import nn


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure of merit over labelled examples.

    `function(references, predictions, probabilities, labels)` returns a number: references and predictions are
    label indices `[n]`, probabilities `[n, labels]`, labels the names in the model's order. `better` says in which
    direction it improves.
    """

    name: str
    description: str
    function: Callable[[numpy.ndarray, numpy.ndarray, numpy.ndarray, Sequence[str]], float]
    better: Literal["higher", "lower"] = "higher"


@dataclass(frozen=True, slots=True)
class Suite:
    """A list of tasks to score a model on, written as a YAML file."""

    name: str
    path: Path

    @property
    def description(self) -> str:
        """What the file says of itself."""
        import yaml

        content = yaml.safe_load(self.path.read_text(encoding="utf-8"))
        return str(content.get("description", "")) if isinstance(content, dict) else ""


@dataclass(frozen=True, slots=True)
class BackbonePreset:
    """A short name for a causal language model: `location()` returns a hub id or the folder that holds it."""

    name: str
    description: str
    location: Callable[[], str | Path]


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


# What a method has defaults for, as they are called in FinetuneConfig.
SET_BY_METHODS = ("epochs", "learning_rate", "batch_tokens", "warmup", "weight_decay")


@dataclass(frozen=True, slots=True)
class Method:
    """A way of tuning: which weights of the backbone move.

    `prepare(backbone)` returns the module to train, with `requires_grad` set on what moves; `finish(backbone)`
    turns the trained module back into a plain one (LoRA merges its matrices). `defaults(parameters)` gives
    numbers for the settings in `SET_BY_METHODS` by the backbone's number of parameters. With `frozen` the backbone
    does not move at all, so that its features are computed once.

    Some methods add what cannot become part of a plain model, such as vectors before the text. With `saved_separately`,
    `finish` leaves it where it is, the weights that move are kept beside the model, and `prepare` adds it again when a
    run is loaded; only tasks with a head can be trained so. Their module is called with `input_ids` and
    `attention_mask`, both `[batch, length]`, and `use_cache=False`, and returns what has a `last_hidden_state`
    `[batch, length, hidden]`. `num_virtual_tokens` is how many places of the model's window the method takes for
    itself.
    """

    name: str
    description: str
    prepare: Callable[[nn.Module], nn.Module]
    finish: Callable[[nn.Module], nn.Module]
    defaults: Callable[[int], Mapping[str, float | int]]
    frozen: bool = False
    saved_separately: bool = False
    num_virtual_tokens: int = 0


@dataclass(frozen=True, slots=True)
class SourceScheme:
    """A kind of data source, chosen by the prefix of its name, as `hf:` or `sqlite:`.

    `splits(location)` gets the text behind the prefix and returns, for each split (`train`, `validation`, `test`, or
    the one split `all`), a function that starts reading its rows from the beginning.
    """

    prefix: str
    description: str
    splits: Callable[[str], Mapping[str, Callable[[], Iterator[Row]]]]
