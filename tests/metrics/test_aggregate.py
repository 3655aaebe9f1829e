"""From statistics of examples to figures: means, what is made of them, and how sure a figure is."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from gpt_tasks.extensions import Metric
from gpt_tasks.metrics.aggregate import (
    AGGREGATES,
    apply_aggregate,
    pearson,
    perplexity,
    signatures_of,
    spearman,
)
from gpt_tasks.metrics.figures import figure, figure_of, mean_figure, value_of
from gpt_tasks.metrics.intervals import wilson
from gpt_tasks.types import Score, Statistic


def statistics(*values: float, weights: tuple[float, ...] | None = None) -> list[Statistic]:
    return [Statistic(*pair) for pair in zip(values, weights or (1.0,) * len(values), strict=True)]


def ratio(sums: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Of sums `[..., 2]` the first by the second."""
    return sums[..., 0] / sums[..., 1]


def test_a_statistic_is_a_number_or_counts() -> None:
    assert Statistic(0.5) == Statistic(0.5, weight=1.0)
    assert Statistic(0.5).columns == (0.5,)
    assert Statistic((1.0, 2.0), 3.0).columns == (1.0, 2.0)


def test_a_mean_goes_by_weights_and_its_error_is_that_of_a_mean() -> None:
    values = np.random.default_rng(0).normal(size=50)
    found = figure(Metric("mine"), statistics(*values))
    error = values.std(ddof=1) / math.sqrt(50)
    assert (found.value, found.stderr, found.n) == pytest.approx((values.mean(), error, 50))
    reach = stats.t.ppf(0.975, 49) * error
    # But for the skewness that these few values show.
    assert (found.low, found.high) == pytest.approx((values.mean() - reach, values.mean() + reach), abs=0.1 * error)
    weighed = figure(Metric("mine"), statistics(1.0, 4.0, weights=(3.0, 1.0)))
    assert weighed.value == pytest.approx(7 / 4)
    assert value_of(Metric("mine"), statistics(1.0, 4.0)) == 2.5


def test_examples_of_weight_0_change_no_figure_and_alone_make_none() -> None:
    about = statistics(0.2, 0.4, 0.9)
    whole = figure(Metric("mine"), [*about, Statistic(17.0, 0.0)])
    assert whole.value == pytest.approx(0.5)
    nothing = figure(Metric("mine"), [Statistic(1.0, 0.0), Statistic(0.0, 0.0)])
    assert nothing.n == 0
    assert all(map(math.isnan, (nothing.value, nothing.low, nothing.high, nothing.stderr)))


@pytest.mark.parametrize("right", [0, 1, 7, 10])
def test_a_share_has_wilsons_interval_and_one_with_weights_has_not(right: int) -> None:
    values = [1.0] * right + [0.0] * (10 - right)
    found = figure(Metric("accuracy", range=(0.0, 1.0)), statistics(*values))
    assert (found.low, found.high) == pytest.approx(wilson(right, 10))
    weighed = figure(Metric("accuracy", range=(0.0, 1.0)), statistics(*values, weights=(2.0,) * 10))
    assert weighed.value == found.value
    assert (weighed.low, weighed.high) != pytest.approx(wilson(right, 10))


def test_perplexity_is_the_exponential_of_the_mean_by_tokens_and_its_interval_that_of_logarithms() -> None:
    nats, tokens = (1.0, 2.0, 1.5, 3.0, 2.2, 1.1, 2.5), (10.0, 20.0, 5.0, 8.0, 12.0, 9.0, 11.0)
    plain = figure(Metric("loss"), statistics(*nats, weights=tokens))
    found = figure(perplexity("perplexity"), statistics(*nats, weights=tokens))
    assert found.value == pytest.approx(math.exp(np.average(nats, weights=tokens)))
    assert (found.low, found.high) == pytest.approx((max(1.0, math.exp(plain.low)), math.exp(plain.high)))
    assert found.low < found.value < found.high
    assert found.stderr == pytest.approx(plain.stderr * found.value)


def test_an_aggregate_may_be_a_function_of_the_sums() -> None:
    random = np.random.default_rng(3)
    pairs = np.stack([random.integers(0, 5, 200), random.integers(5, 9, 200)], axis=1).astype(float)
    found = figure(Metric("rate", aggregate=ratio), [Statistic(tuple(pair)) for pair in pairs.tolist()])
    assert found.value == pytest.approx(pairs[:, 0].sum() / pairs[:, 1].sum())
    # The jackknife's error of a ratio is that of the delta method.
    residuals = pairs[:, 0] - found.value * pairs[:, 1]
    assert found.stderr == pytest.approx(residuals.std() / pairs[:, 1].mean() / math.sqrt(200), rel=0.02)
    reach = 1.96 * found.stderr
    assert (found.low, found.high) == pytest.approx((found.value - reach, found.value + reach), abs=0.1 * reach)


def test_a_function_for_the_mean_is_the_mean() -> None:
    values = np.random.default_rng(1).random(30)
    named = figure(Metric("mine"), statistics(*values))
    mine = figure(Metric("mine", aggregate=lambda sums, weights: sums[..., 0] / weights), statistics(*values))
    assert mine.value == pytest.approx(named.value)
    assert mine.stderr == pytest.approx(named.stderr)


@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_every_aggregate_takes_several_sums_at_once(aggregate: str) -> None:
    width = {"correlation": 5, "micro_f1": 6, "macro_f1": 6, "bleu": 10, "chrf": 18}.get(aggregate, 1)
    sums = np.abs(np.random.default_rng(0).normal(size=(3, width))) + 1
    weights = np.full(3, 2.0)
    found = apply_aggregate(aggregate, sums, weights)
    assert found.shape == (3,)
    each = [apply_aggregate(aggregate, one, weight) for one, weight in zip(sums, weights, strict=True)]
    np.testing.assert_allclose(found, each)


def test_prepare_changes_the_statistics_of_all_examples_first() -> None:
    centred = Metric("spread", aggregate="root", prepare=lambda values: (values - values.mean(axis=0)) ** 2)
    values = np.random.default_rng(2).normal(5, 2, 40)
    assert figure(centred, statistics(*values)).value == pytest.approx(values.std())


def test_intervals_stay_within_the_range() -> None:
    near = statistics(0.01, 0.0, 0.02, 0.0, 0.9)
    free, bounded = figure(Metric("mine"), near), figure(Metric("mine", range=(0.0, 1.0)), near)
    assert free.high > 0.4
    assert (bounded.value, bounded.stderr) == (free.value, free.stderr)
    assert 0.0 < bounded.low < bounded.value < bounded.high < 1.0
    # The long end is on the side of the long tail.
    for found in (free, bounded):
        assert found.high - found.value > 1.5 * (found.value - found.low)
    top = figure(Metric("mine", range=(-math.inf, 1.0)), statistics(1.0, 0.99, 1.0, 0.2, 0.98, 1.0))
    assert top.high == 1.0
    assert top.low < 0.6
    few = figure(Metric("mine"), statistics(1.0, 0.99, 1.0, 0.2))
    assert math.isnan(few.low)
    assert math.isnan(few.high)
    pairs = [Statistic((x, y)) for x, y in ((1.0, 1.0), (2.0, 2.1), (3.0, 2.9), (4.0, 4.5), (5.0, 3.0))]
    for metric in (pearson(), spearman()):
        found = figure(metric, pairs)
        assert -1 <= found.low < found.value < found.high < 1
    perfect = figure(spearman(), [Statistic((x, x)) for x in range(5)])
    assert perfect.value == perfect.high == 1
    assert perfect.low < 0.8


def test_one_example_says_nothing_of_the_spread_so_that_the_range_is_all_that_is_known() -> None:
    bounded = figure(Metric("rouge", range=(0.0, 1.0)), statistics(0.3))
    assert (bounded.value, bounded.low, bounded.high, bounded.n) == (0.3, 0.0, 1.0, 1)
    assert math.isnan(bounded.stderr)
    free = figure(Metric("mine"), statistics(0.3))
    assert free.value == 0.3
    assert all(map(math.isnan, (free.low, free.high, free.stderr)))
    half = figure(perplexity("perplexity"), statistics(2.0))
    assert (half.value, half.low) == (pytest.approx(math.exp(2.0)), 1.0)
    assert math.isnan(half.high)
    rate = figure(Metric("rate", range=(0.0, 100.0), aggregate=ratio), [Statistic((1.0, 4.0))])
    assert (rate.value, rate.low, rate.high) == (0.25, 0.0, 100.0)
    share = figure(Metric("accuracy", range=(0.0, 1.0)), statistics(1.0))
    assert (share.low, share.high) == pytest.approx(wilson(1, 1))


def test_a_figure_that_is_no_number_has_no_interval() -> None:
    found = figure(pearson(), [Statistic((x, 2.0)) for x in (1.0, 2.0, 4.0)])
    assert (found.n, math.isnan(found.value), math.isnan(found.low), math.isnan(found.high)) == (3, True, True, True)


def test_the_best_value_is_the_end_of_the_range_in_the_metrics_direction() -> None:
    assert Metric("mine", range=(0.0, 5.0)).best == 5.0
    assert Metric("mine", better="lower", range=(0.0, 5.0)).best == 0.0
    assert Metric("mine").best == math.inf
    assert perplexity("perplexity").best == 1.0


def test_groups_count_the_same_whatever_their_size() -> None:
    groups = [Score(0.5, 0.4, 0.6, 100, 0.05), Score(0.9, 0.7, 1.0, 4, 0.1), Score(1.0, 0.0, 1.0, 1, math.nan)]
    found = mean_figure(groups, (0.0, 1.0), 105)
    error = math.hypot(0.05, 0.1) / 3
    assert (found.value, found.stderr, found.n) == pytest.approx((0.8, error, 105))
    # Wilson's: longer on the side that is farther from an end.
    assert found.low == pytest.approx(0.8 - 1.96 * error, abs=0.4 * error)
    assert 0 < found.high - found.value < found.value - found.low
    sure = mean_figure([Score(1.0, 0.5, 1.0, 4, 0.0), Score(1.0, 0.5, 1.0, 6, 0.0)], (0.0, 1.0), 10)
    assert sure.high == 1.0
    assert sure.low == pytest.approx(wilson(10, 10)[0], abs=0.07)
    free = mean_figure([Score(2.0, 1.0, 3.0, 40, 0.4), Score(3.0, 2.0, 4.0, 60, 0.3)], (-math.inf, math.inf), 100)
    assert (free.low, free.high) == pytest.approx((2.5 - 1.98 * 0.25, 2.5 + 1.98 * 0.25), abs=0.01)


def test_clusters_have_the_error_of_their_sums() -> None:
    random = np.random.default_rng(4)
    clusters = np.repeat(np.arange(40), random.integers(1, 9, 40))
    values = random.normal(size=40)[clusters] + random.normal(size=len(clusters))
    found = figure_of(Metric("mine"), values[:, None], np.ones(len(values)), clusters=clusters)
    # Miller 2024, section 2.2: the sum over clusters of the squared sums of residuals, by n squared.
    sums = np.bincount(clusters, values - values.mean())
    assert found.value == pytest.approx(values.mean())
    assert found.stderr == pytest.approx(math.sqrt((sums**2).sum() * 40 / 39) / len(values))
    assert found.n == len(values)
    doubled = figure_of(
        Metric("mine", range=(-9.0, 9.0)),
        np.repeat(values, 2)[:, None],
        np.ones(2 * len(values)),
        clusters=np.repeat(np.arange(len(values)), 2),
    )
    single = figure_of(Metric("mine", range=(-9.0, 9.0)), values[:, None], np.ones(len(values)))
    assert (doubled.stderr, doubled.low, doubled.high) == pytest.approx((single.stderr, single.low, single.high))


@pytest.mark.parametrize(
    "metric", [perplexity("perplexity"), pearson(), Metric("rmse", range=(0.0, 9.0), aggregate="root")]
)
def test_an_example_twice_says_no_more_than_once(metric: Metric) -> None:
    values = np.abs(np.random.default_rng(0).normal(size=(30, 2)))
    once = figure_of(metric, values, np.ones(30))
    twice = figure_of(metric, np.repeat(values, 2, axis=0), np.ones(60), clusters=np.repeat(np.arange(30), 2))
    assert (twice.value, twice.stderr) == pytest.approx((once.value, once.stderr))
    assert (twice.low, twice.high) == pytest.approx((once.low, once.high))


@pytest.mark.parametrize(
    ("metric", "truth", "draw"),
    [
        (Metric("rouge", range=(0.0, 1.0)), 0.3 / 4.3, lambda random: random.beta(0.3, 4, (20, 1))),
        (Metric("nearly all", range=(0.0, 1.0)), 0.95, lambda random: np.where(random.random((20, 1)) < 0.9, 1, 0.5)),
        (Metric("free"), 1.0, lambda random: random.exponential(size=(20, 1))),
        (Metric("rmse", range=(0.0, math.inf), aggregate="root"), 1.0, lambda random: random.normal(size=(20, 1)) ** 2),
        (pearson(), 0.9, lambda random: random.multivariate_normal((0, 0), [[1, 0.9], [0.9, 1]], 20)),
        (perplexity("perplexity"), math.exp(2), lambda random: random.gamma(4, 0.5, (20, 1))),
    ],
    ids=lambda value: value.name if isinstance(value, Metric) else "",
)
def test_intervals_of_twenty_skewed_examples_cover_the_truth(metric: Metric, truth: float, draw: Any) -> None:
    covered = 0
    for seed in range(300):
        random = np.random.default_rng(seed)
        weights = np.round(random.lognormal(4, 0.6, 20)) if metric.aggregate == "exponential" else np.ones(20)
        found = figure_of(metric, draw(random), weights)
        assert metric.range[0] <= found.low <= found.value <= found.high <= metric.range[1]
        covered += found.low <= truth <= found.high
    # Less often than once in a hundred where the true coverage is 93 %.
    assert covered >= 269


def test_signatures_say_how_many_references_there_were_where_it_is_one_number() -> None:
    metrics = [Metric("mine", signature=lambda references: f"refs:{references}"), Metric("plain")]
    assert signatures_of(metrics, {2}) == {"mine": "refs:2"}
    assert signatures_of(metrics, {0, 1}) == {"mine": "refs:1"}
    assert signatures_of(metrics, {1, 3}) == {"mine": "refs:-1"}
