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
    pool: Sequence[Example], count: int, *, own: bool, sampler: Sampler, seed: int
) -> Callable[[Example], list[Example]]:
    """Return a function that gives the shots of an example; call it for one example after another, in their order.

    A shot never has the same texts as the example, whatever split it is from. `own` says that the pool is the scored
    split. `random` draws the same examples as lm-evaluation-harness 0.4.13 for the same seed, `fixed` draws once.
    Raises DataError where the pool is too small.
    """
    if not count:
        return lambda example: []
    if len(pool) < count + own:
        raise DataError(
            f"{len(pool)} examples are too few to draw {count} shots from", "Lower --shots, or give more examples."
        )
    from gpt_tasks.data.examples import same_texts

    random = Random(seed)
    once = random.sample(pool, count + own) if sampler == "fixed" else []

    def shots(example: Example) -> list[Example]:
        drawn = once or random.sample(pool, count + own)
        kept = [shot for shot in drawn if not same_texts(shot, example)][:count]
        if len(kept) == count:
            return kept
        others = [shot for shot in pool if not same_texts(shot, example)]
        if len(others) < count:
            raise DataError(
                f"{example.where}: {len(others)} other examples are too few to draw {count} shots from",
                "Lower --shots, or give more examples.",
            )
        return others[:count] if once else random.sample(others, count)

    return shots
