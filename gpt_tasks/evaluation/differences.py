"""What the examples of two folders say of each metric: which test it gets, and its result."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gpt_tasks.errors import GptTasksError
from gpt_tasks.evaluation.saved_results import SavedTask
from gpt_tasks.evaluation.statistics import whole_value
from gpt_tasks.extensions import Metric, Rows
from gpt_tasks.metrics.confusion import FROM_CONFUSION
from gpt_tasks.metrics.intervals import RESAMPLES, drawer, effective_units
from gpt_tasks.metrics.significance import (
    RowStatistic,
    TestResult,
    confusion_differences,
    figure_differences,
    mcnemar,
    resampled,
    result_of_draws,
    unknown,
)


def comparable(ours: SavedTask, theirs: SavedTask, metrics: Mapping[str, Metric]) -> list[str]:
    """Return the shared metrics that follow from what was saved; micro F1 only where accuracy, its equal, is not."""
    found = [
        metric
        for metric in shared(ours.values, theirs.values)
        if (metric in ours.statistics and metric in theirs.statistics)
        or all(_is_of_confusion(metric, task) for task in (ours, theirs))
        or all(_can_be_recomputed(metric, task, metrics) for task in (ours, theirs))
    ]
    return [metric for metric in found if metric != "micro_f1" or "accuracy" not in found]


def shared(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Return the names that both have, in the order of ours."""
    return [name for name in ours if name in theirs]


def tested(
    ours: SavedTask,
    theirs: SavedTask,
    order: np.ndarray,
    names: Sequence[str],
    metrics: Mapping[str, Metric],
    seed: int,
) -> dict[str, TestResult]:
    """Return what the examples say of the metrics of these names; theirs in `order` `[n]` are ours.

    Where ours have clusters, these are what is drawn, and shares too get a bootstrap.
    """
    groups = np.array([identity.group or "" for identity in ours.identities])
    every, group_of = np.unique(groups, return_inverse=True)
    strata = [np.flatnonzero(group_of == group) for group in range(len(every))]
    found: dict[str, TestResult] = {}
    additive = []
    for name in (name for name in names if name in ours.statistics):
        if is_resampled(name, ours, theirs):
            additive.append(name)
        else:
            a, b = ours.statistics[name], theirs.statistics[name]
            found[name] = mcnemar(a.values[:, 0] == 1.0, b.values[order, 0] == 1.0)
    if additive:
        columns = []
        for name in additive:
            for each, places in ((ours.statistics[name], np.arange(len(order))), (theirs.statistics[name], order)):
                columns += [(each.values * each.weights[:, None])[places], each.weights[places, None]]
        rows = np.concatenate(columns, axis=1)
        statistic = figure_differences(
            [(ours.statistics[name].aggregate, ours.statistics[name].values.shape[1]) for name in additive]
        )
        found |= _bootstrapped(ours, theirs, additive, rows, strata, statistic, seed)
    confused = [name for name in names if name not in ours.statistics and _is_of_confusion(name, ours)]
    if confused:
        predicted = [theirs.predictions[place] for place in order.tolist()]
        labels, codes = np.unique([*ours.references, *ours.predictions, *predicted], return_inverse=True)
        triples = codes.reshape(3, -1).T
        statistic = confusion_differences([FROM_CONFUSION[name] for name in confused], len(labels))
        every_row = [np.arange(len(order))]
        found |= _bootstrapped(ours, theirs, confused, triples, every_row, statistic, seed, width=len(labels) ** 2)
    for name in names:
        if name not in found:
            found[name] = _recomputed(metrics[name], ours, theirs, order, seed)
    return found


def is_resampled(name: str, ours: SavedTask, theirs: SavedTask) -> bool:
    """Return whether a metric is compared by a bootstrap, and not by McNemar's test, which is for shares."""
    is_grouped = any(identity.group is not None for identity in ours.identities)
    if is_grouped or ours.clusters is not None or name not in ours.statistics:
        return True
    return not (ours.statistics[name].is_share and theirs.statistics[name].is_share)


def _is_of_confusion(name: str, task: SavedTask) -> bool:
    """Return whether a metric follows from right and predicted labels alone."""
    return name in FROM_CONFUSION and bool(task.labels and task.predictions)


def _can_be_recomputed(name: str, task: SavedTask, metrics: Mapping[str, Metric]) -> bool:
    """Return whether a metric that is not a mean follows from the references and predictions that were saved.

    These are not all that was compared: it does where they come to the figure, but for numbers that were rounded.
    """
    if name not in metrics or metrics[name].whole is None or not task.predictions:
        return False
    try:
        value = whole_value(metrics[name], _rows(task))
    except GptTasksError:
        return False
    both_undefined = math.isnan(value) and math.isnan(task.values[name])
    return both_undefined or math.isclose(value, task.values[name], rel_tol=1e-4, abs_tol=1e-5)


def _rows(task: SavedTask, order: np.ndarray | None = None) -> Rows:
    rows = Rows(task.references, task.predictions, task.labels)
    return rows if order is None else rows.take(order)


def _recomputed(metric: Metric, ours: SavedTask, theirs: SavedTask, order: np.ndarray, seed: int) -> TestResult:
    """Compare a metric that is not a mean by 1,000 paired resamples."""
    a, b = _rows(ours), _rows(theirs, order)
    drawn, units = drawer(len(order), ours.clusters, np.random.default_rng(seed))
    if not units > 1:
        return unknown()
    draws = []
    for _ in range(RESAMPLES):
        chosen = drawn()
        draws.append(whole_value(metric, b.take(chosen)) - whole_value(metric, a.take(chosen)))
    before, value = ours.values[metric.name], theirs.values[metric.name]
    return result_of_draws(value - before, max(abs(value), abs(before)), np.array(draws), units)


def _bootstrapped(
    ours: SavedTask,
    theirs: SavedTask,
    names: Sequence[str],
    rows: np.ndarray,
    strata: Sequence[np.ndarray],
    statistic: RowStatistic,
    seed: int,
    width: int = 1,
) -> dict[str, TestResult]:
    """Compare metrics by a paired bootstrap of `rows` `[n, columns]`, drawn within each stratum of their places."""
    clusters = None
    numbers = [float(len(stratum)) for stratum in strata]
    if ours.clusters is not None:
        clusters = [np.unique(ours.clusters[stratum], return_inverse=True)[1] for stratum in strata]
        numbers = [effective_units(np.bincount(some)) for some in clusters]
    # A single example, or cluster, has no spread: there is no test, as there is no standard error.
    if not min(numbers) > 1:
        return dict.fromkeys(names, unknown())
    draws = resampled([rows[stratum] for stratum in strata], statistic, clusters=clusters, width=width, seed=seed)
    return {
        name: result_of_draws(
            theirs.values[name] - ours.values[name],
            max(abs(theirs.values[name]), abs(ours.values[name])),
            draws[:, place],
            sum(numbers) - len(strata) + 1,
        )
        for place, name in enumerate(names)
    }
