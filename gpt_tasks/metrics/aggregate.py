"""From what examples contribute to one figure: weighted means, correlations, corpus scores."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from gpt_tasks.errors import GptTasksError, PluginError
from gpt_tasks.extensions import Metric
from gpt_tasks.types import Statistic

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


def prepared(metric: Metric, values: numpy.ndarray) -> numpy.ndarray:
    """Return values `[n, columns]` as the metric's sums take them."""
    return values if metric.prepare is None else metric.prepare(values)


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
