"""What examples bring to a figure, and the few forms in which a figure follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy

Form = Literal["mean", "exponential", "root", "correlation", "micro_f1", "macro_f1", "bleu", "chrf"]
"""How a figure follows from what examples bring: the weighted mean, its exponential (perplexities) or its root, or a
score of all of them, which follows from the sums of what they bring and not from the scores of single examples."""


@dataclass(frozen=True, slots=True)
class Measure:
    """A figure over examples, by its name, its direction and its form; `highest` where it lies between 0 and that.

    With `ranks`, what examples bring counts by its rank among all of them: see `ranked`.
    """

    name: str
    better: Literal["higher", "lower"] = "higher"
    form: Form = "mean"
    highest: float | None = None
    ranks: bool = False


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

    BLEU and chrF are sacrebleu's, of 0 to 100, with its signatures (Post 2018). A correlation is Pearson's, of the sums
    of x, y, their squares and their product. F1 is of counts of right, surplus and missing labels: the micro one of
    their sums over labels, the macro one the mean of the labels that occur or are given, three counts for each.
    """
    import numpy as np

    if form in ("bleu", "chrf"):
        metric = corpus_metric(form)
        found: numpy.ndarray = np.apply_along_axis(
            lambda counts: metric._compute_score_from_stats(counts).score, -1, sums
        )
        return found
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        if form in ("micro_f1", "macro_f1"):
            return _f1(sums)
        means: numpy.ndarray = sums / weights[..., None]
        if form == "correlation":
            x, y, xx, yy, xy = np.moveaxis(means, -1, 0)
            correlation: numpy.ndarray = (xy - x * y) / np.sqrt((xx - x * x) * (yy - y * y))
            return correlation
        mean: numpy.ndarray = means[..., 0]
        return np.exp(mean) if form == "exponential" else np.sqrt(mean) if form == "root" else mean


def ranked(measure: Measure, values: numpy.ndarray) -> numpy.ndarray:
    """Return what examples bring to a correlation, x and y `[n, 2]`, as the sums of it take them: with x², y² and xy.

    Of a measure by `ranks` x and y become their ranks among all, those that tie their mean rank: Spearman's correlation
    is Pearson's of the ranks. What they bring to other measures is returned as it is.
    """
    if measure.form != "correlation":
        return values
    import numpy as np

    if measure.ranks:
        from scipy.stats import rankdata

        values = rankdata(values, axis=0)
    # Numbers far from zero would lose their differences in the squares; a correlation does not see what is taken away.
    x, y = (values - values.mean(axis=0)).T
    return np.stack([x, y, x * x, y * y, x * y], axis=1)


def _f1(sums: numpy.ndarray) -> numpy.ndarray:
    """Return the F1 of counts `[..., 3 * labels]`, averaged over labels that occur or are given; 0 where none does."""
    import numpy as np

    right, surplus, missing = np.moveaxis(sums.reshape(*sums.shape[:-1], -1, 3), -1, 0)
    seen = right + surplus + missing > 0
    each = np.where(seen, 2 * right / (2 * right + surplus + missing), 0.0)
    mean: numpy.ndarray = each.sum(axis=-1) / np.maximum(seen.sum(axis=-1), 1)
    return mean


@cache
def corpus_metric(form: Form, tokenizer: str = "13a") -> Any:
    """Return sacrebleu's metric; the tokenizer of words is for BLEU."""
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    return CHRF() if form == "chrf" else BLEU(tokenize=tokenizer, force=True)
