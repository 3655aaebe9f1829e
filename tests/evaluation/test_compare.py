"""Comparisons are paired by example, know chance from more than chance, and refuse what cannot be compared."""

from __future__ import annotations

import json
import math
import tracemalloc
from collections.abc import Callable, Sequence
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
from gpt_tasks.evaluation.paired import detectable_share, evidence, figure_differences, holm, mcnemar, resampled
from gpt_tasks.evaluation.report import build_report, write_predictions
from gpt_tasks.files import write_json
from gpt_tasks.metrics import METRICS
from gpt_tasks.scoring.results import ScoredExample, Scores, task_scores, write_scores
from gpt_tasks.tasks.measures import Measure, Part, perplexity
from gpt_tasks.types import Example

SHARE, PERPLEXITY, BITS = Measure("accuracy"), perplexity("word_perplexity"), Measure("bits_per_byte", "lower")


def scored(
    folder: Path,
    figures: Sequence[tuple[Measure, Sequence[Part]]],
    *,
    name: str = "quiz",
    order: Sequence[int] | None = None,
    groups: Sequence[str] | None = None,
    sha256: str = "0",
    shots: int = 0,
    limit: int | None = None,
    change: Callable[[int, Example], Example] = lambda _, example: example,
) -> Path:
    """Write a folder as `score` does; the i-th example brings the i-th part to each figure."""
    n = len(figures[0][1])
    rows = []
    for place in range(n) if order is None else order:
        example = Example({"question": f"Is {place} odd?"}, "yes", f"quiz.jsonl:{place + 1}", {}, ("yes", "no"))
        parts = {measure.name: parts[place] for measure, parts in figures}
        rows.append(
            ScoredExample(name, change(place, example), None if groups is None else groups[place], [], parts, 0)
        )
    tasks = (task_scores(name, "multiple-choice", shots, [measure for measure, _ in figures], rows),)
    model = {"spec": folder.name, "fingerprint": folder.name, "parameters": 1}
    folder.mkdir()
    write_scores(folder, Scores({"name": "own", "sha256": sha256}, model, {"limit": limit}, {}, tasks), rows)
    return folder


def evaluated(
    folder: Path, references: Sequence[int], predictions: Sequence[int], *, order: Sequence[int] | None = None
) -> Path:
    """Write a folder as `evaluate` does."""
    places = list(range(len(references)) if order is None else order)
    labels = ("bad", "fair", "good")
    right = np.array(references)[places]
    probabilities = np.eye(3)[np.array(predictions)[places]] * 0.7 + 0.1
    examples = [Example({"text": f"No. {place}"}, labels[references[place]], f"a.csv:{place}") for place in places]
    report = build_report(
        task="taste",
        split="test",
        labels=labels,
        metrics=METRICS,
        references=right,
        probabilities=probabilities,
        examples=examples,
    )
    folder.mkdir()
    write_predictions(folder / "predictions.jsonl", examples, labels, probabilities)
    write_json(folder / "metrics.json", report.to_json())
    return folder


def shares(right: Sequence[int]) -> list[tuple[Measure, list[Part]]]:
    return [(SHARE, [Part(float(value)) for value in right])]


def parts(values: np.ndarray, weights: np.ndarray | None = None) -> list[Part]:
    weights = np.ones(len(values)) if weights is None else weights
    return [Part(float(value), float(weight)) for value, weight in zip(values, weights, strict=True)]


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


def test_what_mcnemar_can_detect_it_finds_four_times_in_five() -> None:
    n, discordant = 400, 0.2
    difference = detectable_share(discordant, n)
    random = np.random.default_rng(3)
    gains = random.multinomial(n, [(discordant + difference) / 2, (discordant - difference) / 2, 1 - discordant], 4000)
    z = (gains[:, 0] - gains[:, 1]) / np.sqrt(gains[:, 0] + gains[:, 1])
    assert (np.abs(z) > 1.96).mean() == pytest.approx(0.8, abs=0.03)


def test_what_can_be_detected_is_never_more_than_what_can_differ() -> None:
    assert math.isnan(detectable_share(0.0, 3))
    for n in (4, 10, 1000):
        least = detectable_share(0.0, n)
        assert 0 < least <= 1
        # All discordant pairs on one side: their share is the difference itself.
        assert detectable_share(least, n) == pytest.approx(least)
        assert detectable_share(1.0, n) <= 1


def test_the_bootstrap_of_means_agrees_with_the_paired_z_test() -> None:
    random = np.random.default_rng(5)
    a = random.normal(2.0, 1.0, 500)
    b = a + random.normal(0.05, 0.5, 500)
    rows = np.stack([a, np.ones(500), b, np.ones(500)], axis=1)
    draws = resampled([rows], figure_differences([("mean", 1)]))[:, 0]
    found = evidence(float((b - a).mean()), 2.0, draws, 500)
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
    assert evidence(1.0, 1.0, np.ones(10_000), 100).p_value == pytest.approx(2 / 10_001)
    assert evidence(1.0, 1.0, np.ones(10_000), 5).p_value == 2 / 2**5
    assert evidence(0.0, 1.0, np.full(10_000, 1e-17), 100).p_value == 1


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


def test_shares_are_paired_by_example_whatever_their_order(tmp_path: Path) -> None:
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
    assert found.detectable == pytest.approx(detectable_share(19 / 60, 60))


def test_a_perplexity_is_the_exponential_of_the_weighted_mean(tmp_path: Path) -> None:
    random = np.random.default_rng(7)
    weights = random.integers(50, 500, 200).astype(float)
    values = random.normal(3.0, 0.4, 200)
    better = values - 0.1 + random.normal(0, 0.05, 200)
    a = scored(tmp_path / "a", [(PERPLEXITY, parts(values, weights)), (BITS, parts(values, weights))])
    b = scored(tmp_path / "b", [(PERPLEXITY, parts(better, weights)), (BITS, parts(better, weights))])
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


@pytest.mark.parametrize("measure", [PERPLEXITY, BITS])
def test_the_bootstrap_covers_a_known_difference(measure: Measure, tmp_path: Path) -> None:
    truth = {PERPLEXITY: math.exp(2.1 + 0.045) - math.exp(2.0 + 0.045), BITS: 0.1}[measure]
    covered = 0
    for seed in range(12):
        random = np.random.default_rng(seed)
        values = random.normal(2.0 + (0.045 if measure is PERPLEXITY else 0), 0.3, 80)
        other = values + random.normal(0.1, 0.1, 80)
        folders = [
            scored(tmp_path / f"{name}{seed}", [(measure, parts(each))]) for name, each in (("a", values), ("b", other))
        ]
        found = only(compare(folders))
        covered += found.low <= truth <= found.high
    # Twelve intervals of 95 % miss more than three times less often than once in four hundred.
    assert covered >= 9


def test_equal_runs_differ_by_nothing(tmp_path: Path) -> None:
    values = parts(np.random.default_rng(0).normal(3, 1, 40), np.arange(1.0, 41.0))
    figures = [(PERPLEXITY, values), *shares([0, 1] * 20)]
    perplexities, accuracy = compare([scored(tmp_path / name, figures) for name in "ab"]).contrasts
    assert (perplexities.difference, perplexities.low, perplexities.high, perplexities.p_value) == (0, 0, 0, 1)
    assert math.isnan(perplexities.detectable)
    assert (accuracy.difference, accuracy.p_value) == (0, 1)
    assert accuracy.low < 0 < accuracy.high
    assert accuracy.detectable == pytest.approx(detectable_share(0.0, 40))


def test_groups_count_the_same_whatever_their_size(tmp_path: Path) -> None:
    groups = ["few"] * 10 + ["many"] * 90
    a = scored(tmp_path / "a", shares([0] * 100), groups=groups)
    b = scored(tmp_path / "b", shares([1] * 10 + [0] * 90), groups=groups)
    found = only(compare([a, b]))
    assert found.test == "bootstrap"
    # Within each group there is no spread, so neither is there in their mean.
    assert (found.difference, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))


def test_one_example_tells_nothing(tmp_path: Path) -> None:
    a, b = (scored(tmp_path / name, [(PERPLEXITY, [Part(value, 900.0)])]) for name, value in (("a", 3.0), ("b", 2.5)))
    found = only(compare([a, b]))
    assert found.difference == pytest.approx(math.exp(2.5) - math.exp(3.0))
    assert all(map(math.isnan, (found.low, found.high, found.p_value, found.corrected_p_value, found.detectable)))


def test_a_figure_that_is_not_finite_is_told_as_null(tmp_path: Path) -> None:
    a = scored(tmp_path / "a", [(PERPLEXITY, parts(np.full(5, 800.0))), *shares([1, 0, 1, 0, 1])])
    b = scored(tmp_path / "b", [(PERPLEXITY, parts(np.full(5, 2.0))), *shares([1, 1, 1, 0, 1])])
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
    folders = [scored(tmp_path / name, [(BITS, parts(random.normal(1, 0.3, 50)))]) for name in "ab"]
    assert compare(folders, seed=4) == compare(folders, seed=4)
    assert compare(folders, seed=4).contrasts != compare(folders, seed=5).contrasts


def test_another_suite_file_with_the_same_examples_is_a_note(tmp_path: Path) -> None:
    a = scored(tmp_path / "a", shares([1, 0, 1, 1, 0]), sha256="1")
    b = scored(tmp_path / "b", [*shares([1, 1, 1, 1, 0]), (BITS, parts(np.ones(5)))], sha256="2", shots=5)
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
        compare([a, scored(tmp_path / "b", [(BITS, parts(np.ones(2)))])])
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
        with pytest.raises(DataError, match=rf"{file} is cut short or damaged"):
            compare([a, b])
        (b / file).unlink()
        with pytest.raises(DataError, match=f"b is cut short: it holds no {file}"):
            compare([a, b])
        (b / file).write_bytes(content)
    parquet.write_table(table.slice(0, 2), b / "examples.parquet")
    with pytest.raises(DataError, match=r"holds 2 examples of task 'quiz', where scores.json tells of 3"):
        compare([a, b])
    parquet.write_table(table.drop_columns(["parts"]), b / "examples.parquet")
    with pytest.raises(DataError, match="no column 'parts'"):
        compare([a, b])


def test_scores_that_do_not_follow_from_their_examples_are_refused(tmp_path: Path) -> None:
    a, b = (scored(tmp_path / name, shares([1, 0, 1])) for name in "ab")
    table = parquet.read_table(b / "examples.parquet")
    better = pa.array([[{"metric": "accuracy", "values": [1.0], "weight": 1.0}]] * 3, table.schema.field("parts").type)
    parquet.write_table(table.set_column(table.schema.names.index("parts"), "parts", better), b / "examples.parquet")
    with pytest.raises(DataError, match=r"do not come to the accuracy that scores.json tells"):
        compare([a, b])


def test_predictions_that_are_cut_short_are_refused(tmp_path: Path) -> None:
    a, b = (evaluated(tmp_path / name, [0, 1, 2], [0, 1, 1]) for name in "ab")
    whole = (b / "predictions.jsonl").read_text()
    (b / "predictions.jsonl").write_text(whole[:-30])
    with pytest.raises(DataError, match=r"predictions.jsonl:3: this is no prediction"):
        compare([a, b])
    (b / "predictions.jsonl").write_text("".join(whole.splitlines(keepends=True)[:2]))
    with pytest.raises(DataError, match=r"holds 2 examples, where metrics.json tells of 3"):
        compare([a, b])
    (b / "predictions.jsonl").write_text(whole.replace('"label": "good"', '"label": null'))
    with pytest.raises(DataError, match=r"a.csv:2: None is no label"):
        compare([a, b])
    (b / "predictions.jsonl").write_text(whole)
    (b / "metrics.json").unlink()
    with pytest.raises(DataError, match=r"b is cut short: it holds no metrics.json"):
        compare([a, b])


# What is written.


def test_what_is_written_is_the_comparison_and_a_plot(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    folders = [
        scored(
            tmp_path / f"run ${name}", [*shares(random.integers(0, 2, 30).tolist()), (BITS, parts(random.random(30)))]
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
