"""Probabilities of labels: from log-likelihoods, as JSON, and those that a line of a file holds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

MOST_IN_A_LINE = 100


def labels_to_json(predicted: Any, probabilities: Mapping[str, float]) -> dict[str, Any]:
    """Return what was predicted with the probability of every label, to six digits: the most probable first."""
    ranked = sorted(probabilities.items(), key=lambda item: -item[1])
    return {"predicted": predicted, "probabilities": {label: round(p, 6) for label, p in ranked}}


def most_probable(said: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `labels_to_json` says, with the probabilities of 100 labels at most: a line of a file is for people.

    A file of all, of a thousand labels and a hundred thousand examples, would take 2.4 GB.
    """
    probabilities = said.get("probabilities", {})
    if len(probabilities) <= MOST_IN_A_LINE:
        return dict(said)
    return {**said, "probabilities": dict(islice(probabilities.items(), MOST_IN_A_LINE))}


def softmax(values: Sequence[float]) -> list[float]:
    """Return probabilities that are proportional to the exponentials of `values`."""
    import numpy
    from scipy import special

    if max(values) == -math.inf:
        return [1 / len(values)] * len(values)
    probabilities: list[float] = special.softmax(numpy.array(values, dtype=numpy.float64)).tolist()
    return probabilities
