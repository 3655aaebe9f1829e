"""The few-shot examples of a document: drawn by a seed, anew for each document or once for all, or the most similar."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from random import Random
from typing import TYPE_CHECKING, Any, Literal

from gpt_tasks.errors import DataError
from gpt_tasks.types import Example
from gpt_tasks.words import is_unspaced

if TYPE_CHECKING:
    import numpy as np

Sampler = Literal["random", "fixed", "similar"]
DEFAULT_SEED = 1234
"""lm-evaluation-harness's own."""


def shots_for(
    pool: Sequence[Example], count: int, *, own: bool, sampler: Sampler, seed: int
) -> Callable[[Example], list[Example]]:
    """Return a function that gives the shots of an example; call it for one example after another, in their order.

    A shot never has the same texts as the example, whatever split it is from. `own` says that the pool is the scored
    split. `random` draws the same examples as lm-evaluation-harness 0.4.13 for the same seed, `fixed` draws once;
    `similar` takes those whose texts are nearest by the cosine of their TF-IDF, the nearest last (Liu et al. 2022, What
    makes good in-context examples for GPT-3?). Raises DataError where the pool is too small.
    """
    if not count:
        return lambda example: []
    if len(pool) < count + own:
        source = f"{pool[0].where.rpartition(':')[0] or pool[0].where}: " if pool else ""
        raise DataError(
            f"{source}{len(pool)} examples are too few to draw {count} shots from",
            "Lower --shots, or give more examples.",
        )
    if sampler == "similar":
        nearest = _Nearest(pool)
        return lambda example: _enough([*islice(_others(nearest.of(example), example), count)], example, count)[::-1]
    random = Random(seed)
    once = random.sample(pool, count + own) if sampler == "fixed" else []

    def shots(example: Example) -> list[Example]:
        kept = [*islice(_others(once or random.sample(pool, count + own), example), count)]
        if len(kept) == count:
            return kept
        others = _enough([*_others(pool, example)], example, count)
        return others[:count] if once else random.sample(others, count)

    return shots


def _others(pool: Iterable[Example], example: Example) -> Iterator[Example]:
    """Yield those of a pool that have other texts than an example."""
    from gpt_tasks.data.examples import same_texts

    return (shot for shot in pool if not same_texts(shot, example))


def _enough(found: list[Example], example: Example, count: int) -> list[Example]:
    """Return the shots that were found for an example. Raises DataError for fewer than `count`."""
    if len(found) < count:
        raise DataError(
            f"{example.where}: {len(found)} examples with other texts are too few to draw {count} shots from",
            "Lower --shots, or give more examples: one is never shown the text that it is asked about.",
        )
    return found


class _Nearest:
    """Examples in the order of how similar their texts are to another's: words, or characters where none has spaces."""

    def __init__(self, pool: Sequence[Example]) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        self._pool = pool
        texts = [_text(example) for example in pool]
        unspaced = is_unspaced("".join(texts[:1_000]))
        kind: dict[str, Any] = {"analyzer": "char", "ngram_range": (1, 3)} if unspaced else {"token_pattern": r"\w+"}
        self._vectorizer = TfidfVectorizer(sublinear_tf=True, **kind)
        try:
            self._vectors = self._vectorizer.fit_transform(texts)
        except ValueError:  # no text has a word
            self._vectors = None

    def of(self, example: Example) -> Iterable[Example]:
        """Yield the examples, the most similar first; those that are equally so in their own order."""
        if self._vectors is None:
            return iter(self._pool)
        import numpy as np

        alike: np.ndarray = (self._vectors @ self._vectorizer.transform([_text(example)]).T).toarray()[:, 0]
        return (self._pool[place] for place in np.argsort(-alike, kind="stable"))


def _text(example: Example) -> str:
    return "\n".join((*example.inputs.values(), *example.choices))
