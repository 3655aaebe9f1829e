"""Do the intervals hold the truth 95 times in 100, do tests err 5 times in 100, and is what they can detect detected?

    python benchmarks/coverage.py [--quick] [--draws N] [--only TEXT ...]

Every figure that has an interval is drawn many times from sources whose true figure is known, for n = 20, 64, 200 and
500 examples, independent ones and clusters of five that have half of the variance in common. The peer is the figure
plus and minus 1.96 standard errors, as lm-evaluation-harness has it, with every example taken as independent. Paired
tests are drawn without any difference, which gives their type I error, and with the smallest detectable one, which
gives their power. `--only` takes the cases whose names hold one of the texts.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import numpy as np
from _results import write_results
from scipy import stats

from gpt_tasks.evaluation.statistics import whole_figure
from gpt_tasks.extensions import Metric, Rows
from gpt_tasks.metrics import METRICS, significance
from gpt_tasks.metrics.aggregate import apply_aggregate, pearson, perplexity, prepared, spearman
from gpt_tasks.metrics.confusion import FROM_CONFUSION
from gpt_tasks.metrics.figures import figure_of
from gpt_tasks.metrics.intervals import Z, effective_units
from gpt_tasks.metrics.text import bleu
from gpt_tasks.types import Score

SIZES = (20, 64, 200, 500)
CLUSTER = 5
DRAWS, QUICK_DRAWS = 400, 100
# Of the paired bootstrap; gpt-tasks compare draws 10,000.
RESAMPLES = 2000
LARGE = 400_000
COVERAGE, TYPE_ONE, POWER = 0.93, 0.06, (0.78, 0.85)

NAMED = {metric.name: metric for metric in METRICS}
Draw = Callable[[np.random.Generator, np.ndarray], Any]
"""From random numbers and clusters `[n]` to `Rows`, or to values `[n, columns]` and weights `[n]`."""


@dataclass(frozen=True)
class Source:
    """What one figure is drawn from; `truth` is its true value, by default that of a very large draw."""

    name: str
    metric: Metric
    draw: Draw
    truth: float | None = None

    def true_value(self) -> float:
        if self.truth is not None:
            return self.truth
        drawn = self.draw(np.random.default_rng(1), np.arange(LARGE))
        if isinstance(drawn, Rows):
            assert self.metric.whole is not None
            return self.metric.whole(drawn)
        values, weights = prepared(self.metric, drawn[0]), drawn[1]
        sums = (values * weights[:, None]).sum(axis=0)
        return float(apply_aggregate(self.metric.aggregate, sums, weights.sum()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_DRAWS} draws, which take less than five minutes")
    parser.add_argument("--draws", type=int, default=DRAWS, help="of each figure; half as many of each test")
    parser.add_argument("--only", nargs="*", default=[""], metavar="TEXT", help="the others stay unchanged")
    args = parser.parse_args()
    draws = QUICK_DRAWS if args.quick else args.draws
    significance.PAIRED_RESAMPLES = RESAMPLES
    started = time.monotonic()
    cases = [*coverages(draws, args.only), *tests(draws // 2, args.only)]
    print(f"\n{sum(not case['reached'] for case in cases)} of {len(cases)} cases short of their goal; ", end="")
    print(f"{time.monotonic() - started:.0f} s")
    if not args.quick:
        write_results("coverage", cases, keep_others=args.only != [""])


def coverages(draws: int, only: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield how often the interval of each figure holds the truth, and the peer's."""
    for source in sources():
        for clustered in (False, True):
            name = f"{source.name}{', clusters' if clustered else ''}"
            if not any(text in name for text in only):
                continue
            truth, found = source.true_value(), []
            for n in SIZES:
                scores = [drawn_score(source, n, clustered, seed) for seed in range(draws)]
                given = [score for score, _ in scores if np.isfinite(score.low + score.high)]
                ours = np.mean([score.low <= truth <= score.high for score in given]) if given else 1.0
                peer = np.mean([abs(score.value - truth) <= Z * each for score, each in scores])
                width = np.median([score.high - score.low for score in given]) if given else 0.0
                case = {
                    "case": f"{name}, n = {n}",
                    "ours": round(float(ours), 4),
                    "peer": None if np.isnan(scores[0][1]) else round(float(peer), 4),
                    "unit": "coverage",
                    "goal": COVERAGE,
                    "reached": bool(ours >= COVERAGE - 2 * np.sqrt(COVERAGE * (1 - COVERAGE) / draws)),
                    "draws": draws,
                    "without_interval": draws - len(given),
                    "true_value": round(truth, 4),
                    "median_width": round(float(width), 4),
                    "outside_range": sum(
                        score.low < source.metric.range[0] or score.high > source.metric.range[1] for score, _ in scores
                    ),
                }
                found.append(case)
                yield case
            shown = " ".join(
                "none" if case["without_interval"] == draws else f"{case['ours']:.3f}{'' if case['reached'] else '!'}"
                for case in found
            )
            peers = " ".join("-" if case["peer"] is None else f"{case['peer']:.3f}" for case in found)
            print(f"{name:45} {shown:30} peer {peers}", flush=True)


def drawn_score(source: Source, n: int, clustered: bool, seed: int) -> tuple[Score, float]:
    """Return one figure with its interval, and its standard error as if all examples were independent."""
    random = np.random.default_rng([seed, n])
    clusters = np.arange(n) // (CLUSTER if clustered else 1)
    drawn = source.draw(random, clusters)
    if isinstance(drawn, Rows):
        rows = Rows(*(getattr(drawn, name) for name in ("references", "predictions", "labels", "probabilities")))
        if clustered:
            rows = Rows(rows.references, rows.predictions, rows.labels, rows.probabilities, clusters)
        return whole_figure(source.metric, with_codes(rows, drawn)), float("nan")
    alone = figure_of(source.metric, *drawn)
    return (figure_of(source.metric, *drawn, clusters=clusters) if clustered else alone), alone.stderr


def with_codes(rows: Rows, drawn: Rows) -> Rows:
    rows.__dict__["codes"] = drawn.codes
    return rows


def latent(random: np.random.Generator, clusters: np.ndarray) -> np.ndarray:
    """Draw uniform numbers `[n]`, the normal quantiles of which have half of their variance by cluster."""
    shared = random.normal(size=clusters[-1] + 1)[clusters]
    return stats.norm.cdf(np.sqrt(0.5) * (shared + random.normal(size=len(clusters))))


# Labels.

PRIORS: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "balanced": ((0.5, 0.5), (0.8, 0.8)),
    "90 to 10": ((0.9, 0.1), (0.95, 0.6)),
    "six labels": ((1 / 6,) * 6, (0.7,) * 6),
    "skewed": ((0.8, 0.15, 0.05), (0.9, 0.7, 0.5)),
}


def labelled(random: np.random.Generator, clusters: np.ndarray, *, scheme: str) -> Rows:
    """Draw labels by their shares, and answers that are right by its recall; others go by the shares."""
    shares, recall = map(np.array, PRIORS[scheme])
    n, labels = len(clusters), len(shares)
    right = random.choice(labels, n, p=shares)
    others = np.tile(shares, (labels, 1)) * (1 - np.eye(labels))
    drawn = random.random(n)[:, None] > np.cumsum(others / others.sum(1, keepdims=True), axis=1)[right]
    given = np.where(latent(random, clusters) < recall[right], right, np.minimum(drawn.sum(1), labels - 1))
    return rows_of(right, given, labels)


def rows_of(right: np.ndarray, given: np.ndarray, labels: int, probabilities: np.ndarray | None = None) -> Rows:
    rows = Rows(right, given, tuple(map(str, range(labels))), probabilities)  # type: ignore[arg-type]
    rows.__dict__["codes"] = (right, given)
    return rows


def confident(random: np.random.Generator, clusters: np.ndarray, *, excess: float) -> Rows:
    """Draw answers of two labels, of which confidence is by `excess` too high."""
    confidence = random.uniform(0.6, 1.0, len(clusters))
    wrong = (latent(random, clusters) > confidence - excess).astype(int)
    return rows_of(wrong, np.zeros_like(wrong), 2, np.stack([confidence, 1 - confidence], axis=1))


# Numbers that examples contribute.


def shares(random: np.random.Generator, clusters: np.ndarray, *, share: float) -> tuple[np.ndarray, np.ndarray]:
    return (latent(random, clusters) < share).astype(float)[:, None], np.ones(len(clusters))


def values_of(random: np.random.Generator, clusters: np.ndarray, *, quantile: Any) -> tuple[np.ndarray, np.ndarray]:
    """Draw values from the distribution of this quantile function."""
    return quantile(latent(random, clusters))[:, None], np.ones(len(clusters))


def squad_f1(level: np.ndarray) -> np.ndarray:
    """A quarter of the answers share no word with the right one, six in ten are right."""
    between = stats.beta.ppf(np.clip((level - 0.25) / 0.15, 0, 1), 3, 2)
    return np.where(level < 0.25, 0.0, np.where(level < 0.4, between, 1.0))


def nats(random: np.random.Generator, clusters: np.ndarray, *, shape: float) -> tuple[np.ndarray, np.ndarray]:
    """Draw mean negative log-likelihoods of texts, and their lengths in tokens."""
    tokens = np.round(random.lognormal(4, 0.6, len(clusters))) + 1
    return stats.gamma.ppf(latent(random, clusters), shape, scale=3 / shape)[:, None], tokens


def pairs(random: np.random.Generator, clusters: np.ndarray, *, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Draw right and given numbers that correlate."""
    x, error = (stats.norm.ppf(latent(random, clusters)) for _ in range(2))
    right = np.exp(0.5 * x) if kind == "skewed" else np.clip(np.round(3 + 1.2 * x), 1, 5) if kind == "ratings" else x
    return np.stack([right, right + (1.2 if kind == "weak" else 0.4) * error], axis=1), np.ones(len(clusters))


def squared_errors(random: np.random.Generator, clusters: np.ndarray, *, heavy: bool) -> tuple[np.ndarray, np.ndarray]:
    level = latent(random, clusters)
    errors = stats.laplace.ppf(level) if heavy else stats.norm.ppf(level)
    return errors[:, None] ** 2, np.ones(len(clusters))


def translated(random: np.random.Generator, clusters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Draw sacrebleu's counts of sentences: lengths, and for n-grams of 1 to 4 words those that match and all."""
    n = len(clusters)
    length = random.integers(6, 35, n)
    reference = np.maximum(3, length + random.integers(-3, 4, n))
    precision = 0.25 + 0.7 * latent(random, clusters)
    total = np.stack([np.maximum(length - order, 0) for order in range(4)], axis=1)
    match = random.binomial(total, precision[:, None] ** (1 + 0.8 * np.arange(4)))
    return np.column_stack([length, reference, match, total]).astype(float), np.ones(n)


def entities(random: np.random.Generator, clusters: np.ndarray, *, summed: bool) -> tuple[np.ndarray, np.ndarray]:
    """Draw the right, surplus and missing entities of sentences, of three types."""
    there = random.poisson((0.9, 0.5, 0.2), (len(clusters), 3))
    found = random.binomial(there, np.clip(1.3 * latent(random, clusters), 0, 1)[:, None] * np.array([0.95, 0.85, 0.7]))
    surplus = random.poisson((0.15, 0.12, 0.06), (len(clusters), 3))
    counts = np.stack([found, surplus, there - found], axis=2).astype(float)
    return counts.sum(axis=1) if summed else counts.reshape(-1, 9), np.ones(len(clusters))


def sources() -> Iterator[Source]:
    unit = partial(Metric, range=(0.0, 1.0))
    for name, share in (("balanced", 0.5), ("90 to 10", 0.9)):
        yield Source(f"accuracy, {name}", NAMED["accuracy"], partial(shares, share=share), share)
    for scheme in PRIORS:
        for name in ("macro_f1", "mcc"):
            yield Source(f"{name}, {scheme}", NAMED[name], partial(labelled, scheme=scheme))
    for name, excess in (("calibrated", 0.0), ("overconfident", 0.1), ("very overconfident", 0.3)):
        yield Source(f"ece, {name}", NAMED["ece"], partial(confident, excess=excess), excess)
    for kind in ("normal", "weak", "ratings", "skewed"):
        yield Source(f"pearson, {kind}", pearson(), partial(pairs, kind=kind))
    for kind in ("normal", "weak", "ratings"):
        yield Source(f"spearman, {kind}", spearman(), partial(pairs, kind=kind))
    for heavy in (False, True):
        rmse = Metric("rmse", range=(0.0, np.inf), aggregate="root")
        yield Source(f"rmse, {'Laplace' if heavy else 'normal'}", rmse, partial(squared_errors, heavy=heavy))
    yield Source("exact_match, 30 %", unit("exact_match"), partial(shares, share=0.3), 0.3)
    yield Source("squad f1", unit("f1"), partial(values_of, quantile=squad_f1))
    for name, shape in (("", (1.2, 4.0)), (", mostly 0", (0.3, 4.0))):
        quantile = partial(stats.beta.ppf, a=shape[0], b=shape[1])
        yield Source(f"rouge{name}", unit("rouge1"), partial(values_of, quantile=quantile), shape[0] / sum(shape))
    yield Source("bleu", bleu("en"), translated)
    for name, shape in (("", 9.0), (", skewed", 3.0)):
        yield Source(f"perplexity{name}", perplexity("perplexity"), partial(nats, shape=shape), float(np.exp(3)))
    for aggregate in ("micro_f1", "macro_f1"):
        draw = partial(entities, summed=aggregate == "micro_f1")
        yield Source(f"entity {aggregate}", unit("entity_f1", aggregate=aggregate), draw)
    yield Source("mean without limits", Metric("mean"), partial(values_of, quantile=stats.expon.ppf), 1.0)


# Paired tests.


def tests(pairs_drawn: int, only: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the type I error and the power of the test of each kind of figure."""
    for name, compare in (("mcnemar", shares_test), ("mean", mean_test), ("perplexity", ratio_test), ("mcc", mcc_test)):
        for clustered in (False, True):
            for n in SIZES:
                case = f"test, {name}{', clusters' if clustered else ''}, n = {n}"
                if not any(text in case for text in only):
                    continue
                drawn = [compare(n, clustered, seed, 0.0) for seed in range(pairs_drawn)]
                error = float(np.mean([result.p_value <= 0.05 for result in drawn]))
                noise = 2 * np.sqrt(TYPE_ONE * (1 - TYPE_ONE) / pairs_drawn)
                yield _test_case(f"{case}: type I error", error, TYPE_ONE, error <= TYPE_ONE + noise, pairs_drawn)
                if name == "mcc":
                    continue
                detectable = detectable_of(name, n, clustered, drawn)
                if not np.isfinite(detectable):
                    continue
                found = [compare(n, clustered, 10_000 + seed, detectable) for seed in range(pairs_drawn)]
                power = float(np.mean([result.p_value <= 0.05 for result in found]))
                noise = 2 * np.sqrt(0.16 / pairs_drawn)
                reached = POWER[0] - noise <= power <= POWER[1] + noise
                yield _test_case(f"{case}: power", power, POWER[0], reached, pairs_drawn)


def _test_case(case: str, ours: float, goal: float, reached: bool, draws: int) -> dict[str, Any]:
    print(f"{case:60} {ours:.3f}{'' if reached else '!'}", flush=True)
    return {
        "case": case,
        "ours": round(ours, 4),
        "peer": None,
        "unit": "share of tests",
        "goal": goal,
        "reached": bool(reached),
        "draws": draws,
    }


def detectable_of(name: str, n: int, clustered: bool, drawn: list[significance.TestResult]) -> float:
    """Return the smallest detectable difference: of shares by the true number of discordant pairs, else on average."""
    if name == "mcnemar" and not clustered:
        return significance.minimum_detectable_difference(DISCORDANT, n)
    return float(np.sqrt(np.nanmean([result.detectable**2 for result in drawn])))


DISCORDANT = 0.4
CLUSTERED_DISCORDANT = 0.8


def shares_test(n: int, clustered: bool, seed: int, difference: float) -> significance.TestResult:
    """Two models of which one alone is right in so many pairs, and B more often by `difference`."""
    random = np.random.default_rng([seed, n])
    clusters = np.arange(n) // (CLUSTER if clustered else 1)
    discordant = max(CLUSTERED_DISCORDANT if clustered else DISCORDANT, difference)
    level = latent(random, clusters)
    gains, losses = level < (discordant + difference) / 2, level > 1 - (discordant - difference) / 2
    if not clustered:
        return _mcnemar(int(gains.sum()), int(losses.sum()), n)
    both = random.random(n) < 0.5
    a, b = (both & ~gains) | losses, (both & ~losses) | gains
    return _bootstrapped(additive(a.astype(float), b.astype(float)), [("mean", 1)], clusters, b.mean() - a.mean(), seed)


@cache
def _mcnemar(gains: int, losses: int, n: int) -> significance.TestResult:
    a, b = np.zeros(n, bool), np.zeros(n, bool)
    a[:losses], b[losses : losses + gains] = True, True
    return significance.mcnemar(a, b)


def mean_test(n: int, clustered: bool, seed: int, difference: float) -> significance.TestResult:
    """Two models whose scores, skewed ones, correlate."""
    random = np.random.default_rng([seed, n])
    clusters = np.arange(n) // (CLUSTER if clustered else 1)
    common = latent(random, clusters)
    a, b = (0.5 * stats.beta.ppf(common, 1.2, 4) + 0.5 * stats.beta.ppf(latent(random, clusters), 1.2, 4) for _ in "ab")
    b = b + difference
    return _bootstrapped(additive(a, b), [("mean", 1)], clusters, b.mean() - a.mean(), seed)


def ratio_test(n: int, clustered: bool, seed: int, difference: float) -> significance.TestResult:
    """Two models of which B's perplexity is higher by this share of it; `detectable` is a share too."""
    random = np.random.default_rng([seed, n])
    clusters = np.arange(n) // (CLUSTER if clustered else 1)
    tokens = np.round(random.lognormal(4, 0.6, n)) + 1
    text = stats.gamma.ppf(latent(random, clusters), 9, scale=0.3)
    a, b = (text + 0.1 * stats.norm.ppf(latent(random, clusters)) for _ in "ab")
    b = b + np.log1p(difference)
    values = [np.exp((tokens * each).sum() / tokens.sum()) for each in (a, b)]
    rows = np.stack([tokens * a, tokens, tokens * b, tokens], axis=1)
    found = _bootstrapped(rows, [("exponential", 1)], clusters, values[1] - values[0], seed)
    return replace(found, detectable=found.detectable / values[0])


def mcc_test(n: int, clustered: bool, seed: int, _difference: float) -> significance.TestResult:
    """Two models of labels 90 to 10, equally good."""
    random = np.random.default_rng([seed, n])
    clusters = np.arange(n) // (CLUSTER if clustered else 1)
    rows = labelled(random, clusters, scheme="90 to 10")
    right, a = rows.codes
    recall = np.array(PRIORS["90 to 10"][1])
    b = np.where(latent(random, clusters) < recall[right], right, 1 - right)
    function = FROM_CONFUSION["mcc"]
    values = []
    for given in (a, b):
        counts = np.zeros((2, 2))
        np.add.at(counts, (right, given), 1)
        values.append(float(function(counts)))
    triples = np.stack([right, a, b], axis=1)
    statistic = significance.confusion_differences([function], 2)
    return _resampled(triples, statistic, clusters, values[1] - values[0], seed, width=4)


def additive(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.stack([a, np.ones(len(a)), b, np.ones(len(b))], axis=1)


def _bootstrapped(
    rows: np.ndarray, aggregates: list[tuple[Any, int]], clusters: np.ndarray, difference: float, seed: int
) -> significance.TestResult:
    return _resampled(rows, significance.figure_differences(aggregates), clusters, difference, seed)


def _resampled(
    rows: np.ndarray, statistic: Any, clusters: np.ndarray, difference: float, seed: int, width: int = 1
) -> significance.TestResult:
    belongs = None if clusters[-1] + 1 == len(rows) else [clusters]
    draws = significance.resampled([rows], statistic, clusters=belongs, width=width, seed=seed)
    units = effective_units(np.bincount(clusters))
    return significance.result_of_draws(float(difference), 1.0, draws[:, 0], units)


if __name__ == "__main__":
    main()
