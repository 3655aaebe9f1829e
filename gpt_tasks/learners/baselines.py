"""What a model must beat, trained on the same rows: an answer without reading, and TF-IDF with a linear model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from gpt_tasks.errors import ModelError, said
from gpt_tasks.files import write_json
from gpt_tasks.learners import tfidf
from gpt_tasks.learners.tfidf import Linear, Loss, choose_analyzer, prior
from gpt_tasks.saved_json import checked, read_json
from gpt_tasks.types import Example

MAJORITY = "majority"
FREQUENT = "frequent_labels"
MEAN = "mean"
TFIDF = "tfidf_logistic_regression"
TFIDF_RIDGE = "tfidf_ridge_regression"
SCHEMA_VERSION = 2
MOST_ROWS = 50_000
C_VALUES = (1.0, 10.0)

_CHUNK = 5_000
_AGAIN = "Copy the run again, or train it again."


@dataclass(frozen=True)
class Baselines:
    """The fitted baselines: the logits `prior` `[outputs]` of an answer without reading, and the linear model.

    They answer as a head does that learns by `loss`.
    """

    prior: tuple[float, ...]
    linear: Linear
    loss: Loss = "cross_entropy"
    notes: tuple[str, ...] = ()

    def logits(self, texts: Iterable[str]) -> dict[str, np.ndarray]:
        """Return each baseline's logits `[n, outputs]` in float32, reading the texts some at a time."""
        texts, outputs = iter(texts), len(self.prior)
        chunks = [np.zeros((0, outputs), dtype=np.float32)]
        while chunk := list(islice(texts, _CHUNK)):
            chunks.append(self.linear.logits(chunk, outputs))
        linear = np.concatenate(chunks)
        names = (MEAN, TFIDF_RIDGE) if self.loss == "squared" else (MAJORITY, TFIDF)
        unread = np.tile(np.array(self.prior, dtype=np.float32), (len(linear), 1))
        return dict(zip(names, (unread, linear), strict=True))

    def save(self, folder: Path) -> None:
        """Write `baselines.json` and `baselines.safetensors` into a folder, which is made where it is missing."""
        from safetensors.numpy import save

        folder.mkdir(parents=True, exist_ok=True)
        linear = self.linear
        tensors = {"idf": linear.idf, "coefficients": linear.coefficients, "intercepts": linear.intercepts}
        (folder / "baselines.safetensors").write_bytes(save(tensors))
        write_json(
            folder / "baselines.json",
            {
                "schema_version": SCHEMA_VERSION,
                "prior": self.prior,
                "loss": self.loss,
                "notes": self.notes,
                "analyzer": linear.analyzer,
                "strength": linear.C,
                "classes": linear.classes,
                "terms": linear.terms,
                "buckets": linear.buckets,
            },
        )


class _Saved(BaseModel):
    """What `baselines.json` holds."""

    model_config = ConfigDict(allow_inf_nan=False)

    prior: list[float] = Field(min_length=1)
    loss: Loss
    notes: list[str]
    analyzer: Literal["word", "char"]
    strength: float
    classes: list[int]
    terms: list[str]
    buckets: int = Field(0, ge=0)


def load_baselines(folder: Path) -> Baselines:
    """Read what `Baselines.save` wrote. Raises ModelError, naming the folder, where it is missing or damaged."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    file, tensors = folder / "baselines.json", folder / "baselines.safetensors"
    content = read_json(file, _AGAIN)
    version = content.get("schema_version")
    if version != SCHEMA_VERSION:
        raise ModelError(
            f"{file} has schema version {version!r:.20}; this gpt-tasks reads {SCHEMA_VERSION}",
            "Train the run again, or use the version of gpt-tasks that made it.",
        )
    saved = checked(file, content, _Saved, _AGAIN)
    try:
        arrays = load_file(tensors)
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(f"{tensors}: {said(error)}", _AGAIN) from error
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise ModelError(f"{tensors}: its weights are not finite numbers", _AGAIN)
    try:
        return _restored(saved, arrays)
    except (ValueError, KeyError) as error:
        raise ModelError(f"{file}, {tensors.name}: {said(error)}", _AGAIN) from error


def fit_baselines(
    train_texts: Iterable[str],
    train_labels: np.ndarray,
    validation_texts: Iterable[str],
    validation_labels: np.ndarray,
    outputs: int,
    *,
    loss: Loss = "cross_entropy",
    seed: int,
    hashed: bool = False,
) -> Baselines:
    """Fit the baselines on texts (of pairs, joined by a line break) and labels, as learners of heads learn them.

    TF-IDF takes words (1-2 grams), or characters (1-3 grams) where most letters are of a script without spaces, at
    most 50,000 terms (of many labels 5 million by their number) and 50,000 rows, drawn from the seed. The inverse
    regularisation strength of what reads it, a logistic or ridge regression, is 1 or 10, by accuracy or else by the
    loss on validation; where there is none, on a fifth of the training rows. With `hashed` terms the baselines hold
    none. The same input gives the same baselines.
    """
    texts, labels = _drawn(train_texts, train_labels, seed)
    notes = []
    if len(labels) < len(train_labels):
        notes.append(
            f"The TF-IDF baseline was fitted on {MOST_ROWS:,} of {len(train_labels):,} training rows, drawn at random."
        )
    held_out, held_out_labels = _drawn(validation_texts, validation_labels, seed)
    fit_linear = partial(tfidf.fit_linear, hashed=hashed)
    analyzer = choose_analyzer(texts)
    least = 5 * len(np.unique(labels)) if loss == "cross_entropy" else 10
    if held_out:
        linear = _chosen(fit_linear(texts, labels, analyzer, C_VALUES, loss), held_out, held_out_labels, outputs, loss)
    elif len(texts) >= least:
        fit, held = _fifth_left_out(labels, loss, seed)
        candidates = fit_linear([texts[row] for row in fit], labels[fit], analyzer, C_VALUES, loss)
        best = _chosen(candidates, [texts[row] for row in held], labels[held], outputs, loss)
        linear = fit_linear(texts, labels, analyzer, [best.C], loss)[0]
    else:
        linear = fit_linear(texts, labels, analyzer, C_VALUES[:1], loss)[0]
    unread = prior(train_labels, outputs, loss)
    if loss == "binary" and held_out:
        # The threshold is the best one on validation, as for the model.
        linear = replace(
            linear, intercepts=linear.intercepts - best_cut(linear.logits(held_out, outputs), held_out_labels)
        )
        unread = unread - best_cut(np.tile(unread, (len(held_out), 1)), held_out_labels)
    return Baselines(tuple(unread.tolist()), linear, loss, tuple(notes))


def _drawn(texts: Iterable[str], labels: np.ndarray, seed: int) -> tuple[list[str], np.ndarray]:
    """Draw at most 50,000 rows without replacement, in their order; the texts are read once."""
    if len(labels) <= MOST_ROWS:
        return list(texts), labels
    rows = np.sort(np.random.default_rng(seed).choice(len(labels), MOST_ROWS, replace=False))
    wanted = np.zeros(len(labels), dtype=bool)
    wanted[rows] = True
    return [text for text, want in zip(texts, wanted, strict=True) if want], labels[rows]


def _fifth_left_out(labels: np.ndarray, loss: Loss, seed: int) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.model_selection import train_test_split

    by_label = loss == "cross_entropy" and np.bincount(labels).clip(1)[labels].min() > 1
    stratify = labels if by_label else None
    fit, held = train_test_split(np.arange(len(labels)), test_size=0.2, random_state=seed, stratify=stratify)
    return fit, held


def _chosen(candidates: Sequence[Linear], texts: Sequence[str], labels: np.ndarray, outputs: int, loss: Loss) -> Linear:
    """Return the candidate that is right most often, or loses least, the first of those that tie."""

    def merit(linear: Linear) -> float:
        logits = linear.logits(texts, outputs)
        if loss == "cross_entropy":
            return float(np.mean(logits.argmax(1) == labels))
        if loss == "binary":
            return float((labels * logits - np.logaddexp(0, logits)).mean())
        return -float(((logits[:, 0] - labels) ** 2).mean())

    return max(candidates, key=merit)


def _restored(saved: _Saved, tensors: Mapping[str, np.ndarray]) -> Baselines:
    arrays = tensors["idf"], tensors["coefficients"], tensors["intercepts"]
    linear = Linear(saved.analyzer, tuple(saved.terms), tuple(saved.classes), saved.strength, *arrays, saved.buckets)
    terms, classes = linear.buckets or len(linear.terms), len(linear.classes)
    if [array.shape for array in arrays] != [(terms,), (classes, terms), (classes,)]:
        raise ValueError(f"the tensors do not fit {classes} classes and {terms} terms")
    if not set(linear.classes) <= set(range(len(saved.prior))):
        raise ValueError(f"classes {linear.classes} go beyond the {len(saved.prior)} labels")
    return Baselines(tuple(saved.prior), linear, saved.loss, tuple(saved.notes))


def best_cut(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the logit from which giving labels has the best micro F1; logits and labels are `[n, labels]`."""
    values = logits.astype("float64").ravel()
    order = np.argsort(-values, kind="stable")
    given, right = np.arange(1, len(order) + 1), np.cumsum(labels.ravel()[order])
    f1 = 2 * right / (given + labels.sum())
    # Labels of one probability are given together or not at all.
    last = np.append(np.diff(values[order]) != 0, True)
    best = int(np.argmax(np.where(last, f1, -1.0)))
    at = float(values[order][best])
    return (at + float(values[order][best + 1])) / 2 if best + 1 < len(order) else at - 1.0


def plain_texts(examples: Iterable[Example]) -> Iterator[str]:
    """Yield what a baseline reads of each example: its texts, one below the other."""
    for example in examples:
        yield "\n".join(example.inputs.values())
