"""Comparisons are paired by example, know chance from more than chance, and refuse what cannot be compared."""

from __future__ import annotations

import json
import math
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist
from typing import Any

import matplotlib.image
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from scipy.stats import binomtest

from gpt_tasks.errors import DataError, UsageError
from gpt_tasks.evaluation.compare import Comparison, Contrast, compare, write_comparison
from gpt_tasks.evaluation.evaluate import evaluate
from gpt_tasks.extensions import Metric
from gpt_tasks.metrics import METRICS
from gpt_tasks.metrics.aggregate import perplexity
from gpt_tasks.metrics.significance import (
    figure_differences,
    holm,
    mcnemar,
    minimum_detectable_difference,
    resampled,
    result_of_draws,
)
from gpt_tasks.plugins import installed_plugins
from gpt_tasks.scoring.results import ScoredExample, Scores, task_scores, write_scores
from gpt_tasks.tasks.base import Task
from gpt_tasks.tasks.classification import ClassificationTask
from gpt_tasks.tasks.multiple_choice import MultipleChoiceTask
from gpt_tasks.tasks.regression import RegressionTask
from gpt_tasks.tasks.text_to_text import TextToTextTask
from gpt_tasks.types import Example, LogLikelihood, Prediction, Statistic

SHARE, PERPLEXITY, BITS = Metric("accuracy"), perplexity("word_perplexity"), Metric("bits_per_byte", better="lower")


def scored(
    folder: Path,
    figures: Sequence[tuple[Metric, Sequence[Statistic]]],
    *,
    name: str = "quiz",
    order: Sequence[int] | None = None,
    groups: Sequence[str] | None = None,
    sha256: str = "0",
    shots: int = 0,
    limit: int | None = None,
    change: Callable[[int, Example], Example] = lambda _, example: example,
) -> Path:
    """Write a folder as `score` does; the i-th example contributes the i-th statistic to each figure."""
    n = len(figures[0][1])
    rows = []
    for place in range(n) if order is None else order:
        example = Example({"question": f"Is {place} odd?"}, "yes", f"quiz.jsonl:{place + 1}", {}, ("yes", "no"))
        statistics = {metric.name: its[place] for metric, its in figures}
        rows.append(
            ScoredExample(name, change(place, example), None if groups is None else groups[place], [], statistics, 0)
        )
    tasks = (task_scores(name, "multiple-choice", shots, [metric for metric, _ in figures], rows),)
    model = {"spec": folder.name, "fingerprint": folder.name, "parameters": 1}
    folder.mkdir()
    write_scores(folder, Scores({"name": "own", "sha256": sha256}, model, {"limit": limit}, {}, tasks), rows)
    return folder


class Taste(ClassificationTask):
    """Tell how something tastes."""

    name = "taste"
    labels = ("bad", "fair", "good")


class Given:
    """A predictor whose predictions are given, by the examples' `where`."""

    def __init__(self, task: Task, predictions: Mapping[str, Any]) -> None:
        self.task = task
        self.chunk = 100
        self._predictions = predictions

    def predict(self, examples: Sequence[Example], *, scored: bool = False) -> list[Any]:
        return [self._predictions[example.where] for example in examples]

    def baselines(self, examples: Sequence[Example]) -> Mapping[str, Sequence[Any]]:
        return {}

    def notes(self) -> Sequence[str]:
        return ()


def written(
    folder: Path, task: Task, examples: Sequence[Example], predictions: Sequence[Any], metrics: Sequence[Metric]
) -> Path:
    """Write a folder as `evaluate` does."""
    given = dict(zip((example.where for example in examples), predictions, strict=True))
    evaluate(Given(task, given), examples, split="test", metrics=metrics, output=folder)
    return folder


def evaluated(
    folder: Path,
    references: Sequence[int],
    predictions: Sequence[int],
    *,
    order: Sequence[int] | None = None,
    metrics: Sequence[Metric] = METRICS,
) -> Path:
    """Write the folder of a classification as `evaluate` does."""
    places = list(range(len(references)) if order is None else order)
    task = Taste()
    probabilities = np.eye(3)[np.array(predictions)[places]] * 0.7 + 0.1
    examples = [Example({"text": f"No. {place}"}, task.labels[references[place]], f"a.csv:{place}") for place in places]
    return written(folder, task, examples, task.predictions(probabilities), metrics)


def as_by_the_first_version(folder: Path) -> Path:
    """Leave of the folder of a classification what gpt-tasks 0.1.0 wrote."""
    (folder / "parts.parquet").unlink()
    saved = json.loads((folder / "metrics.json").read_text())
    del saved["directions"]
    for figure in saved["metrics"].values():
        del figure["stderr"]
    (folder / "metrics.json").write_text(json.dumps(saved))
    return folder


def shares(right: Sequence[int]) -> list[tuple[Metric, list[Statistic]]]:
    return [(SHARE, [Statistic(float(value)) for value in right])]


def statistics(values: np.ndarray, weights: np.ndarray | None = None) -> list[Statistic]:
    weights = np.ones(len(values)) if weights is None else weights
    return [Statistic(float(value), float(weight)) for value, weight in zip(values, weights, strict=True)]


def only(comparison: Comparison) -> Contrast:
    (contrast,) = comparison.contrasts
    return contrast


# The statistics.


def test_mcnemar_is_the_binomial_test_on_the_pairs_that_differ() -> None:
    # 30 both right, 4 only A, 15 only B, 11 both wrong.
    a = np.repeat([True, True, False, False], [30, 4, 15, 11])
    b = np.repeat([True, False, True, False], [30, 4, 15, 11])
    found = mcnemar(a, b)
    assert found.p_value == binomtest(15, 19, 0.5).pvalue
    assert found.low < 11 / 60 < found.high
    swapped = mcnemar(b, a)
    assert swapped.p_value == found.p_value
    assert (swapped.low, swapped.high) == pytest.approx((-found.high, -found.low))


def test_the_interval_of_shares_is_the_published_one() -> None:
    # Bentur et al. 2009, as in Fagerland, Lydersen and Laake 2014, Statistics in Medicine 33: 1, 1, 7 and 12 pairs.
    a = np.repeat([True, True, False, False], [1, 7, 1, 12])
    b = np.repeat([True, False, True, False], [1, 7, 1, 12])
    found = mcnemar(a, b)
    assert (found.low, found.high) == pytest.approx((-0.517, -0.026), abs=5e-4)


def test_the_interval_of_shares_covers_the_truth_about_95_times_in_100() -> None:
    random = np.random.default_rng(1)
    covered = 0
    for _ in range(400):
        cell = random.choice(4, 60, p=[0.5, 0.05, 0.15, 0.3])
        found = mcnemar((cell == 0) | (cell == 1), (cell == 0) | (cell == 2))
        covered += found.low <= 0.1 <= found.high
    # Outside of this lies a true coverage of 95 % less often than once in a thousand.
    assert 366 <= covered <= 393


@pytest.mark.parametrize(("right", "low"), [(0, -1.0), (20, 0.6)])
def test_shares_that_are_all_of_one_kind_have_an_interval(right: int, low: float) -> None:
    same = mcnemar(np.ones(20, bool), np.ones(20, bool))
    assert same.p_value == 1
    assert -0.2 < same.low < 0 < same.high < 0.2
    far = mcnemar(np.full(20, right == 0), np.full(20, right != 0))
    assert low <= far.low < far.high <= 1
    assert 1.0 in (far.high, -far.low)


@pytest.mark.parametrize(("n", "discordant"), [(20, 0.5), (64, 0.3), (400, 0.2)])
def test_what_mcnemar_can_detect_it_finds_four_times_in_five(n: int, discordant: float) -> None:
    difference = minimum_detectable_difference(discordant, n)
    random = np.random.default_rng(3)
    pairs = random.multinomial(n, [(discordant + difference) / 2, (discordant - difference) / 2, 1 - discordant], 2000)
    p_values = [binomtest(gains, gains + losses).pvalue for gains, losses, _ in pairs.tolist()]
    assert np.mean(np.array(p_values) <= 0.05) == pytest.approx(0.8, abs=0.03)


def test_what_can_be_detected_is_never_more_than_what_can_differ() -> None:
    assert math.isnan(minimum_detectable_difference(0.0, 5))
    for n in (6, 10, 1000):
        least = minimum_detectable_difference(0.0, n)
        assert 0 < least <= 1
        # All discordant pairs on one side: their share is the difference itself.
        assert minimum_detectable_difference(least, n) == pytest.approx(least)
        assert minimum_detectable_difference(1.0, n) <= 1


def test_the_bootstrap_of_means_agrees_with_the_paired_z_test() -> None:
    random = np.random.default_rng(5)
    a = random.normal(2.0, 1.0, 500)
    b = a + random.normal(0.05, 0.5, 500)
    rows = np.stack([a, np.ones(500), b, np.ones(500)], axis=1)
    draws = resampled([rows], figure_differences([("mean", 1)]))[:, 0]
    found = result_of_draws(float((b - a).mean()), 2.0, draws, 500)
    error = (b - a).std() / math.sqrt(500)
    assert found.p_value == pytest.approx(2 * (1 - NormalDist().cdf(abs((b - a).mean()) / error)), abs=0.02)
    assert found.low == pytest.approx((b - a).mean() - 1.96 * error, abs=0.003)
    assert found.high == pytest.approx((b - a).mean() + 1.96 * error, abs=0.003)
    assert found.detectable == pytest.approx(2.8 * error, rel=0.05)


def test_drawing_cells_and_drawing_examples_are_the_same_bootstrap() -> None:
    rows = np.repeat([[0.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]], [30, 70], axis=0)
    # The last column makes every row different, and the mean does not read it.
    apart = np.column_stack([rows, np.arange(100)])
    by_cell = resampled([rows], figure_differences([("mean", 1)]))[:, 0]
    by_example = resampled([apart], lambda cells, counts: figure_differences([("mean", 1)])(cells[:, :4], counts))[:, 0]
    for draws in (by_cell, by_example):
        assert draws.mean() == pytest.approx(0.3, abs=0.002)
        assert draws.std() == pytest.approx(math.sqrt(0.3 * 0.7 / 100), abs=0.002)


def test_strata_are_resampled_within_themselves() -> None:
    # Between the groups all the difference, within them none: no resample differs from another.
    groups = [np.tile([0.0, 1.0, step, 1.0], (50, 1)) for step in (0.0, 1.0)]
    draws = resampled(groups, figure_differences([("mean", 1)]))
    assert draws == pytest.approx(0.5)
    assert resampled([np.concatenate(groups)], figure_differences([("mean", 1)])).std() > 0.02


def test_the_p_value_is_never_zero_and_no_smaller_than_a_few_pairs_can_make_it() -> None:
    assert result_of_draws(1.0, 1.0, np.ones(10_000), 10_000).p_value == pytest.approx(2 / 10_001, rel=0.02)
    assert result_of_draws(1.0, 1.0, np.ones(10_000), 5).p_value == 2 / 2**5
    assert result_of_draws(0.0, 1.0, np.full(10_000, 1e-17), 100).p_value == 1


def test_a_large_bootstrap_stays_small_in_memory() -> None:
    rows = np.random.default_rng(0).random((4_000, 4))
    tracemalloc.start()
    resampled([rows], figure_differences([("mean", 1)]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # All counts at once would be 320 MB.
    assert peak < 100e6


def test_holm_by_hand() -> None:
    # Sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1, and never below the one before.
    assert holm([0.04, 0.01, math.nan, 0.03, 0.02]) == pytest.approx([0.06, 0.04, math.nan, 0.06, 0.06], nan_ok=True)
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


# Folders of `score`.


def test_shares_are_paired_by_example_in_any_order(tmp_path: Path) -> None:
    a, b = [1] * 30 + [0] * 30, [1] * 25 + [0] * 5 + [1] * 14 + [0] * 16
    folder = scored(tmp_path / "a", shares(a))
    straight = only(compare([folder, scored(tmp_path / "b", shares(b))]))
    shuffled = scored(tmp_path / "c", shares(b), order=np.random.default_rng(0).permutation(60).tolist())
    found = only(compare([folder, shuffled]))
    assert found == straight
    assert (found.task, found.metric, found.name, found.test, found.n) == ("quiz", "accuracy", "B", "mcnemar", 60)
    assert (found.reference, found.value) == pytest.approx((30 / 60, 39 / 60))
    assert found.difference == pytest.approx(9 / 60)
    assert found.p_value == found.corrected_p_value == binomtest(14, 19).pvalue
    assert found.detectable == pytest.approx(minimum_detectable_difference(19 / 60, 60))


def test_a_perplexity_is_the_exponential_of_the_weighted_mean(tmp_path: Path) -> None:
    random = np.random.default_rng(7)
    weights = random.integers(50, 500, 200).astype(float)
    values = random.normal(3.0, 0.4, 200)
    better = values - 0.1 + random.normal(0, 0.05, 200)
    a = scored(tmp_path / "a", [(PERPLEXITY, statistics(values, weights)), (BITS, statistics(values, weights))])
    b = scored(tmp_path / "b", [(PERPLEXITY, statistics(better, weights)), (BITS, statistics(better, weights))])
    perplexities, bits = compare([a, b]).contrasts
    means = [np.average(each, weights=weights) for each in (values, better)]
    assert perplexities.difference == pytest.approx(math.exp(means[1]) - math.exp(means[0]))
    assert bits.difference == pytest.approx(means[1] - means[0])
    assert {perplexities.test, bits.test} == {"bootstrap"}
    assert perplexities.low < perplexities.difference < perplexities.high < 0
    # Exact but for the small curvature: how the logarithm of a ratio of perplexities spreads.
    error = math.sqrt((weights**2 * (better - values - means[1] + means[0]) ** 2).sum()) / weights.sum()
    assert (bits.low, bits.high) == pytest.approx(
        (bits.difference - 1.96 * error, bits.difference + 1.96 * error), abs=0.1 * error
    )


@pytest.mark.parametrize("metric", [PERPLEXITY, BITS])
def test_the_bootstrap_covers_a_known_difference(metric: Metric, tmp_path: Path) -> None:
    truth = {PERPLEXITY: math.exp(2.1 + 0.045) - math.exp(2.0 + 0.045), BITS: 0.1}[metric]
    covered = 0
    for seed in range(12):
        random = np.random.default_rng(seed)
        values = random.normal(2.0 + (0.045 if metric is PERPLEXITY else 0), 0.3, 80)
        other = values + random.normal(0.1, 0.1, 80)
        folders = [
            scored(tmp_path / f"{name}{seed}", [(metric, statistics(each))])
            for name, each in (("a", values), ("b", other))
        ]
        found = only(compare(folders))
        covered += found.low <= truth <= found.high
    # Twelve intervals of 95 % miss more than three times less often than once in four hundred.
    assert covered >= 9


def test_equal_runs_differ_by_nothing(tmp_path: Path) -> None:
    values = statistics(np.random.default_rng(0).normal(3, 1, 40), np.arange(1.0, 41.0))
    figures = [(PERPLEXITY, values), *shares([0, 1] * 20)]
    perplexities, accuracy = compare([scored(tmp_path / name, figures) for name in "ab"]).contrasts
    assert (perplexities.difference, perplexities.low, perplexities.high, perplexities.p_value) == (0, 0, 0, 1)
    assert math.isnan(perplexities.detectable)
    assert (accuracy.difference, accuracy.p_value) == (0, 1)
    assert accuracy.low < 0 < accuracy.high
    assert accuracy.detectable == pytest.approx(minimum_detectable_difference(0.0, 40))


def test_groups_count_the_same_whatever_their_size(tmp_path: Path) -> None:
    groups = ["few"] * 10 + ["many"] * 90
    a = scored(tmp_path / "a", shares([0] * 100), groups=groups)
    b = scored(tmp_path / "b", shares([1] * 10 + [0] * 90), groups=groups)
    found = only(compare([a, b]))
    assert found.test == "bootstrap"
    # Within each group there is no spread, so neither is there in their mean.
    assert (found.difference, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))


def test_one_example_says_nothing(tmp_path: Path) -> None:
    a, b = (
        scored(tmp_path / name, [(PERPLEXITY, [Statistic(value, 900.0)])]) for name, value in (("a", 3.0), ("b", 2.5))
    )
    found = only(compare([a, b]))
    assert found.difference == pytest.approx(math.exp(2.5) - math.exp(3.0))
    assert all(map(math.isnan, (found.low, found.high, found.p_value, found.corrected_p_value, found.detectable)))


def test_a_figure_that_is_not_finite_is_reported_as_null(tmp_path: Path) -> None:
    a = scored(tmp_path / "a", [(PERPLEXITY, statistics(np.full(5, 800.0))), *shares([1, 0, 1, 0, 1])])
    b = scored(tmp_path / "b", [(PERPLEXITY, statistics(np.full(5, 2.0))), *shares([1, 1, 1, 0, 1])])
    comparison = compare([a, b])
    told = json.loads(json.dumps(comparison.to_json(), allow_nan=False))
    assert told["contrasts"][0]["reference"] is None
    assert told["contrasts"][0]["p_value"] is None
    assert comparison.contrasts[1].corrected_p_value == comparison.contrasts[1].p_value


def test_each_folder_is_compared_with_the_first_and_corrected_for_all(tmp_path: Path) -> None:
    random = np.random.default_rng(4)
    a = scored(tmp_path / "a", shares(random.integers(0, 2, 80).tolist()))
    b = scored(tmp_path / "b", shares([1] * 60 + [0] * 20))
    c = scored(tmp_path / "c", shares([1] * 80))
    comparison = compare([a, b, c])
    assert [contrast.name for contrast in comparison.contrasts] == ["B", "C"]
    assert [(folder.name, folder.path, folder.model) for folder in comparison.folders][2] == ("C", c, "c")
    values = [contrast.p_value for contrast in comparison.contrasts]
    assert [contrast.corrected_p_value for contrast in comparison.contrasts] == holm(values)
    assert comparison.contrasts[0] == replace(
        only(compare([a, b])), corrected_p_value=comparison.contrasts[0].corrected_p_value
    )


def test_the_same_seed_gives_the_same_comparison(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    folders = [scored(tmp_path / name, [(BITS, statistics(random.normal(1, 0.3, 50)))]) for name in "ab"]
    assert compare(folders, seed=4) == compare(folders, seed=4)
    assert compare(folders, seed=4).contrasts != compare(folders, seed=5).contrasts


def test_another_suite_file_with_the_same_examples_is_a_note(tmp_path: Path) -> None:
    a = scored(tmp_path / "a", shares([1, 0, 1, 1, 0]), sha256="1")
    b = scored(tmp_path / "b", [*shares([1, 1, 1, 1, 0]), (BITS, statistics(np.ones(5)))], sha256="2", shots=5)
    notes = " ".join(compare([a, b]).notes)
    assert "suites" in notes
    assert "0 shots in A, 5 in B" in notes
    assert "bits_per_byte (only in B)" in notes
    assert compare([a, scored(tmp_path / "c", shares([1, 1, 1, 1, 0]), sha256="1")]).notes == ()


# Folders of `evaluate`.


def test_reports_are_compared_by_accuracy_macro_f1_and_mcc(tmp_path: Path) -> None:
    random = np.random.default_rng(9)
    references = random.integers(0, 3, 300)
    weak = np.where(random.random(300) < 0.5, references, random.integers(0, 3, 300))
    strong = np.where(random.random(300) < 0.8, references, random.integers(0, 3, 300))
    a = evaluated(tmp_path / "a", references, weak)
    b = evaluated(tmp_path / "b", references, strong, order=random.permutation(300).tolist())
    comparison = compare([a, b])
    found = {contrast.metric: contrast for contrast in comparison.contrasts}
    assert list(found) == ["accuracy", "macro_f1", "mcc"]
    assert [contrast.test for contrast in comparison.contrasts] == ["mcnemar", "bootstrap", "bootstrap"]
    gains = int(((weak != references) & (strong == references)).sum())
    losses = int(((weak == references) & (strong != references)).sum())
    assert found["accuracy"].p_value == binomtest(gains, gains + losses).pvalue
    own = [json.loads((folder / "metrics.json").read_text())["metrics"]["macro_f1"]["value"] for folder in (a, b)]
    assert (found["macro_f1"].reference, found["macro_f1"].value) == tuple(own)
    for contrast in comparison.contrasts:
        assert 0 < contrast.low < contrast.difference < contrast.high
    # With balanced labels the three agree about where the difference lies.
    assert found["macro_f1"].low == pytest.approx(found["accuracy"].low, abs=0.03)
    assert "micro_f1 (it equals accuracy), ece" in comparison.notes[0]


def test_the_bootstrap_of_macro_f1_follows_the_pairing(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    references = random.integers(0, 3, 200)
    first = np.where(random.random(200) < 0.7, references, random.integers(0, 3, 200))
    alike, apart = first.copy(), np.where(random.random(200) < 0.7, references, random.integers(0, 3, 200))
    alike[:4] = (references[:4] + 1) % 3
    a = evaluated(tmp_path / "a", references, first)
    near = compare([a, evaluated(tmp_path / "b", references, alike)]).contrasts[1]
    far = compare([a, evaluated(tmp_path / "c", references, apart)]).contrasts[1]
    assert near.high - near.low < (far.high - far.low) / 2
    assert near.detectable < far.detectable / 2


def test_a_folder_of_the_first_version_compares_as_a_new_one_does(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    references = random.integers(0, 3, 120)
    first, second = (np.where(random.random(120) < p, references, random.integers(0, 3, 120)) for p in (0.4, 0.7))
    new = [evaluated(tmp_path / name, references, given) for name, given in (("a", first), ("b", second))]
    old = [
        as_by_the_first_version(evaluated(tmp_path / name, references, given))
        for name, given in (("old a", first), ("old b", second))
    ]
    right = compare(new)
    assert [contrast.metric for contrast in right.contrasts] == ["accuracy", "macro_f1", "mcc"]
    for folders in (old, [new[0], old[1]], [old[0], new[1]]):
        found = compare(folders)
        assert found.contrasts == right.contrasts
        assert found.notes == right.notes


def test_a_folder_without_a_table_and_without_labels_is_refused(tmp_path: Path) -> None:
    a, b = (numbers(tmp_path / name, np.arange(5.0), np.arange(5.0) + 1) for name in "ab")
    (b / "parts.parquet").unlink()
    with pytest.raises(DataError, match=r"b holds no parts.parquet: an older gpt-tasks evaluated it"):
        compare([a, b])


class Stars(RegressionTask):
    """Tell how many stars a review gives."""

    name = "stars"


def numbers(folder: Path, right: np.ndarray, given: np.ndarray, metrics: Sequence[Metric] = ()) -> Path:
    """Write the folder of a regression as `evaluate` does."""
    task = Stars()
    examples = [
        Example({"text": f"No. {place}"}, repr(number), f"a:{place}") for place, number in enumerate(right.tolist())
    ]
    return written(folder, task, examples, given.tolist(), metrics or task.own_metrics)


def test_numbers_are_compared_by_a_bootstrap(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    right = random.normal(3, 1, 150)
    a = numbers(tmp_path / "a", right, right + random.normal(0, 1.0, 150))
    b = numbers(tmp_path / "b", right, right + random.normal(0, 0.5, 150))
    comparison = compare([a, b])
    assert [contrast.metric for contrast in comparison.contrasts] == ["pearson", "spearman", "rmse"]
    assert {contrast.test for contrast in comparison.contrasts} == {"bootstrap"}
    for contrast in comparison.contrasts:
        assert contrast.low < contrast.difference < contrast.high
        assert (contrast.difference < 0) == (contrast.metric == "rmse")
        assert contrast.p_value < 0.01


class Quiz(MultipleChoiceTask):
    """Choose the right answer."""

    name = "quiz"


def test_a_fine_tuned_model_is_compared_with_a_zero_shot_one(tmp_path: Path) -> None:
    task, random = Taste(), np.random.default_rng(1)
    examples = [Example({"text": f"No. {place}"}, task.labels[place % 3], f"a.csv:{place}") for place in range(90)]
    tuned = task.predictions(random.dirichlet(np.ones(3), 90))
    asked = [
        task.prediction(example, [LogLikelihood(value, False) for value in random.normal(-5, 1, 3)])
        for example in examples
    ]
    a = written(tmp_path / "tuned", task, examples, tuned, METRICS)
    b = written(tmp_path / "asked", task, examples[::-1], asked[::-1], METRICS[:2])
    comparison = compare([a, b])
    assert [(contrast.metric, contrast.test) for contrast in comparison.contrasts] == [
        ("accuracy", "mcnemar"),
        ("macro_f1", "bootstrap"),
    ]
    right = [
        np.array([one.label == each.target for one, each in zip(some, examples, strict=True)])
        for some in (tuned, asked)
    ]
    assert comparison.contrasts[0].p_value == mcnemar(*right).p_value


def test_choices_of_a_fine_tuned_model_are_compared_with_those_of_a_zero_shot_one(tmp_path: Path) -> None:
    task, random = Quiz(), np.random.default_rng(2)
    examples = [
        Example({"question": f"Is {place} odd?"}, str(place % 2), f"q:{place}", choices=("yes", "no"))
        for place in range(60)
    ]
    tuned = [Prediction(str(place), {"0": 0.5, "1": 0.5}) for place in random.integers(0, 2, 60).tolist()]
    asked = [
        task.prediction(example, [LogLikelihood(value, False) for value in random.normal(-5, 1, 2)])
        for example in examples
    ]
    own = {metric.name: metric for metric in task.own_metrics}
    a = written(tmp_path / "tuned", task, examples, tuned, [own["accuracy"]])
    b = written(tmp_path / "asked", task, examples, asked, [own["accuracy"], own["acc_norm"]])
    comparison = compare([a, b])
    found = only(comparison)
    assert (found.metric, found.test, found.n) == ("accuracy", "mcnemar", 60)
    assert "acc_norm (only in B)" in comparison.notes[0]


PLUGIN = """
    import numpy as np
    from gpt_tasks import Metric, hookimpl

    def worst_recall(rows):
        references, predictions = rows.codes
        return min(float((predictions[references == code] == code).mean()) for code in np.unique(references))

    def surest(rows):
        return float(rows.probabilities.max())

    def mean_error(rows):
        return float(np.mean([abs(given - right[0]) for given, right in zip(rows.predictions, rows.references)]))

    def spread(rows):
        return float(np.std(rows.predictions))

    def exact(rows):
        return float(np.mean([given in right for given, right in zip(rows.predictions, rows.references)]))

    def halved(sums, weights):
        return sums[..., 0] / weights / 2

    def is_right(prediction, references):
        return Statistic(float(prediction in references))

    @hookimpl
    def register_metrics():
        return [
            Metric("worst_recall", whole=worst_recall),
            Metric("surest", whole=surest),
            Metric("mean_error", whole=mean_error, better="lower"),
            Metric("spread", whole=spread),
            Metric("exact", whole=exact),
            Metric("halved", statistic=is_right, aggregate=halved),
        ]
    """


@pytest.fixture
def plugged(site: Any) -> Callable[..., list[Metric]]:
    """The metrics of an installed plugin, by their names."""
    site.install("figures", PLUGIN.replace("import Metric,", "import Metric, Statistic,"))
    installed_plugins.cache_clear()
    registry = installed_plugins().registry
    return lambda *names: [registry.metrics[name] for name in names]


def test_a_metric_that_is_no_mean_is_compared_by_resamples(
    plugged: Callable[..., list[Metric]], tmp_path: Path
) -> None:
    random = np.random.default_rng(9)
    references = random.integers(0, 3, 200)
    weak, strong = (np.where(random.random(200) < p, references, random.integers(0, 3, 200)) for p in (0.3, 0.9))
    metrics = [METRICS[0], *plugged("worst_recall")]
    a = evaluated(tmp_path / "a", references, weak, metrics=metrics)
    b = evaluated(tmp_path / "b", references, strong, order=random.permutation(200).tolist(), metrics=metrics)
    comparison = compare([a, b])
    accuracy, recall = comparison.contrasts
    assert (recall.metric, recall.test, recall.n) == ("worst_recall", "bootstrap", 200)
    recalls = [min((given[references == code] == code).mean() for code in range(3)) for given in (weak, strong)]
    assert (recall.reference, recall.value) == pytest.approx(tuple(recalls))
    assert 0 < recall.low < recall.difference < recall.high
    assert recall.p_value < 0.01
    assert comparison.notes == ()
    assert compare([a, b]) == comparison
    assert compare([a, b], seed=1).contrasts[1] != recall
    # Paired, so that equal answers differ by nothing.
    same = compare([a, evaluated(tmp_path / "c", references, weak, metrics=metrics)]).contrasts[1]
    assert (same.difference, same.low, same.high, same.p_value) == (0, 0, 0, 1)
    assert accuracy.test == "mcnemar"


def test_a_metric_that_needs_probabilities_is_left_out(plugged: Callable[..., list[Metric]], tmp_path: Path) -> None:
    metrics = [METRICS[0], *plugged("surest")]
    folders = [evaluated(tmp_path / name, [0, 1, 2, 1], [0, 1, 1, 0], metrics=metrics) for name in "ab"]
    comparison = compare(folders)
    assert only(comparison).metric == "accuracy"
    assert "surest (it needs more than labels and predictions)" in comparison.notes[0]


def test_a_metric_that_reads_more_than_was_saved_is_left_out(
    plugged: Callable[..., list[Metric]], tmp_path: Path
) -> None:
    """Right numbers are saved as the data write them."""
    random = np.random.default_rng(0)
    right = random.normal(3, 1, 80)
    metrics = [*Stars().own_metrics, *plugged("mean_error", "spread")]
    a, b = (numbers(tmp_path / name, right, right + random.normal(0, 1, 80), metrics) for name in "ab")
    comparison = compare([a, b])
    assert [contrast.metric for contrast in comparison.contrasts] == ["pearson", "spearman", "rmse", "spread"]
    assert "mean_error (it needs more than labels and predictions)" in comparison.notes[0]


class Capital(TextToTextTask):
    """Name a country's capital."""

    name = "capital"


def test_of_texts_too_the_right_answers_are_a_list_though_it_be_one(
    plugged: Callable[..., list[Metric]], tmp_path: Path
) -> None:
    task = Capital()
    examples = [
        Example({"question": f"No. {place}"}, "Paris", f"c:{place}", references=("Paris",)) for place in range(40)
    ]
    # It contains half of a right answer, which does not count.
    answers = [["Par"] * 40, ["Par", "Paris"] * 20]
    a, b = (
        written(tmp_path / name, task, examples, given, [*task.own_metrics, *plugged("exact")])
        for name, given in zip("ab", answers, strict=True)
    )
    own, exact = compare([a, b]).contrasts
    assert (own.metric, exact.metric) == ("exact_match", "exact")
    for contrast in (own, exact):
        assert (contrast.reference, contrast.value) == (0, 0.5)
        assert 0.2 < contrast.low < 0.5 < contrast.high < 0.8


def test_a_function_of_sums_is_found_again_by_its_metrics_name(
    plugged: Callable[..., list[Metric]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = [METRICS[0], *plugged("halved")]
    a = evaluated(tmp_path / "a", [0, 1, 2, 1] * 20, [0, 1, 1, 0] * 20, metrics=metrics)
    b = evaluated(tmp_path / "b", [0, 1, 2, 1] * 20, [0, 1, 2, 0] * 20, metrics=metrics)
    accuracy, halved = compare([a, b]).contrasts
    assert (accuracy.reference, accuracy.value) == (0.5, 0.75)
    assert (halved.metric, halved.reference, halved.value, halved.test) == ("halved", 0.25, 0.375, "bootstrap")
    assert halved.low < 0.125 < halved.high
    # Without the plugin nobody knows how to aggregate it; the rest compares as before.
    registry = installed_plugins().registry
    monkeypatch.delitem(registry.metrics._things, "halved")
    comparison = compare([a, b])
    assert [contrast.metric for contrast in comparison.contrasts] == ["accuracy"]
    assert "halved (" in comparison.notes[0]


# What is refused.


def test_fewer_than_two_folders_or_one_twice_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a = scored(tmp_path / "a", shares([1, 0]))
    with pytest.raises(UsageError, match="1 folder given"):
        compare([a])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="given twice"):
        compare([a, Path("a")])


def test_a_folder_that_is_not_there_or_holds_nothing_is_refused(tmp_path: Path) -> None:
    a = scored(tmp_path / "a", shares([1, 0]))
    with pytest.raises(UsageError, match=r"no folder .*nowhere"):
        compare([a, tmp_path / "nowhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"empty holds none of scores.json, examples.parquet, metrics.json"):
        compare([a, tmp_path / "empty"])


def test_scores_and_reports_are_not_mixed(tmp_path: Path) -> None:
    a = scored(tmp_path / "a", shares([1, 0]))
    b = evaluated(tmp_path / "b", [0, 1], [0, 1])
    with pytest.raises(UsageError, match=r"a holds what gpt-tasks score writes, .*b what gpt-tasks evaluate writes"):
        compare([a, b])


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"inputs": {"question": "Is 7 even?"}}, "only in"),
        ({"choices": ("yes", "maybe")}, "only in"),
        ({"target": "no"}, "its right answer is 'yes' in one and 'no' in the other"),
    ],
)
def test_examples_that_differ_are_named(changed: dict[str, Any], told: str, tmp_path: Path) -> None:
    def change(place: int, example: Example) -> Example:
        return replace(example, **changed) if place in (2, 4) else example

    a = scored(tmp_path / "a", shares([1, 0, 1, 1, 0]))
    b = scored(tmp_path / "b", shares([1, 0, 1, 1, 0]), change=change, sha256="2")
    with pytest.raises(DataError) as refused:
        compare([a, b])
    assert "'quiz' differ, 2 of the 5 in" in refused.value.message
    assert "the first is quiz.jsonl:3" in refused.value.message
    assert told in refused.value.message
    assert "\n" not in refused.value.message


def test_another_limit_is_a_difference_of_examples(tmp_path: Path) -> None:
    a = scored(tmp_path / "a", shares([1, 0, 1]), limit=3)
    b = scored(tmp_path / "b", shares([1, 0, 1, 1, 0]))
    with pytest.raises(DataError, match=r"0 of the 3 in .*2 of the 5 in .*quiz.jsonl:4: only in .*b") as refused:
        compare([a, b])
    assert refused.value.hint == "They were scored with --limit 3 and no --limit: take the same for both."


def test_an_example_twice_is_not_the_same_as_once(tmp_path: Path) -> None:
    def doubled(place: int, example: Example) -> Example:
        return Example({"question": "Is 0 odd?"}, "yes", f"quiz.jsonl:{place + 1}", {}, ("yes", "no"))

    a = scored(tmp_path / "a", shares([1, 1]), change=doubled)
    assert only(compare([a, scored(tmp_path / "b", shares([1, 0]), change=doubled)])).difference == -0.5
    with pytest.raises(DataError, match=r"0 of the 2 in .* 1 of the 3"):
        compare([a, scored(tmp_path / "c", shares([1, 1, 0]), change=doubled)])


def test_other_groups_are_another_figure(tmp_path: Path) -> None:
    a = scored(tmp_path / "a", shares([1, 0, 1, 0]), groups=["x", "x", "y", "y"])
    with pytest.raises(DataError, match="its group is 'x' in one and None in the other"):
        compare([a, scored(tmp_path / "b", shares([1, 0, 1, 0]))])


def test_predictions_of_other_examples_are_refused(tmp_path: Path) -> None:
    a = evaluated(tmp_path / "a", [0, 1, 2], [0, 1, 1])
    with pytest.raises(DataError, match="its right answer is 'good' in one and 'fair' in the other"):
        compare([a, evaluated(tmp_path / "b", [0, 1, 1], [0, 1, 1])])


def test_folders_that_share_nothing_are_refused(tmp_path: Path) -> None:
    a = scored(tmp_path / "a", shares([1, 0]))
    with pytest.raises(DataError, match=r"\(quiz: accuracy\) and .*\(quiz: bits_per_byte\) share no metric"):
        compare([a, scored(tmp_path / "b", [(BITS, statistics(np.ones(2)))])])
    with pytest.raises(DataError, match=r"\(riddles: accuracy\) share no metric"):
        compare([a, scored(tmp_path / "c", shares([1, 0]), name="riddles")])


@pytest.mark.parametrize(("version", "hint"), [(3, "Upgrade gpt-tasks."), (1, "Score again.")])
def test_another_schema_version_is_refused(version: int, hint: str, tmp_path: Path) -> None:
    a, b = (scored(tmp_path / name, shares([1, 0])) for name in "ab")
    saved = json.loads((b / "scores.json").read_text())
    (b / "scores.json").write_text(json.dumps({**saved, "schema_version": version}))
    with pytest.raises(DataError, match=f"schema version {version}; this gpt-tasks reads 2") as refused:
        compare([a, b])
    assert refused.value.hint == hint


def test_scores_that_are_cut_short_are_refused(tmp_path: Path) -> None:
    a, b = (scored(tmp_path / name, shares([1, 0, 1])) for name in "ab")
    whole = {file: (b / file).read_bytes() for file in ("scores.json", "examples.parquet")}
    table = parquet.read_table(b / "examples.parquet")
    for file, content in whole.items():
        (b / file).write_bytes(content[: len(content) // 2])
        with pytest.raises(DataError, match=rf"{file}(: truncated| is cut short or damaged)"):
            compare([a, b])
        (b / file).unlink()
        with pytest.raises(DataError, match=f"b is cut short: it holds no {file}"):
            compare([a, b])
        (b / file).write_bytes(content)
    parquet.write_table(table.slice(0, 2), b / "examples.parquet")
    with pytest.raises(DataError, match=r"holds 2 examples of task 'quiz', where scores.json records 3"):
        compare([a, b])
    parquet.write_table(table.drop_columns(["parts"]), b / "examples.parquet")
    with pytest.raises(DataError, match="no column 'parts'"):
        compare([a, b])


def test_scores_that_do_not_follow_from_their_examples_are_refused(tmp_path: Path) -> None:
    a, b = (scored(tmp_path / name, shares([1, 0, 1])) for name in "ab")
    table = parquet.read_table(b / "examples.parquet")
    better = pa.array([[{"metric": "accuracy", "values": [1.0], "weight": 1.0}]] * 3, table.schema.field("parts").type)
    parquet.write_table(table.set_column(table.schema.names.index("parts"), "parts", better), b / "examples.parquet")
    with pytest.raises(DataError, match=r"do not yield the accuracy in scores.json"):
        compare([a, b])


def test_predictions_that_are_cut_short_are_refused(tmp_path: Path) -> None:
    a, b = (evaluated(tmp_path / name, [0, 1, 2], [0, 1, 1]) for name in "ab")
    whole = (b / "predictions.jsonl").read_text()
    (b / "predictions.jsonl").write_text(whole[:-30])
    with pytest.raises(DataError, match=r"predictions.jsonl:3: this is no prediction"):
        compare([a, b])
    (b / "predictions.jsonl").write_text("".join(whole.splitlines(keepends=True)[:2]))
    with pytest.raises(DataError, match=r"holds 2 examples, where metrics.json records 3"):
        compare([a, b])
    (b / "predictions.jsonl").write_text(whole.replace('"label": "good"', '"label": null'))
    with pytest.raises(DataError, match=r"a.csv:2: None is no label"):
        compare([a, b])
    (b / "predictions.jsonl").write_text(whole.replace('"predicted": "fair"', '"predicted": "bad"'))
    with pytest.raises(DataError, match=r"predictions.jsonl: .*do not yield the accuracy in metrics.json"):
        compare([a, b])
    (b / "predictions.jsonl").write_text(whole)
    (b / "metrics.json").unlink()
    with pytest.raises(DataError, match=r"b is cut short: it holds no metrics.json"):
        compare([a, b])


def test_a_table_of_other_examples_or_figures_is_refused(tmp_path: Path) -> None:
    a, b = (evaluated(tmp_path / name, [0, 1, 2], [0, 1, 1]) for name in "ab")
    path = b / "parts.parquet"
    whole, table = path.read_bytes(), parquet.read_table(path)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"parts.parquet is cut short or damaged"):
        compare([a, b])
    parquet.write_table(table.slice(0, 2), path)
    with pytest.raises(DataError, match=r"parts.parquet holds 2 examples, where metrics.json records 3"):
        compare([a, b])
    parquet.write_table(table.take([0, 2, 1]), path)
    with pytest.raises(DataError, match=r"parts.parquet is of other examples than predictions.jsonl"):
        compare([a, b])
    row = [{"metric": name, "form": "mean", "values": [1.0], "weight": 1.0} for name in ("accuracy", "micro_f1")]
    better = pa.array([row] * 3, table.schema.field("parts").type)
    parquet.write_table(table.set_column(table.schema.names.index("parts"), "parts", better), path)
    with pytest.raises(DataError, match=r"do not yield the accuracy in metrics.json"):
        compare([a, b])


# What is written.


def test_what_is_written_is_the_comparison_and_a_plot(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    folders = [
        scored(
            tmp_path / f"run ${name}",
            [*shares(random.integers(0, 2, 30).tolist()), (BITS, statistics(random.random(30)))],
        )
        for name in "abc"
    ]
    comparison = compare(folders)
    write_comparison(tmp_path / "out", comparison)
    assert json.loads((tmp_path / "out" / "comparison.json").read_text()) == comparison.to_json()
    height, width, _ = matplotlib.image.imread(tmp_path / "out" / "comparison.png").shape
    assert 300 < height < 1500
    assert 600 < width < 1500
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["comparison.json", "comparison.png"]


def test_a_plot_of_many_tasks_is_taller(tmp_path: Path) -> None:
    def with_tasks(number: int) -> Path:
        one = compare([scored(tmp_path / f"{name}{number}", shares([1, 0, 1, 1])) for name in "ab"])
        contrasts = tuple(replace(one.contrasts[0], task=f"task {place}") for place in range(number))
        folder = tmp_path / f"out{number}"
        write_comparison(folder, Comparison(one.kind, one.folders, contrasts, 0))
        return folder / "comparison.png"

    few, many = (matplotlib.image.imread(with_tasks(number)).shape[0] for number in (2, 20))
    assert many > 2 * few
