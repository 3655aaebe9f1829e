"""From statistics of examples to figures: means, what is made of them, and how sure a figure is."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gpt_tasks.extensions import Metric
from gpt_tasks.metrics.aggregate import (
    AGGREGATES,
    apply_aggregate,
    figure,
    mean_figure,
    pearson,
    perplexity,
    signatures_of,
    spearman,
    value_of,
)
from gpt_tasks.metrics.intervals import Z, wilson
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
    assert (found.low, found.high) == pytest.approx((values.mean() - Z * error, values.mean() + Z * error))
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
    nats, tokens = (1.0, 2.0, 1.5, 3.0), (10.0, 20.0, 5.0, 8.0)
    plain = figure(Metric("loss"), statistics(*nats, weights=tokens))
    found = figure(perplexity("perplexity"), statistics(*nats, weights=tokens))
    assert found.value == pytest.approx(math.exp(np.average(nats, weights=tokens)))
    assert (found.low, found.high) == pytest.approx((max(1.0, math.exp(plain.low)), math.exp(plain.high)))
    assert found.stderr == pytest.approx(plain.stderr * found.value)


def test_an_aggregate_may_be_a_function_of_the_sums() -> None:
    random = np.random.default_rng(3)
    pairs = np.stack([random.integers(0, 5, 200), random.integers(5, 9, 200)], axis=1).astype(float)
    found = figure(Metric("rate", aggregate=ratio), [Statistic(tuple(pair)) for pair in pairs.tolist()])
    assert found.value == pytest.approx(pairs[:, 0].sum() / pairs[:, 1].sum())
    # The jackknife's error of a ratio is that of the delta method.
    residuals = pairs[:, 0] - found.value * pairs[:, 1]
    assert found.stderr == pytest.approx(residuals.std() / pairs[:, 1].mean() / math.sqrt(200), rel=0.02)
    assert (found.low, found.high) == pytest.approx((found.value - Z * found.stderr, found.value + Z * found.stderr))


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
    assert free.low < 0
    assert (bounded.value, bounded.stderr) == (free.value, free.stderr)
    assert (bounded.low, bounded.high) == (0.0, free.high)
    top = figure(Metric("mine", range=(-math.inf, 1.0)), statistics(1.0, 0.99, 1.0, 0.2))
    assert top.high == 1.0
    assert top.low == pytest.approx(top.value - Z * top.stderr)
    pairs = [Statistic((x, y)) for x, y in ((1.0, 1.0), (2.0, 2.1), (3.0, 2.9), (4.0, 4.5), (5.0, 3.0))]
    for metric in (pearson(), spearman()):
        found = figure(metric, pairs)
        assert -1 <= found.low <= found.value <= found.high == 1


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
    found = mean_figure(groups, shares=True)
    error = math.hypot(0.05, 0.1) / 3
    assert (found.value, found.stderr, found.n) == pytest.approx((0.8, error, 105))
    assert (found.low, found.high) == pytest.approx((0.8 - Z * error, 0.8 + Z * error))
    sure = mean_figure([Score(1.0, 0.5, 1.0, 4, 0.0), Score(1.0, 0.5, 1.0, 6, 0.0)], shares=True)
    assert (sure.low, sure.high) == pytest.approx(wilson(10, 10))
    assert mean_figure([Score(1.0, 0.5, 1.0, 4, 0.0)], shares=False).low == 1.0


def test_signatures_say_how_many_references_there_were_where_it_is_one_number() -> None:
    metrics = [Metric("mine", signature=lambda references: f"refs:{references}"), Metric("plain")]
    assert signatures_of(metrics, {2}) == {"mine": "refs:2"}
    assert signatures_of(metrics, {0, 1}) == {"mine": "refs:1"}
    assert signatures_of(metrics, {1, 3}) == {"mine": "refs:-1"}
