"""From the logits of windows to answers: the n best of every question, and how likely it is that there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from typing import NamedTuple

import numpy as np
from scipy.special import expit

from gpt_tasks.tasks.span_windows import Windows

N_BEST = 20
LONGEST = 30
"""The most tokens of an answer."""
_CHUNK = 512
_LEAST = np.finfo(np.float32).min


class Candidate(NamedTuple):
    """An answer: its text, which is empty for "no answer", and the characters [start, end) of the context it is.

    Its score is the sum of the logits; the probabilities of a question's candidates sum to 1.
    """

    text: str
    start: int
    end: int
    start_logit: float
    end_logit: float
    probability: float


@dataclass(frozen=True, eq=False)
class BestSpans:
    """The candidates of questions, the best first: those of question i are at bounds[i] to bounds[i + 1].

    By candidate: `texts`, empty for "no answer"; `spans` `[candidates, 2]`, the characters [start, end) of the context,
    (0, 0) for "no answer"; `start_logits`, `end_logits` and `probabilities` `[candidates]`. By question: `no_answer`
    `[questions]`, the probability of "no answer" against the best answer alone, 1 where there is no other; None where
    every question is taken to have an answer.
    """

    bounds: np.ndarray
    texts: Sequence[str]
    spans: np.ndarray
    start_logits: np.ndarray
    end_logits: np.ndarray
    probabilities: np.ndarray
    no_answer: np.ndarray | None

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def candidates(self, question: int) -> list[Candidate]:
        """Return the candidates of one question."""
        own = slice(*self.bounds[question : question + 2].tolist())
        columns = (self.spans[:, 0], self.spans[:, 1], self.start_logits, self.end_logits, self.probabilities)
        return list(map(Candidate, self.texts[own], *(column[own].tolist() for column in columns)))


def best_spans(
    start_logits: np.ndarray,
    end_logits: np.ndarray,
    windows: Windows,
    contexts: Sequence[str],
    *,
    n: int = N_BEST,
    longest: int = LONGEST,
    unanswerable: bool = False,
) -> BestSpans:
    """Return the `n` best candidates of every question, `contexts` `[questions]`, as transformers' run_qa chooses them.

    The `n` greatest start logits of a window are paired with its `n` greatest end logits, at any position; pairs
    outside the context, out of order or of more than `longest` tokens are dropped. The result is the `n` pairs of the
    greatest sum over all windows; of equal sums that of the earlier window comes first, then that of the greater start
    logit, then of the greater end logit; of equal logits the later position.

    With `unanswerable`, "no answer" is one more candidate: both logits of the closing token, of the window where their
    sum is the least. Where it is not among the `n` best, it comes after them.

    `start_logits` and `end_logits` are `[windows, length]`; positions past a window's own length are ignored.
    A question none of whose pairs remains has no candidate but "no answer" (run_qa answers "empty").
    """
    starts, ends = np.asarray(start_logits, dtype=np.float32), np.asarray(end_logits, dtype=np.float32)
    questions = len(contexts)
    found = [
        _of_windows(starts, ends, windows, slice(begin, begin + _CHUNK), n, longest)
        for begin in range(0, len(windows), _CHUNK)
    ]
    if unanswerable:
        found.append(_no_answers(starts, ends, windows, questions))
    owners, spans, logits = (np.concatenate(parts) for parts in zip(*found, strict=True))
    scores = logits.sum(axis=1)
    # Where scores are equal the order stays: of windows, of start logits, of end logits; "no answer" comes last.
    order = np.argsort((owners << 32) - _as_integers(scores), kind="stable")
    ranks = np.arange(len(order)) - np.searchsorted(owners[order], owners[order])
    order = order[(ranks < n) | (spans[order, 1] == 0)]
    owners, spans, logits, scores = owners[order], spans[order], logits[order], scores[order].astype(np.float64)
    bounds = np.searchsorted(owners, np.arange(questions + 1))
    shares = np.exp(scores - scores[bounds[owners]])
    return BestSpans(
        bounds=bounds,
        texts=_texts(contexts, bounds, spans),
        spans=spans,
        start_logits=logits[:, 0],
        end_logits=logits[:, 1],
        probabilities=shares / np.bincount(owners, shares, questions)[owners],
        no_answer=_beside_best(owners, spans, scores, questions) if unanswerable else None,
    )


_Found = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Of candidates: the questions `[m]`, the characters `[m, 2]`, the start and end logits `[m, 2]`."""


def _of_windows(starts: np.ndarray, ends: np.ndarray, windows: Windows, some: slice, n: int, longest: int) -> _Found:
    """Return the candidates of some windows, of each at least the `n` best, as a loop over their logits meets them."""
    first, first_logits, first_places = _greatest(starts, windows, some, n)
    last, last_logits, last_places = _greatest(ends, windows, some, n)
    sums = first_logits[:, :, None] + last_logits[:, None, :]
    # Unsigned, so that what ends before it begins is very long.
    apart = (last[:, None, :] - first[:, :, None]).astype(np.uint32)
    np.putmask(sums, apart >= longest, -np.inf)
    pairs = sums.reshape(len(sums), -1)
    from_least = max(0, pairs.shape[1] - n)
    least = np.partition(pairs, from_least, axis=1)[:, from_least]
    best = np.flatnonzero(pairs >= np.maximum(least, _LEAST)[:, None])
    window, one, other = np.unravel_index(best, sums.shape)
    return (
        windows.examples[some][window],
        np.stack([first_places[window, one, 0], last_places[window, other, 1]], axis=1),
        np.stack([first_logits[window, one], last_logits[window, other]], axis=1),
    )


def _greatest(logits: np.ndarray, windows: Windows, some: slice, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return of some windows the positions of the `n` greatest logits, the greatest first and of equal ones the later;
    these logits, -inf where an answer can neither begin nor end; and the characters there, `[some, n, 2]`.

    Logit and position are packed into one whole number, so that a partition replaces a stable sort.
    """
    openings, closings = windows.openings[some, None], windows.closings[some, None]
    columns = np.arange(logits.shape[1], dtype=np.int32)
    others = max(0, len(columns) - n)
    values = np.where(columns > closings, -np.inf, logits[some])
    keys = np.partition((_as_integers(values) << 32) | columns, others, axis=1)[:, others:]
    positions = (np.sort(keys, axis=1)[:, ::-1] & 0xFFFFFFFF).astype(np.int32)
    inside = (openings <= positions) & (positions < closings)
    places = windows.places[np.where(inside, windows.firsts[some, None] + positions - openings, 0)]
    usable = inside & (places[..., 0] < places[..., 1])
    return positions, np.where(usable, np.take_along_axis(values, positions, axis=1), -np.inf), places


def _as_integers(values: np.ndarray) -> np.ndarray:
    """Return whole numbers of 32 bits, as int64, that are in the order of float32 `values`, and equal where they are.

    The bits of floats are in order but for the negative ones, whose other bits count downwards.
    """
    bits = (values + np.float32(0)).view(np.int32)  # -0.0 becomes 0.0
    ordered: np.ndarray = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).astype(np.int64)
    return ordered


def _no_answers(starts: np.ndarray, ends: np.ndarray, windows: Windows, questions: int) -> _Found:
    """Return "no answer" to each question, by the window that holds it the least likely."""
    rows = np.arange(len(windows))
    logits = np.stack([starts[rows, windows.closings], ends[rows, windows.closings]], axis=1)
    by_question = np.lexsort((logits.sum(axis=1), windows.examples))
    owners = np.arange(questions)
    least = by_question[np.searchsorted(windows.examples, owners)]
    return owners, np.zeros((questions, 2), dtype=np.int32), logits[least]


def _texts(contexts: Sequence[str], bounds: np.ndarray, spans: np.ndarray) -> list[str]:
    around = chain.from_iterable(map(repeat, contexts, np.diff(bounds).tolist()))
    return [context[start:end] for context, start, end in zip(around, *spans.T.tolist(), strict=True)]


def _beside_best(owners: np.ndarray, spans: np.ndarray, scores: np.ndarray, questions: int) -> np.ndarray:
    """Return the probability `[questions]` of "no answer" against the best answer alone."""
    none = spans[:, 1] == 0
    answered, first = np.unique(owners[~none], return_index=True)
    best = np.full(questions, -np.inf)
    best[answered] = scores[~none][first]
    probabilities: np.ndarray = expit(scores[none] - best)
    return probabilities
