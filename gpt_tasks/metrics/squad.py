"""Exact match and F1 as the evaluations of question answering define them, and the best threshold of "no answer"."""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Literal

from gpt_tasks.extensions import Metric
from gpt_tasks.types import Statistic
from gpt_tasks.words import has_unspaced, words

if TYPE_CHECKING:
    import numpy

Language = Literal["en", "de", "zh"]
"""By which evaluation answers are compared: SQuAD's, MLQA's for German, CMRC 2018's.

SQuAD's removes English articles, the German preposition "an" among them, and only the punctuation of ASCII; MLQA's
(Lewis et al. 2020) is the same with German articles and all punctuation of Unicode. The figures that are published for
XQuAD in German are SQuAD's: of "en".
"""


@dataclass(frozen=True, slots=True)
class _Rules:
    """An evaluation: what is left of a text to be compared, its tokens, and how many of them two texts share."""

    name: str
    bare: Callable[[str], str]
    tokens: Callable[[str], list[str]]
    common: Callable[[list[str], list[str]], int]


def squad_metrics(language: Language = "en", *, unanswerable: bool = False) -> tuple[Metric, ...]:
    """Exact match and F1, each of 0 to 1 and the best over the references (Rajpurkar et al. 2016; Cui et al. 2019).

    A question without references has no answer, and only an answer that normalizes to nothing is right. With
    `unanswerable` all is counted as by SQuAD 2.0 (Rajpurkar et al. 2018): a reference that normalizes to nothing is
    none, and both metrics are repeated for the questions that have an answer, and exact match for those that have none,
    where it equals F1. An example has the weight 0 in a metric that is not about it: one about no example at all has no
    figure.
    """
    kinds: tuple[_Kind, ...] = ("exact_match", "f1")
    metrics = [_metric(kind, kind, language, unanswerable, None) for kind in kinds]
    if unanswerable:
        metrics += [_metric(f"has_answer_{kind}", kind, language, True, True) for kind in kinds]
        metrics.append(_metric("no_answer_exact_match", "exact_match", language, True, False))
    return tuple(metrics)


@dataclass(frozen=True, slots=True)
class Threshold:
    """A mean score of 0 to 1, and the probability of "no answer" above which none is to be given to reach it."""

    score: float
    above: float


def best_threshold(
    scores: numpy.ndarray, no_answer: numpy.ndarray, has_answer: numpy.ndarray, answered: numpy.ndarray
) -> Threshold:
    """Return the threshold that the mean score is best at, as SQuAD 2.0's evaluation finds it.

    For every question, `[n]`: the score (exact match or F1) of the answer that was given, the probability of "no
    answer", whether the question has an answer, and whether one was given. Answering begins with the questions of the
    lowest probability; the first of several best places counts, and equal probabilities are ordered as if they were
    different.
    """
    import numpy as np

    order = np.argsort(no_answer, kind="stable")
    gains = np.where(has_answer, scores, np.where(answered, -1.0, 0.0))[order]
    # At first nothing is answered, which is right where there is no answer.
    sums = np.cumsum(np.concatenate([[np.count_nonzero(~has_answer)], gains]))
    best = int(sums.argmax())
    return Threshold(float(sums[best] / len(scores)), float(no_answer[order[best - 1]]) if best else 0.0)


_Kind = Literal["exact_match", "f1"]


def _metric(name: str, kind: _Kind, language: Language, unanswerable: bool, about: bool | None) -> Metric:
    return Metric(
        name,
        "Share of exact answers." if kind == "exact_match" else "Shared words of answer and reference.",
        range=(0.0, 1.0),
        statistic=partial(_statistic, kind, language, unanswerable, about),
        signature=partial(_signature, language, unanswerable),
    )


def _statistic(
    kind: _Kind, language: Language, unanswerable: bool, about: bool | None, answer: str, references: Sequence[str]
) -> Statistic:
    """Compare an answer with its references; `about` says whether questions with or without an answer count."""
    rules = _RULES[language]
    unanswerable = unanswerable or not references
    given, right = rules.bare(answer), [rules.bare(reference) for reference in references]
    if unanswerable:
        right = [reference for reference in right if reference] or [""]
    if kind == "exact_match":
        value = float(given in right)
    else:
        value = max(_f1(rules, given, reference, unanswerable) for reference in right)
    return Statistic(value, float(about is None or about == bool(references)))


def _f1(rules: _Rules, given: str, right: str, unanswerable: bool) -> float:
    if unanswerable and not (given and right):
        return float(given == right)
    tokens, others = rules.tokens(given), rules.tokens(right)
    common = rules.common(tokens, others)
    if not common:
        return 0.0
    # In these steps, so that the last digits are those of the evaluations.
    precision, recall = common / len(tokens), common / len(others)
    return (2 * precision * recall) / (precision + recall)


def _signature(language: Language, unanswerable: bool, _references: int) -> str:
    name = _RULES[language].name
    if language == "en":
        return f"{name} 2.0" if unanswerable else f"{name} 1.1"
    return f"{name}, no answer as SQuAD 2.0" if unanswerable else name


def _english(text: str) -> str:
    plain = _normal(text).translate(_NO_ASCII_PUNCTUATION)
    if has_unspaced(plain):
        plain = "".join(character for character in plain if not _is_punctuation(character))
    return " ".join(_ENGLISH.sub(" ", plain).split())


def _german(text: str) -> str:
    plain = "".join(character for character in _normal(text) if not _is_punctuation(character))
    return " ".join(_GERMAN.sub(" ", plain).split())


def _chinese(text: str) -> str:
    return "".join(character for character in _normal(text).strip() if character not in _CHINESE_SIGNS)


def _normal(text: str) -> str:
    """Return a text in lower case, and in Unicode's form NFC: two forms of one letter are equal."""
    return text.lower() if text.isascii() else unicodedata.normalize("NFC", text.lower())


def _words(text: str) -> list[str]:
    """Split a text by white space, and each stretch of a script that puts none between words into characters."""
    found: list[str] = []
    for word in text.split():
        found += words(word) if has_unspaced(word) else [word]
    return found


@cache
def _is_punctuation(character: str) -> bool:
    return character in string.punctuation or unicodedata.category(character).startswith("P")


def _shared_words(tokens: list[str], others: list[str]) -> int:
    return (Counter(tokens) & Counter(others)).total()


def _longest_run(tokens: list[str], others: list[str]) -> int:
    return SequenceMatcher(None, tokens, others, autojunk=False).find_longest_match().size


def _segments(text: str) -> list[str]:
    """Each Chinese character as a token, and the words of the text between them."""
    found: list[str] = []
    for stretch in _CHINESE_OR_NOT.findall(text):
        if _CHINESE_CHARACTER.match(stretch):
            found.append(stretch)
        else:
            found += _word_tokenizer().tokenize(stretch)
    return found


@cache
def _word_tokenizer() -> Any:
    # CMRC cuts such a stretch into sentences first, for which nltk would need an extra file: it matters only where
    # one sentence ends and another begins between two Chinese characters.
    from nltk.tokenize import NLTKWordTokenizer

    return NLTKWordTokenizer()


_NO_ASCII_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ENGLISH = re.compile(r"\b(a|an|the)\b")
_GERMAN = re.compile(r"\b(ein|eine|einen|einem|eines|einer|der|die|das|den|dem|des)\b")
# The signs that CMRC 2018 names, and no others; its ellipsis is of two characters, which no single one equals.
_CHINESE_SIGNS = frozenset("-:_*^/\\~`+=\uff0c\u3002\uff1a\uff1f\uff01\u201c\u201d\uff1b\u2019\u300a\u300b\u00b7\u3001")
_CHINESE_SIGNS |= frozenset("\u300c\u300d\uff08\uff09\uff0d\uff5e\u300e\u300f")
_CHINESE_CHARACTER = re.compile("[\u4e00-\u9fa5]")
_CHINESE_OR_NOT = re.compile("[\u4e00-\u9fa5]|[^\u4e00-\u9fa5]+")

_RULES: Mapping[Language, _Rules] = {
    "en": _Rules("SQuAD", _english, _words, _shared_words),
    "de": _Rules("MLQA, de", _german, _words, _shared_words),
    "zh": _Rules("CMRC 2018", _chinese, _segments, _longest_run),
}
