"""Examples that belong together, as questions on one text do: their clusters, and texts that repeat unnoticed."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Mapping
from typing import TYPE_CHECKING

from gpt_tasks.errors import DataError
from gpt_tasks.types import Example

if TYPE_CHECKING:
    import numpy

# Fewer than this share of the examples, sharing a text, change no interval that anybody would notice.
LEAST_REPEATED = 0.01


class Clustering:
    """The clusters of an evaluation's examples, by a column or field; without one, what texts they share unnoticed.

    Where the user `asked` for the clusters, a note says so if they change nothing.
    """

    def __init__(self, cluster: str | None, *, asked: bool = True) -> None:
        self.cluster = cluster
        self._asked = asked
        self._clusters = Clusters()
        self._texts = Texts()
        self._examples = 0

    def add(self, example: Example) -> int | None:
        """Take the next example, and return its cluster's number. Raises DataError where it has no such column."""
        self._examples += 1
        if self.cluster is None:
            self._texts.add(example.inputs)
            return None
        return self._clusters.add(cluster_value(example, self.cluster))

    @property
    def numbers(self) -> numpy.ndarray | None:
        """The cluster of each example, `[n]`; None where no two examples are of one."""
        return self._clusters.numbers if 0 < len(self._clusters) < self._examples else None

    def note(self, advice: str) -> str | None:
        """Return what to tell of the intervals; `advice` is what to do where texts repeat, with `{field}` in it."""
        if self.cluster is None:
            return self._texts.note(advice)
        useless = useless_clusters(self.cluster, len(self._clusters), self._examples, self._clusters.empty)
        if useless is not None:
            return useless if self._asked or self.numbers is not None else None
        return f"Standard errors and intervals go by {len(self._clusters):,} clusters of '{self.cluster}'."


class Clusters:
    """Numbers of clusters, from 0 on in the order in which they are met; an empty value is a separate cluster."""

    def __init__(self) -> None:
        self._numbers: dict[bytes | int, int] = {}
        self._of = array("q")
        self.empty = 0

    def add(self, value: str) -> int:
        """Take the next example's value, and return its cluster's number."""
        self.empty += not value
        key = _digest(value) if value else len(self._of)
        number = self._numbers.setdefault(key, len(self._numbers))
        self._of.append(number)
        return number

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def numbers(self) -> numpy.ndarray:
        """The cluster of each example, `[n]`."""
        import numpy

        return numpy.array(self._of, dtype=numpy.int64)


class Texts:
    """The inputs of examples by field, as digests of eight bytes: which are equal, and what to tell of that."""

    def __init__(self) -> None:
        self._digests: dict[str, array[int]] = {}
        self._characters: dict[str, int] = {}

    def add(self, inputs: Mapping[str, str]) -> None:
        """Take the next example's texts by field."""
        for field, text in inputs.items():
            digest = int.from_bytes(_digest(text)[:8], signed=True)
            self._digests.setdefault(field, array("q")).append(digest)
            self._characters[field] = self._characters.get(field, 0) + len(text)

    @property
    def fields(self) -> list[str]:
        """The fields that there are."""
        return list(self._digests)

    def clusters(self, field: str) -> numpy.ndarray:
        """Return the clusters of examples with equal texts in a field, `[n]` numbers from 0 on."""
        import numpy

        return numpy.unique(numpy.array(self._digests[field], dtype=numpy.int64), return_inverse=True)[1]

    def note(self, advice: str) -> str | None:
        """Return what to tell where the examples' longest text, or one half as long, repeats, and `advice`.

        A text that all examples have in common makes no clusters.
        """
        import numpy

        longest = max(self._characters.values(), default=0)
        found: list[tuple[int, int, str]] = []
        for field, digests in self._digests.items():
            counts = numpy.bincount(self.clusters(field))
            shared = int(counts[counts > 1].sum())
            if 2 * self._characters[field] >= longest and len(counts) > 1 and shared >= LEAST_REPEATED * len(digests):
                found.append((shared, len(digests), field))
        shared, n, field = max(found, default=(0, 0, ""))
        if not shared:
            return None
        return (
            f"{shared:,} of {n:,} examples share their {field} with others; intervals take them as independent. "
            + advice.format(field=field)
        )


def useless_clusters(column: str, clusters: int, examples: int, empty: int = 0) -> str | None:
    """Return why so many clusters of examples by a column say nothing, if that is so; `empty` values are by themselves.

    None where there are several, one of them of several examples.
    """
    if examples > 1 and clusters == 1:
        return (
            f"All {examples:,} examples have the same '{column}': one cluster does not show how much figures vary, so "
            "that intervals are as wide as can be, or none."
        )
    if clusters < examples:
        return None
    why = f"'{column}' is empty everywhere" if empty == examples else f"No two examples have the same '{column}'"
    return f"{why}: errors and intervals are as without --cluster."


def cluster_value(example: Example, cluster: str) -> str:
    """Return what an example has in the column, or the field, by which examples belong together.

    Raises DataError where it has neither.
    """
    for values in (example.extra, example.inputs):
        if cluster in values:
            return values[cluster]
    known = ", ".join([*example.extra, *example.inputs])
    raise DataError(f"{example.where}: nothing here is called '{cluster}'; there is {known}", "Give --cluster another.")


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
