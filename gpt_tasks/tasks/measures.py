"""What examples bring to a figure, and the few forms in which a figure follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy

Form = Literal["mean", "exponential", "bleu", "chrf"]
"""How a figure follows from what examples bring: the weighted mean, its exponential (perplexities), or a corpus score,
which follows from the sums of counts and not from the scores of single examples."""


@dataclass(frozen=True, slots=True)
class Measure:
    """A figure over examples, by its name, its direction and its form; `highest` where it lies between 0 and that."""

    name: str
    better: Literal["higher", "lower"] = "higher"
    form: Form = "mean"
    highest: float | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """What one example brings to a measure: a number, or the counts of a corpus score; and the weight that it has.

    The weight is 1, or a number of words or bytes.
    """

    value: float | tuple[float, ...]
    weight: float = 1.0

    @property
    def columns(self) -> tuple[float, ...]:
        """The number, or the counts, as a row."""
        return self.value if isinstance(self.value, tuple) else (self.value,)


def perplexity(name: str) -> Measure:
    """A measure whose parts are negative log-likelihoods per unit, in nats."""
    return Measure(name, "lower", "exponential")


def finished(form: Form, sums: numpy.ndarray, weights: numpy.ndarray) -> numpy.ndarray:
    """Return figures `[...]` of sums `[..., columns]` of parts by their weights, and of the sums of weights `[...]`.

    BLEU and chrF are sacrebleu's, of 0 to 100, with its signatures (Post 2018).
    """
    import numpy as np

    if form in ("bleu", "chrf"):
        metric = corpus_metric(form)
        found: numpy.ndarray = np.apply_along_axis(
            lambda counts: metric._compute_score_from_stats(counts).score, -1, sums
        )
        return found
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        means: numpy.ndarray = sums[..., 0] / weights
        return np.exp(means) if form == "exponential" else means


@cache
def corpus_metric(form: Form, tokenizer: str = "13a") -> Any:
    """Return sacrebleu's metric; the tokenizer of words is for BLEU."""
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    return CHRF() if form == "chrf" else BLEU(tokenize=tokenizer, force=True)
