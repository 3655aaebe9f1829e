"""From what examples contribute to one figure: weighted means, corpus scores, and how sure each of them is."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from gpt_tasks.errors import GptTasksError, PluginError
from gpt_tasks.extensions import Metric
from gpt_tasks.metrics.intervals import Z, wilson
from gpt_tasks.types import Score, Statistic

if TYPE_CHECKING:
    import numpy

Aggregate = Callable[["numpy.ndarray", "numpy.ndarray"], "numpy.ndarray"]
"""From sums `[..., columns]` of statistics by their weights, and the sums of weights `[...]`, to figures `[...]`."""


def perplexity(name: str) -> Metric:
    """A metric whose statistics are negative log-likelihoods per unit, in nats."""
    return Metric(name, "The exponential of the mean cross-entropy.", "lower", (1.0, math.inf), aggregate="exponential")


def pearson(name: str = "pearson") -> Metric:
    """Pearson's correlation of statistics (x, y)."""
    return Metric(name, "Pearson's correlation.", range=(-1.0, 1.0), aggregate="correlation", prepare=moments)


def spearman(name: str = "spearman") -> Metric:
    """Spearman's correlation of statistics (x, y): Pearson's of their ranks, where those that tie have a mean rank."""
    return Metric(name, "Spearman's correlation.", range=(-1.0, 1.0), aggregate="correlation", prepare=rank_moments)


def apply_aggregate(aggregate: str | Aggregate, sums: numpy.ndarray, weights: numpy.ndarray) -> numpy.ndarray:
    """Return figures `[...]` of sums `[..., columns]` and weights `[...]`; see `AGGREGATES` for the names."""
    import numpy as np

    function = AGGREGATES[aggregate] if isinstance(aggregate, str) else aggregate
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        return function(sums, weights)


def figure(metric: Metric, statistics: Sequence[Statistic]) -> Score:
    """Aggregate what examples contribute into a figure with its standard error and interval."""
    import numpy as np

    return figure_of(
        metric, np.array([each.columns for each in statistics]), np.array([each.weight for each in statistics])
    )


def prepared(metric: Metric, values: numpy.ndarray) -> numpy.ndarray:
    """Return values `[n, columns]` as the metric's sums take them."""
    return values if metric.prepare is None else metric.prepare(values)


def figure_of(metric: Metric, values: numpy.ndarray, weights: numpy.ndarray, *, is_prepared: bool = False) -> Score:
    """Aggregate what examples contribute, `[n, columns]`, and their weights `[n]`, into a figure.

    The standard error of a weighted mean is by linearization, that of its exponential follows by the delta method; of
    any other aggregate it is the jackknife's (Efron and Stein 1981). The interval of a share (every statistic 0 or 1)
    is Wilson's, otherwise the normal one, of an exponential on the scale of logarithms; it stays within the metric's
    range. Where every weight is 0, no example is about what is measured, and there is no figure.
    """
    import numpy as np

    n, aggregate = len(weights), metric.aggregate
    if not weights.any():
        return Score(math.nan, math.nan, math.nan, 0, math.nan)
    values = values if is_prepared else prepared(metric, values)
    weighted = values * weights[:, None]
    sums, total = weighted.sum(axis=0), float(weights.sum())
    if aggregate in ("mean", "exponential"):
        mean = math.fsum(weighted[:, 0]) / math.fsum(weights)
        spread = math.fsum((weighted[:, 0] - weights * mean) ** 2)
        stderr = math.sqrt(spread * n / (n - 1)) / total if n > 1 else math.nan
        low, high = (
            wilson(round(mean * n), n) if are_shares(values, weights) else (mean - Z * stderr, mean + Z * stderr)
        )
        value, low, high = apply_aggregate(aggregate, np.array([[mean], [low], [high]]), np.ones(3)).tolist()
        stderr *= value if aggregate == "exponential" else 1.0
    else:
        value = float(apply_aggregate(aggregate, sums, np.array(total)))
        without = apply_aggregate(aggregate, sums - weighted, total - weights) if n > 1 else np.full(1, math.nan)
        # A figure that is infinite without some example has no error that could be given.
        with np.errstate(invalid="ignore"):
            stderr = math.sqrt((n - 1) / n * float(((without - without.mean()) ** 2).sum()))
        low, high = value - Z * stderr, value + Z * stderr
    if math.isnan(value):
        return Score(value, math.nan, math.nan, n, stderr)
    # One example shows no spread: the bounds are those of the range, if it has some.
    least, most = (bound if math.isfinite(bound) else math.nan for bound in metric.range)
    return Score(value, _bounded(low, least, max), _bounded(high, most, min), n, stderr)


def _bounded(bound: float, limit: float, within: Callable[[float, float], float]) -> float:
    """Return a bound within a limit; either can be NaN, and then is the other."""
    if math.isnan(bound) or math.isnan(limit):
        return limit if math.isnan(bound) else bound
    return within(bound, limit)


def as_statistic(metric: Metric, value: object) -> Statistic:
    """Return what a metric's `statistic` returned. Raises TypeError, naming the metric, for what is none."""
    if isinstance(value, Statistic):
        return value
    takes_numbers = callable(metric.aggregate) or metric.aggregate in ("mean", "exponential", "root")
    if isinstance(value, int | float) and takes_numbers:
        return Statistic(float(value))
    raise TypeError(f"metric '{metric.name}' got {value!r} from its statistic(), and wants a Statistic")


def metric_statistic(metric: Metric, answer: Any, references: Sequence[Any]) -> Statistic:
    """Return what an answer contributes to a metric. Raises PluginError, naming the metric, where it fails."""
    assert metric.statistic is not None
    try:
        return as_statistic(metric, metric.statistic(answer, references))
    except GptTasksError:
        raise
    except Exception as error:
        raise PluginError(
            f"The metric '{metric.name}' failed on {str(answer)[:60]!r}: {type(error).__name__}: {error}",
            "Fix or uninstall the plugin that provides it, or leave the metric out.",
        ) from error


def value_of(metric: Metric, statistics: Sequence[Statistic]) -> float:
    """Return the figure alone."""
    return figure(metric, statistics).value


def mean_figure(figures: Sequence[Score], *, shares: bool) -> Score:
    """Return the mean of groups' figures, of one metric, each counting the same, regardless of its size.

    Groups of one example show no spread and are left out of the standard error. The interval of
    `shares` stays within 0 and 1, and is Wilson's over all examples where no group shows any spread.
    """
    value = math.fsum(each.value for each in figures) / len(figures)
    n = sum(each.n for each in figures)
    stderr = math.sqrt(math.fsum(each.stderr**2 for each in figures if each.n > 1)) / len(figures)
    low, high = value - Z * stderr, value + Z * stderr
    if shares:
        low, high = (max(0.0, low), min(1.0, high)) if stderr else wilson(round(value * n), n)
    return Score(value, low, high, n, stderr)


def are_shares(values: numpy.ndarray, weights: numpy.ndarray) -> bool:
    """Return whether a mean of these values `[n, columns]` is a plain share of the examples."""
    import numpy as np

    return bool((weights == 1.0).all()) and bool(np.isin(values, (0.0, 1.0)).all())


def signatures_of(metrics: Iterable[Metric], references: Collection[int]) -> dict[str, str]:
    """Return how metrics are computed, by name, given the numbers of references that examples have."""
    numbers = {max(1, number) for number in references}
    known = numbers.pop() if len(numbers) == 1 else -1
    return {metric.name: metric.signature(known) for metric in metrics if metric.signature is not None}


def moments(values: numpy.ndarray) -> numpy.ndarray:
    """Return of pairs x, y `[n, 2]` what a correlation is aggregated from: x, y, x², y² and xy, `[n, 5]`.

    Numbers far from zero would lose their differences in the squares; a correlation does not see a shift.
    """
    import numpy as np

    x, y = (values - values.mean(axis=0)).T
    return np.stack([x, y, x * x, y * y, x * y], axis=1)


def rank_moments(values: numpy.ndarray) -> numpy.ndarray:
    """Return the moments of the ranks of x and y among all, `[n, 5]`; those that tie have their mean rank."""
    from scipy.stats import rankdata

    return moments(rankdata(values, axis=0))


@cache
def corpus_metric(aggregate: str, tokenizer: str = "13a") -> Any:
    """Return sacrebleu's metric; the tokenizer of words is for BLEU."""
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    return CHRF() if aggregate == "chrf" else BLEU(tokenize=tokenizer, force=True)


def _mean(sums: numpy.ndarray, weights: numpy.ndarray) -> numpy.ndarray:
    mean: numpy.ndarray = (sums / weights[..., None])[..., 0]
    return mean


def _exponential(sums: numpy.ndarray, weights: numpy.ndarray) -> numpy.ndarray:
    import numpy as np

    found: numpy.ndarray = np.exp(_mean(sums, weights))
    return found


def _root(sums: numpy.ndarray, weights: numpy.ndarray) -> numpy.ndarray:
    import numpy as np

    found: numpy.ndarray = np.sqrt(_mean(sums, weights))
    return found


def _correlation(sums: numpy.ndarray, weights: numpy.ndarray) -> numpy.ndarray:
    import numpy as np

    x, y, xx, yy, xy = np.moveaxis(sums / weights[..., None], -1, 0)
    correlation: numpy.ndarray = (xy - x * y) / np.sqrt((xx - x * x) * (yy - y * y))
    return correlation


def _f1(sums: numpy.ndarray, weights: numpy.ndarray) -> numpy.ndarray:
    """Return the F1 of counts `[..., 3 * labels]`, averaged over labels that occur or are given; 0 where none does.

    There are three counts for each label: right, surplus and missing.
    """
    import numpy as np

    right, surplus, missing = np.moveaxis(sums.reshape(*sums.shape[:-1], -1, 3), -1, 0)
    seen = right + surplus + missing > 0
    each = np.where(seen, 2 * right / (2 * right + surplus + missing), 0.0)
    mean: numpy.ndarray = each.sum(axis=-1) / np.maximum(seen.sum(axis=-1), 1)
    return mean


def _bleu(sums: numpy.ndarray, weights: numpy.ndarray) -> numpy.ndarray:
    return _corpus_score("bleu", sums)


def _chrf(sums: numpy.ndarray, weights: numpy.ndarray) -> numpy.ndarray:
    return _corpus_score("chrf", sums)


def _corpus_score(aggregate: str, sums: numpy.ndarray) -> numpy.ndarray:
    import numpy as np

    metric = corpus_metric(aggregate)
    found: numpy.ndarray = np.apply_along_axis(lambda counts: metric._compute_score_from_stats(counts).score, -1, sums)
    return found


AGGREGATES: Mapping[str, Aggregate] = {
    "mean": _mean,
    "exponential": _exponential,
    "root": _root,
    "correlation": _correlation,
    "micro_f1": _f1,
    "macro_f1": _f1,
    "bleu": _bleu,
    "chrf": _chrf,
}
"""Aggregates by name. `mean` is the weighted mean, `exponential` and `root` are those of it. A correlation is of
`moments`. F1 is of three counts for each label (right, surplus, missing): the micro one of their sums over labels, the
macro one the mean over labels. BLEU and chrF are sacrebleu's, 0 to 100 (Post 2018)."""
