"""What the examples of two folders say of each metric: which test it gets, and what that comes to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gpt_tasks.evaluation.kept import KeptTask
from gpt_tasks.evaluation.paired import (
    Evidence,
    Statistic,
    confusion_differences,
    evidence,
    figure_differences,
    mcnemar,
    resampled,
    unknown,
)
from gpt_tasks.metrics.classification import macro_f1, mcc
from gpt_tasks.metrics.intervals import FROM_CONFUSION

_CONFUSION = {"macro_f1": FROM_CONFUSION[macro_f1], "mcc": FROM_CONFUSION[mcc]}


def comparable(ours: KeptTask, theirs: KeptTask) -> list[str]:
    """Return the shared metrics that follow from what was kept; micro F1 only where accuracy, its equal, is not."""
    found = [
        metric
        for metric in shared(ours.values, theirs.values)
        if (metric in ours.parts and metric in theirs.parts) or (metric in _CONFUSION and ours.predictions)
    ]
    return [metric for metric in found if metric != "micro_f1" or "accuracy" not in found]


def shared(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Return the names that both have, in the order of ours."""
    return [name for name in ours if name in theirs]


def tested(
    ours: KeptTask, theirs: KeptTask, order: np.ndarray, metrics: Sequence[str], seed: int
) -> dict[str, Evidence]:
    """Return what the examples say of each metric; theirs in `order` `[n]` are ours."""
    groups = np.array([identity.group or "" for identity in ours.identities])
    names, group_of = np.unique(groups, return_inverse=True)
    strata = [np.flatnonzero(group_of == group) for group in range(len(names))]
    found: dict[str, Evidence] = {}
    means = []
    for metric in (metric for metric in metrics if metric in ours.parts):
        a, b = ours.parts[metric], theirs.parts[metric]
        if len(names) == 1 and ours.identities[0].group is None and a.is_share and b.is_share:
            found[metric] = mcnemar(a.values[:, 0] == 1.0, b.values[order, 0] == 1.0)
        else:
            means.append(metric)
    if means:
        columns = []
        for metric in means:
            for parts, places in ((ours.parts[metric], np.arange(len(order))), (theirs.parts[metric], order)):
                columns += [(parts.values * parts.weights[:, None])[places], parts.weights[places, None]]
        rows = np.concatenate(columns, axis=1)
        statistic = figure_differences(
            [(ours.parts[metric].form, ours.parts[metric].values.shape[1]) for metric in means]
        )
        found |= _bootstrapped(ours, theirs, means, [rows[stratum] for stratum in strata], statistic, seed)
    confused = [metric for metric in metrics if metric in _CONFUSION and metric not in ours.parts]
    if confused:
        predicted = [theirs.predictions[place] for place in order.tolist()]
        labels, codes = np.unique([*ours.references, *ours.predictions, *predicted], return_inverse=True)
        triples = codes.reshape(3, -1).T
        statistic = confusion_differences([_CONFUSION[metric] for metric in confused], len(labels))
        found |= _bootstrapped(ours, theirs, confused, [triples], statistic, seed, width=len(labels) ** 2)
    return found


def _bootstrapped(
    ours: KeptTask,
    theirs: KeptTask,
    metrics: Sequence[str],
    strata: Sequence[np.ndarray],
    statistic: Statistic,
    seed: int,
    width: int = 1,
) -> dict[str, Evidence]:
    # One example by itself has no spread: nothing can be told, as of its standard error.
    if min(map(len, strata)) < 2:
        return dict.fromkeys(metrics, unknown())
    draws = resampled(strata, statistic, width=width, seed=seed)
    n = sum(map(len, strata))
    return {
        metric: evidence(
            theirs.values[metric] - ours.values[metric],
            max(abs(theirs.values[metric]), abs(ours.values[metric])),
            draws[:, place],
            n,
        )
        for place, metric in enumerate(metrics)
    }
