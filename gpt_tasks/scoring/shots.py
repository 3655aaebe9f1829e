"""The few-shot examples of a document: drawn by a seed, anew for each document or once for all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Literal

from gpt_tasks.errors import DataError
from gpt_tasks.types import Example

Sampler = Literal["random", "fixed"]
DEFAULT_SEED = 1234
"""lm-evaluation-harness's own."""


def shots_for(
    examples: Sequence[Example], pool: Sequence[Example], count: int, *, own: bool, sampler: Sampler, seed: int
) -> Callable[[int], list[Example]]:
    """Return a function that gives the shots of the example at a place; call it for one place after another.

    `own` says that the pool is the scored split: an example is never among its own shots. `random` draws the same
    examples as lm-evaluation-harness 0.4.13 for the same seed, `fixed` draws once. Raises DataError where the pool is
    too small.
    """
    if not count:
        return lambda place: []
    if len(pool) < count + own:
        raise DataError(
            f"{len(pool)} examples are too few to draw {count} shots from", "Lower --shots, or give more examples."
        )
    random = Random(seed)
    once = random.sample(pool, count + own) if sampler == "fixed" else []

    def shots(place: int) -> list[Example]:
        drawn = once or random.sample(pool, count + own)
        if not own:
            return drawn
        kept = [shot for shot in drawn if not _same(shot, examples[place])][:count]
        if len(kept) == count:
            return kept
        others = [shot for shot in pool if not _same(shot, examples[place])]
        if len(others) < count:
            raise DataError(
                f"{examples[place].where}: {len(others)} other examples are too few to draw {count} shots from",
                "Lower --shots, or give more examples.",
            )
        return others[:count] if once else random.sample(others, count)

    return shots


def _same(one: Example, other: Example) -> bool:
    return (one.inputs, one.choices, one.target) == (other.inputs, other.choices, other.target)
