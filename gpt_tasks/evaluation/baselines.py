"""What a model must beat: the majority class, and TF-IDF with logistic regression, trained on the same rows."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gpt_tasks.errors import ModelError
from gpt_tasks.files import write_json

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

MAJORITY = "majority"
TFIDF = "tfidf_logistic_regression"
SCHEMA_VERSION = 1
MOST_ROWS = 50_000
MOST_TERMS = 50_000
STRENGTHS = (1.0, 10.0)
STEPS = 1_000

_CHUNK = 5_000
# Scripts that put no spaces between words: Thai to Myanmar, Khmer, kana, Han.
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")


@dataclass(frozen=True)
class Linear:
    """TF-IDF with sublinear term frequencies, and a softmax over a linear layer.

    `analyzer` is `word` (1-2 grams) or `char` (1-3 grams); `terms` lie in the order of the columns of `idf` `[terms]`
    and `coefficients` `[classes, terms]`; `classes` are the label indices that training saw.
    """

    analyzer: str
    terms: tuple[str, ...]
    classes: tuple[int, ...]
    strength: float
    idf: np.ndarray
    coefficients: np.ndarray
    intercepts: np.ndarray

    def probabilities(self, texts: Sequence[str], n_labels: int) -> np.ndarray:
        """Return `[n, labels]` in float32."""
        from scipy.special import softmax

        logits = np.tile(self.intercepts, (len(texts), 1)).astype(np.float64)
        if self.terms:
            logits += self._features(texts) @ self.coefficients.T.astype(np.float64)
        found = np.zeros((len(texts), n_labels), dtype=np.float32)
        found[:, list(self.classes)] = softmax(logits, axis=1)
        return found

    def _features(self, texts: Sequence[str]) -> csr_matrix:
        from sklearn.feature_extraction.text import CountVectorizer

        counts = CountVectorizer(**_analysis(self.analyzer), vocabulary=self.terms).transform(texts)
        return _weighted(counts, self.idf)


@dataclass(frozen=True)
class Baselines:
    """The fitted baselines: `shares` `[labels]` of the training rows, and the linear model."""

    shares: tuple[float, ...]
    linear: Linear
    notes: tuple[str, ...] = ()

    def predict(self, texts: Iterable[str]) -> dict[str, np.ndarray]:
        """Return each baseline's probabilities `[n, labels]` in float32, reading the texts some at a time.

        The majority class answers everything with the labels' shares, of which the largest is its prediction.
        """
        texts, n_labels = iter(texts), len(self.shares)
        chunks = [np.zeros((0, n_labels), dtype=np.float32)]
        while chunk := list(islice(texts, _CHUNK)):
            chunks.append(self.linear.probabilities(chunk, n_labels))
        linear = np.concatenate(chunks)
        return {MAJORITY: np.tile(np.array(self.shares, dtype=np.float32), (len(linear), 1)), TFIDF: linear}

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
                "shares": self.shares,
                "notes": self.notes,
                "analyzer": linear.analyzer,
                "strength": linear.strength,
                "classes": linear.classes,
                "terms": linear.terms,
            },
        )


def load_baselines(folder: Path) -> Baselines:
    """Read what `Baselines.save` wrote. Raises ModelError, naming the folder, where it is missing or damaged."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        saved = json.loads((folder / "baselines.json").read_text(encoding="utf-8"))
        if saved["schema_version"] != SCHEMA_VERSION:
            raise ModelError(
                f"The baselines in {folder} have schema version {saved['schema_version']}, not {SCHEMA_VERSION}",
                "Train the run again, or use the version of gpt-tasks that made it.",
            )
        return _restored(saved, load_file(folder / "baselines.safetensors"))
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ModelError(f"The baselines in {folder} cannot be read: {error}", "Train the run again.") from error


def fit_baselines(
    train_texts: Iterable[str],
    train_labels: np.ndarray,
    validation_texts: Iterable[str],
    validation_labels: np.ndarray,
    n_labels: int,
    *,
    seed: int,
) -> Baselines:
    """Fit the baselines on texts (of pairs, joined by a line break) and label indices `[n]`.

    TF-IDF takes words (1-2 grams), or characters (1-3 grams) where most letters are of a script without spaces, at
    most 50,000 terms and 50,000 rows, drawn from the seed. The logistic regression's C is 1 or 10, by accuracy on
    validation; where there is none, on a fifth of the training rows. The same input gives the same baselines.
    """
    texts, labels = _drawn(train_texts, train_labels, seed)
    notes = []
    if len(labels) < len(train_labels):
        notes.append(
            f"The TF-IDF baseline was fitted on {MOST_ROWS:,} of {len(train_labels):,} training rows, drawn at random."
        )
    held_out, held_out_labels = _drawn(validation_texts, validation_labels, seed)
    analyzer, n_labels_seen = _analyzer(texts), len(np.unique(labels))
    if held_out:
        linear = _chosen(_fitted(texts, labels, analyzer, STRENGTHS), held_out, held_out_labels, n_labels)
    elif len(texts) >= 5 * n_labels_seen:
        fit, held = _fifth_left_out(labels, seed)
        candidates = _fitted([texts[row] for row in fit], labels[fit], analyzer, STRENGTHS)
        best = _chosen(candidates, [texts[row] for row in held], labels[held], n_labels)
        linear = _fitted(texts, labels, analyzer, [best.strength])[0]
    else:
        linear = _fitted(texts, labels, analyzer, STRENGTHS[:1])[0]
    counts = np.bincount(train_labels, minlength=n_labels)
    return Baselines(tuple((counts / counts.sum()).tolist()), linear, tuple(notes))


def _drawn(texts: Iterable[str], labels: np.ndarray, seed: int) -> tuple[list[str], np.ndarray]:
    """Draw at most 50,000 rows without replacement, kept in their order; the texts are read once."""
    if len(labels) <= MOST_ROWS:
        return list(texts), labels
    rows = np.sort(np.random.default_rng(seed).choice(len(labels), MOST_ROWS, replace=False))
    wanted = np.zeros(len(labels), dtype=bool)
    wanted[rows] = True
    return [text for text, want in zip(texts, wanted, strict=True) if want], labels[rows]


def _analyzer(texts: Sequence[str]) -> str:
    sample = "".join(texts[:: max(1, len(texts) // 1_000)])
    letters = sum(character.isalpha() for character in sample)
    return "char" if len(_UNSPACED.findall(sample)) > letters / 2 else "word"


def _analysis(analyzer: str) -> dict[str, Any]:
    return {"analyzer": analyzer, "ngram_range": (1, 2) if analyzer == "word" else (1, 3)}


def _fifth_left_out(labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.model_selection import train_test_split

    stratify = labels if np.bincount(labels).clip(1)[labels].min() > 1 else None
    fit, held = train_test_split(np.arange(len(labels)), test_size=0.2, random_state=seed, stratify=stratify)
    return fit, held


def _fitted(texts: Sequence[str], labels: np.ndarray, analyzer: str, strengths: Sequence[float]) -> list[Linear]:
    from sklearn.feature_extraction.text import CountVectorizer

    vectorizer = CountVectorizer(**_analysis(analyzer), max_features=MOST_TERMS)
    seen, occurrences = np.unique(labels, return_counts=True)
    classes = tuple(seen.tolist())
    try:
        counts = vectorizer.fit_transform(texts)
    except ValueError:
        # No text holds a single word: what is left to know is how often each label is right.
        shares = np.log(occurrences / occurrences.sum()).astype(np.float32)
        nothing = (np.zeros(0, np.float32), np.zeros((len(classes), 0), np.float16), shares)
        return [Linear(analyzer, (), classes, strength, *nothing) for strength in strengths]
    terms = tuple(vectorizer.get_feature_names_out().tolist())
    documents = np.bincount(counts.indices, minlength=len(terms))
    idf = (np.log((1 + len(texts)) / (1 + documents)) + 1).astype(np.float32)
    features = _weighted(counts, idf)
    return [
        Linear(analyzer, terms, classes, strength, idf, *_regression(features, labels, strength))
        for strength in strengths
    ]


def _weighted(counts: csr_matrix, idf: np.ndarray) -> csr_matrix:
    from sklearn.preprocessing import normalize

    counts = counts.astype(np.float64)
    counts.data = (1 + np.log(counts.data)) * idf[counts.indices]
    return normalize(counts)


def _regression(features: csr_matrix, labels: np.ndarray, strength: float) -> tuple[np.ndarray, np.ndarray]:
    """Return coefficients `[classes, terms]` in float16, as they are kept, and intercepts `[classes]`."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    classes = len(np.unique(labels))
    if classes == 1:
        return np.zeros((1, features.shape[1]), np.float16), np.zeros(1, np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(C=strength, max_iter=STEPS).fit(features, labels)
    coefficients, intercepts = model.coef_, model.intercept_
    if classes == 2:
        # A sigmoid of one logit is a softmax beside a logit of zero.
        coefficients = np.concatenate([np.zeros_like(coefficients), coefficients])
        intercepts = np.concatenate([np.zeros_like(intercepts), intercepts])
    # In C order, for safetensors writes the bytes of an array as they lie.
    return np.ascontiguousarray(coefficients, dtype=np.float16), intercepts.astype(np.float32)


def _chosen(candidates: Sequence[Linear], texts: Sequence[str], labels: np.ndarray, n_labels: int) -> Linear:
    """Return the candidate that is right most often, the first of those that tie."""
    return max(candidates, key=lambda linear: np.mean(linear.probabilities(texts, n_labels).argmax(1) == labels))


def _restored(saved: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> Baselines:
    linear = Linear(
        saved["analyzer"],
        tuple(saved["terms"]),
        tuple(saved["classes"]),
        saved["strength"],
        tensors["idf"],
        tensors["coefficients"],
        tensors["intercepts"],
    )
    terms, classes = len(linear.terms), len(linear.classes)
    if (linear.idf.shape, linear.coefficients.shape, linear.intercepts.shape) != (
        (terms,),
        (classes, terms),
        (classes,),
    ):
        raise ValueError(f"the tensors do not fit {classes} classes and {terms} terms")
    if not set(linear.classes) <= set(range(len(saved["shares"]))):
        raise ValueError(f"classes {linear.classes} go beyond the {len(saved['shares'])} labels")
    return Baselines(tuple(saved["shares"]), linear, tuple(saved["notes"]))
