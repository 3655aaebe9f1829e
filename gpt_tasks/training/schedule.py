"""How the learning rate goes over a training: up from above 0, then down to 0."""

from __future__ import annotations

import math
from typing import Literal

Decay = Literal["linear", "cosine"]


def rate_at(step: int, *, warmup: int, updates: int, decay: Decay) -> float:
    """Return the share of the learning rate that an update has, of `updates` that are counted from 0.

    It rises by equal steps over the first `warmup` updates, from 1 / (warmup + 1), to the whole rate of the next one:
    an update at rate 0 would learn nothing. From there it falls to 0, along a line or half a cosine.
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    rest = max(1, updates - warmup)
    if decay == "linear":
        return max(0.0, (updates - step) / rest)
    return max(0.0, 0.5 * (1.0 + math.cos(math.pi * ((step - warmup) / rest))))
