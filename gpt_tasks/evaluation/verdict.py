"""Whether a model is worth having: what it says last of all where it is no better than its baselines."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from gpt_tasks.evaluation.statistics import Tally
from gpt_tasks.evaluation.tables import baseline_name, interval, number
from gpt_tasks.metrics.figures import difference_interval
from gpt_tasks.types import Score

FEW_UPDATES = 100
COUNTS_WEIGHT = "counts_weight"
"""The figure of a training that says how far counted words are trusted; it is there where they answer, too."""
_COUNTING = "tfidf"


def verdict(
    tally: Tally,
    figures: Mapping[str, Score],
    baselines: Mapping[str, Tally],
    compared: Mapping[str, Mapping[str, Score]],
    clusters: np.ndarray | None,
    training: Mapping[str, object],
) -> str:
    """Return that a model is no better than the best of its baselines, and what to try.

    It goes by the first metric that baselines have; `figures` are the model's, `compared` those of the baselines. Empty
    where the model is better than all of them, by the interval of the paired difference; of a metric that is not
    additive, by the interval of the model's own figure.
    """
    shared = {name for of in compared.values() for name in of} & figures.keys()
    metric = next((metric for metric in tally.metrics if metric.name in shared), None)
    if metric is None:
        return ""
    ours, sign = figures[metric.name], 1.0 if metric.better == "higher" else -1.0
    unbeaten: list[tuple[float, str]] = []
    for name, theirs in baselines.items():
        if metric.name not in compared[name]:
            continue
        value = compared[name][metric.name].value
        bounds = ours.low - value, ours.high - value
        if metric.whole is None:
            a, b = (each.statistics()[metric.name] for each in (theirs, tally))
            bounds = difference_interval(metric, a, b, clusters)
        nearest = min(sign * bound for bound in bounds)
        if not math.isfinite(nearest):
            nearest = sign * (ours.value - value)
        if nearest <= 0:
            unbeaten.append((sign * value, name))
    if not unbeaten:
        return ""
    best, name = max(unbeaten)
    advice = _advice(training, name)
    if ours.value == metric.best:
        advice = "Nothing could be: more test rows, or harder ones, would tell them apart."
    return (
        f"The model is no better than its baseline ({baseline_name(name)}): {metric.name} "
        f"{number(ours.value)} {interval(ours)} against {number(sign * best)}. {advice}"
    )


def _advice(training: Mapping[str, object], best: str) -> str:
    updates = training.get("updates")
    if updates is None:
        return "Try --shots, --calibrate or another --question, another model, or fine-tune one (gpt-tasks finetune)."
    if isinstance(updates, int) and 0 < updates < FEW_UPDATES:
        count = f"{updates} update{'s' if updates > 1 else ''}"
        return f"It had {count}: try more --epochs; then a larger --backbone, another --method, or more data."
    if updates is not None and best.startswith(_COUNTING) and COUNTS_WEIGHT not in training:
        method = "full" if updates else "head"
        return f"Try --method {method}+counts, which answers by both; or a larger --backbone, or more data."
    if updates == 0:
        return "Try --method lora or full, a larger --backbone, or more data."
    return "Try a larger --backbone, another --method or --learning-rate, more --epochs, or more data."
