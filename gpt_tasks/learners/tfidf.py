"""TF-IDF and a linear model on it: a logistic regression, one for each label, or a ridge regression."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from gpt_tasks.threads import ignoring_warnings
from gpt_tasks.words import is_unspaced

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Loss = Literal["cross_entropy", "binary", "squared"]
"""What is fitted: one of several labels, each label separately, or a number."""
Analyzer = Literal["word", "char", "char_wb"]

MOST_TERMS = 50_000
MOST_BUCKETS = 2**20
MOST_COEFFICIENTS = 5_000_000
"""Of many labels fewer terms are read: fitting takes some twenty times the memory of the coefficients."""
STEPS = 1_000

# The logit of a label that training always saw, or never.
_CERTAIN = 30.0
# A logit for minus infinity that JSON can hold.
_NEVER = 1e4


@dataclass(frozen=True)
class Terms:
    """The terms of texts, by TF-IDF with sublinear term frequencies.

    `analyzer` is `word` (1-2 grams), `char` (1-3 grams) or `char_wb` (2-5 grams within words); `terms` lie in the order
    of the columns of `idf` `[terms]`. Where terms are hashed, columns are `buckets` instead, each of several terms that
    nobody can tell (Weinberger et al. 2009).
    """

    analyzer: Analyzer
    terms: tuple[str, ...]
    idf: np.ndarray
    buckets: int = 0

    def features(self, texts: Sequence[str]) -> csr_matrix:
        """Return the rows `[texts, columns]` of texts, each of length 1 unless no term of it is known."""
        from sklearn.feature_extraction.text import CountVectorizer

        if self.buckets:
            counts = _hashed(texts, self.analyzer, self.buckets)
        else:
            counts = CountVectorizer(**_analysis(self.analyzer), vocabulary=self.terms).transform(texts)
        return _weighted(counts, self.idf)


@dataclass(frozen=True)
class Linear:
    """Terms of texts and a linear layer: see `Terms`.

    `coefficients` are `[classes, terms]`; `classes` are the outputs that training saw.
    """

    analyzer: Analyzer
    terms: tuple[str, ...]
    classes: tuple[int, ...]
    C: float
    idf: np.ndarray
    coefficients: np.ndarray
    intercepts: np.ndarray
    buckets: int = 0

    def logits(self, texts: Sequence[str], outputs: int) -> np.ndarray:
        """Return `[n, outputs]` in float32, minus infinity where training saw no row of an output."""
        known = np.tile(self.intercepts, (len(texts), 1)).astype(np.float64)
        if self.terms or self.buckets:
            terms = Terms(self.analyzer, self.terms, self.idf, self.buckets)
            known += terms.features(texts) @ self.coefficients.T.astype(np.float64)
        found = np.full((len(texts), outputs), -np.inf, dtype=np.float32)
        found[:, list(self.classes)] = known
        return found


def choose_analyzer(texts: Sequence[str]) -> Literal["word", "char"]:
    """Return `char` where most letters are of a script without spaces, else `word`."""
    return "char" if is_unspaced("".join(texts[:: max(1, len(texts) // 1_000)])) else "word"


def prior(labels: np.ndarray, outputs: int, loss: Loss) -> np.ndarray:
    """Return the logits `[outputs]` that are best where no text is read: of shares of labels, or the mean."""
    with np.errstate(divide="ignore"):
        if loss == "cross_entropy":
            shares = np.bincount(labels, minlength=outputs) / len(labels)
            unread: np.ndarray = np.log(shares).clip(-_NEVER).astype(np.float32)
            return unread
        means = labels.mean(axis=0, dtype=np.float64).reshape(outputs)
        if loss == "binary":
            means = (np.log(means) - np.log1p(-means)).clip(-_CERTAIN, _CERTAIN)
        rounded: np.ndarray = means.astype(np.float32)
        return rounded


def fit_linear(
    texts: Sequence[str],
    labels: np.ndarray,
    analyzer: Analyzer,
    c_values: Sequence[float],
    loss: Loss,
    *,
    hashed: bool = False,
) -> list[Linear]:
    """Fit one model for each inverse regularisation strength; `labels` are those of a head.

    With `hashed` terms the models hold none of the texts' words: there are half as many buckets as different terms.
    """
    classes = classes_of(labels, loss)
    read = fit_terms(texts, analyzer, most_terms(len(classes)), hashed)
    if read is None:
        # No text holds a single word: only the prior is left.
        unread = prior(labels, max(classes) + 1, loss)[list(classes)]
        nothing = np.zeros(0, np.float32), np.zeros((len(classes), 0), np.float16), unread
        return [Linear(analyzer, (), classes, strength, *nothing) for strength in c_values]
    terms, features = read
    found = []
    for strength in c_values:
        coefficients, intercepts = regression(features, labels, strength, loss)
        # In C order, because safetensors writes the bytes of an array in memory order.
        kept = np.ascontiguousarray(coefficients, dtype=np.float16), intercepts.astype(np.float32)
        found.append(Linear(analyzer, terms.terms, classes, strength, terms.idf, *kept, terms.buckets))
    return found


def classes_of(labels: np.ndarray, loss: Loss) -> tuple[int, ...]:
    """Return the outputs that a model of these labels has coefficients for."""
    return tuple(np.unique(labels).tolist()) if loss == "cross_entropy" else tuple(range(labels[:1].size))


def most_terms(classes: int) -> int:
    """Return how many terms a model of so many classes reads."""
    return max(1, min(MOST_TERMS, MOST_COEFFICIENTS // classes))


def fit_terms(texts: Sequence[str], analyzer: Analyzer, most: int, hashed: bool) -> tuple[Terms, csr_matrix] | None:
    """Return at most so many terms of texts, and these texts' features; None where no text holds a single term."""
    counts, terms, buckets = _counted(texts, analyzer, most, hashed)
    if counts is None:
        return None
    documents = np.bincount(counts.indices, minlength=counts.shape[1])
    idf = (np.log((1 + len(texts)) / (1 + documents)) + 1).astype(np.float32)
    return Terms(analyzer, terms, idf, buckets), _weighted(counts, idf)


def _counted(
    texts: Sequence[str], analyzer: Analyzer, most: int, hashed: bool
) -> tuple[csr_matrix | None, tuple[str, ...], int]:
    """Return how often each text `[texts, columns]` has each of `most` terms, these, or the number of buckets.

    None where no text holds a single term.
    """
    from sklearn.feature_extraction.text import CountVectorizer

    if hashed:
        terms = len(np.unique(_hashed(texts, analyzer, MOST_BUCKETS).indices))
        # So full, that a term has a bucket says next to nothing of whether it is one of the texts'.
        buckets = min(most, (terms + 1) // 2)
        return (_hashed(texts, analyzer, buckets), (), buckets) if buckets else (None, (), 0)
    vectorizer = CountVectorizer(**_analysis(analyzer), max_features=most)
    try:
        counts = vectorizer.fit_transform(texts)
    except ValueError:
        return None, (), 0
    return counts, tuple(vectorizer.get_feature_names_out().tolist()), 0


def _hashed(texts: Sequence[str], analyzer: Analyzer, buckets: int) -> csr_matrix:
    from sklearn.feature_extraction.text import HashingVectorizer

    return HashingVectorizer(**_analysis(analyzer), n_features=buckets, alternate_sign=False, norm=None).transform(
        texts
    )


def _analysis(analyzer: Analyzer) -> dict[str, Any]:
    """Return the settings of CountVectorizer: its own word pattern breaks words at the marks of Indian scripts."""
    import regex

    def normal(text: str) -> str:
        return unicodedata.normalize("NFC", text.lower())

    if analyzer == "char":
        return {"analyzer": "char", "ngram_range": (1, 3), "preprocessor": normal}
    if analyzer == "char_wb":
        return {"analyzer": "char_wb", "ngram_range": (2, 5), "preprocessor": normal}
    found = regex.compile(r"[\p{L}\p{M}\p{N}_]{2,}").findall
    return {"ngram_range": (1, 2), "preprocessor": normal, "tokenizer": found, "token_pattern": None}


def _weighted(counts: csr_matrix, idf: np.ndarray) -> csr_matrix:
    from sklearn.preprocessing import normalize

    counts = counts.astype(np.float64)
    counts.data = (1 + np.log(counts.data)) * idf[counts.indices]
    return normalize(counts)


def regression(features: csr_matrix, labels: np.ndarray, strength: float, loss: Loss) -> tuple[np.ndarray, np.ndarray]:
    """Return coefficients `[classes, terms]` and intercepts `[classes]`."""
    from sklearn.linear_model import Ridge

    if loss == "squared":
        model = Ridge(alpha=1 / strength).fit(features, labels)
        return model.coef_[None], np.array([model.intercept_])
    if loss == "binary":
        each = [_logistic(features, right, strength) for right in labels.T]
        return np.concatenate([coefficients for coefficients, _ in each]), np.concatenate([it for _, it in each])
    if len(np.unique(labels)) == 1:
        return np.zeros((1, features.shape[1])), np.zeros(1)
    coefficients, intercepts = _logistic(features, labels, strength)
    if len(intercepts) == 1:
        # A sigmoid of one logit is a softmax of it and a logit of zero.
        coefficients = np.concatenate([np.zeros_like(coefficients), coefficients])
        intercepts = np.concatenate([np.zeros_like(intercepts), intercepts])
    return coefficients, intercepts


def _logistic(features: csr_matrix, labels: np.ndarray, strength: float) -> tuple[np.ndarray, np.ndarray]:
    """Return coefficients and intercepts, one row for two classes; of a single class the certain logit alone."""
    from sklearn.linear_model import LogisticRegression

    if labels.min() == labels.max():
        return np.zeros((1, features.shape[1])), np.array([_CERTAIN if labels.any() else -_CERTAIN])
    with ignoring_warnings():  # of steps that end before it converges
        model = LogisticRegression(C=strength, max_iter=STEPS).fit(features, labels)
    return model.coef_, model.intercept_
