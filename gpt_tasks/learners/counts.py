"""Counted words and characters, weighed together with what a model answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from scipy.special import log_softmax

from gpt_tasks.errors import ModelError, said
from gpt_tasks.files import write_json
from gpt_tasks.learners.tfidf import (
    Analyzer,
    Loss,
    Terms,
    choose_analyzer,
    classes_of,
    fit_terms,
    most_terms,
    prior,
    regression,
)
from gpt_tasks.saved_json import checked, read_json
from gpt_tasks.types import Example

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

FILE, TENSORS = "counts.json", "counts.safetensors"
C: Mapping[Loss, float] = {"cross_entropy": 10.0, "binary": 10.0, "squared": 0.3}

# The log-probability of a label that no training row had.
_LEAST = -14.0
# How like two texts are has few columns among many: their coefficients should cost little.
_SIMILARITY = 3.0
# Where few rows say how much to trust each: the model half, the counts whole; a number is the mean of both.
_WEIGHTS, _MEAN, _PRIOR_ROWS = (0.5, 1.0), (0.5, 0.5), 1.0
_AGAIN = "Copy the run again, or train it again."


@dataclass(frozen=True)
class Counts:
    """TF-IDF of several kinds of terms, how like the two texts of a pair are, and a linear layer on them.

    Where words are separated by spaces, the terms are words and characters within words; elsewhere characters. The
    likeness of a pair is the cosine of its texts by each kind of terms (`pairs`); of several texts the features are
    their mean, so that their order makes no difference. `coefficients` are
    `[classes, columns]` in float16; `classes` are the outputs that training saw.
    """

    kinds: tuple[Terms, ...]
    pairs: bool
    classes: tuple[int, ...]
    coefficients: np.ndarray
    intercepts: np.ndarray

    def logits(self, examples: Sequence[Example], outputs: int) -> np.ndarray:
        """Return `[n, outputs]` in float64, minus infinity where training saw no row of an output."""
        known = np.tile(self.intercepts.astype(np.float64), (len(examples), 1))
        if self.kinds:
            fields = _fields(examples)
            features = [[kind.features(field) for field in fields] for kind in self.kinds]
            known += _joined(features, self.pairs) @ self.coefficients.T.astype(np.float64)
        found = np.full((len(examples), outputs), -np.inf)
        found[:, list(self.classes)] = known
        return found


@dataclass(frozen=True)
class Stack:
    """Counts beside a model. The answer's logits are those of both, by two weights.

    Of one of several labels they are log-probabilities (a logarithmic opinion pool, Genest and Zidek 1986); of each
    label separately, logits; of numbers, deviations from the mean.
    """

    counts: Counts
    loss: Loss
    weights: tuple[float, float] = _WEIGHTS

    def mixed(self, outputs: np.ndarray, examples: Sequence[Example]) -> np.ndarray:
        """Return the logits `[n, outputs]` of both for a model's; both read the same examples."""
        model, counts = self._both(outputs, examples)
        return self.weights[0] * model + self.weights[1] * counts

    def weighed(self, outputs: np.ndarray, examples: Sequence[Example], labels: np.ndarray) -> Stack:
        """Return these with the weights of least loss on validation rows, drawn to the prior's where these are few."""
        find = _numbers if self.loss == "squared" else _probabilities
        return Stack(self.counts, self.loss, find(*self._both(outputs, examples), labels, self.loss))

    def _both(self, outputs: np.ndarray, examples: Sequence[Example]) -> tuple[np.ndarray, np.ndarray]:
        counts = self.counts.logits(examples, outputs.shape[1])
        model = outputs.astype(np.float64)
        if self.loss != "cross_entropy":
            return model, counts
        return log_softmax(model, axis=1), log_softmax(counts, axis=1).clip(_LEAST)

    def save(self, folder: Path) -> None:
        """Write `counts.json` and `counts.safetensors` into a folder."""
        from safetensors.numpy import save

        counts = self.counts
        tensors = {"coefficients": counts.coefficients, "intercepts": counts.intercepts}
        tensors |= {f"idf.{place}": kind.idf for place, kind in enumerate(counts.kinds)}
        (folder / TENSORS).write_bytes(save(tensors))
        kinds = [{"analyzer": each.analyzer, "terms": each.terms, "buckets": each.buckets} for each in counts.kinds]
        saved = {"weights": self.weights, "loss": self.loss, "pairs": counts.pairs, "classes": counts.classes}
        write_json(folder / FILE, {**saved, "kinds": kinds})


class _SavedTerms(BaseModel):
    analyzer: Analyzer
    terms: list[str]
    buckets: int = Field(ge=0)


class _Saved(BaseModel):
    """What `counts.json` holds."""

    model_config = ConfigDict(allow_inf_nan=False, extra="forbid")

    weights: list[float] = Field(min_length=2, max_length=2)
    loss: Loss
    pairs: bool
    classes: list[int] = Field(min_length=1)
    kinds: list[_SavedTerms]


def load_stack(folder: Path, outputs: int) -> Stack:
    """Read what `Stack.save` wrote for so many outputs. Raises ModelError naming the file that is damaged."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    saved = checked(folder / FILE, read_json(folder / FILE, _AGAIN), _Saved, _AGAIN)
    try:
        tensors = load_file(folder / TENSORS)
        kinds = tuple(
            Terms(each.analyzer, tuple(each.terms), tensors[f"idf.{place}"], each.buckets)
            for place, each in enumerate(saved.kinds)
        )
        found = Counts(kinds, saved.pairs, tuple(saved.classes), tensors["coefficients"], tensors["intercepts"])
    except (OSError, SafetensorError, KeyError) as error:
        raise ModelError(f"{folder / TENSORS}: {said(error)}", _AGAIN) from error
    if not all(np.isfinite(array).all() for array in tensors.values()):
        raise ModelError(f"{folder / TENSORS}: its weights are not finite numbers", _AGAIN)
    sizes = [kind.buckets or len(kind.terms) for kind in kinds]
    columns = sum(sizes) + len(kinds) * saved.pairs
    shapes = [found.coefficients.shape, found.intercepts.shape, *(kind.idf.shape for kind in kinds)]
    fitting = [(len(saved.classes), columns), (len(saved.classes),), *((size,) for size in sizes)]
    if shapes != fitting or not set(saved.classes) <= set(range(outputs)):
        raise ModelError(f"{folder / FILE}, {TENSORS}: they do not fit each other, or {outputs} outputs", _AGAIN)
    return Stack(found, saved.loss, (saved.weights[0], saved.weights[1]))


def fit_counts(examples: Sequence[Example], labels: np.ndarray, outputs: int, loss: Loss, *, hashed: bool) -> Counts:
    """Fit counts on training examples. With `hashed` terms they hold none of the texts' words."""
    fields, classes = _fields(examples), classes_of(labels, loss)
    texts = [text for field in fields for text in field]
    analyzers: tuple[Analyzer, ...] = ("word", "char_wb") if choose_analyzer(texts) == "word" else ("char",)
    fitted = [fit_terms(texts, analyzer, most_terms(len(classes)), hashed) for analyzer in analyzers]
    read = [each for each in fitted if each is not None]
    if not read:
        unread = prior(labels, outputs, loss)[list(classes)]
        return Counts((), False, classes, np.zeros((len(classes), 0), np.float16), unread)
    pairs, rows = all(len(each.inputs) == 2 for each in examples), len(examples)
    each = [[found[start : start + rows] for start in range(0, len(texts), rows)] for _, found in read]
    coefficients, intercepts = regression(_joined(each, pairs), labels, C[loss], loss)
    kept = np.ascontiguousarray(coefficients, dtype=np.float16), intercepts.astype(np.float32)
    return Counts(tuple(terms for terms, _ in read), pairs, classes, *kept)


def _fields(examples: Sequence[Example]) -> list[list[str]]:
    """Return the texts of examples, those of each field together."""
    return [list(field) for field in zip_longest(*(each.inputs.values() for each in examples), fillvalue="")]


def _joined(features: Sequence[Sequence[csr_matrix]], pairs: bool) -> csr_matrix:
    """Return what is read of examples, by the features of each kind of terms and each field."""
    from scipy.sparse import csr_matrix as sparse
    from scipy.sparse import hstack

    # A mean, so that no term lies across two texts, and their order makes no difference.
    parts = [sum(fields[1:], fields[0]) / len(fields) for fields in features]
    if pairs:
        likeness = [first.multiply(second).sum(axis=1) for first, second in features]
        parts.append(sparse(_SIMILARITY * np.hstack([np.asarray(column) for column in likeness])))
    return hstack(parts).tocsr()


def _probabilities(model: np.ndarray, counts: np.ndarray, labels: np.ndarray, loss: Loss) -> tuple[float, float]:
    """Return the weights by which the summed log loss is least, in nats, with that of their prior."""
    from scipy.optimize import minimize

    def total(logarithms: Any) -> float:
        first, second = np.exp(logarithms)
        logits = first * model + second * counts
        if loss == "cross_entropy":
            nats = -log_softmax(logits, axis=1)[np.arange(len(labels)), labels].sum()
        else:
            nats = (np.logaddexp(0, logits) - labels * logits).sum() / labels.shape[1]
        return float(nats + _PRIOR_ROWS * ((logarithms - np.log(_WEIGHTS)) ** 2).sum())

    bounds = [(np.log(1e-3), np.log(100.0))] * 2
    first, second = np.exp(minimize(total, np.log(_WEIGHTS), method="L-BFGS-B", bounds=bounds).x)
    return float(first), float(second)


def _numbers(model: np.ndarray, counts: np.ndarray, labels: np.ndarray, loss: Loss) -> tuple[float, float]:
    """Return the weights, at least 0, by which the squared error is least, with that of their prior."""
    from scipy.optimize import nnls

    rows = np.concatenate([np.column_stack([model[:, 0], counts[:, 0]]), _PRIOR_ROWS * np.eye(2)])
    (first, second), _ = nnls(rows, np.concatenate([labels.ravel(), np.multiply(_PRIOR_ROWS, _MEAN)]))
    return float(first), float(second)
