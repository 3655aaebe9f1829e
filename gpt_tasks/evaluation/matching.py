"""Find each example of one folder in another, in any order."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence

import numpy as np

from gpt_tasks.errors import DataError
from gpt_tasks.evaluation.saved_results import Identity, SavedResults

LONGEST_ANSWER = 80


def matched(reference: SavedResults, other: SavedResults, task: str) -> np.ndarray:
    """Return for each of the reference's examples of a task the place of the same one in the other folder, `[n]`.

    Equal examples are taken in the order of the files. Raises DataError where the examples are not all the same.
    """
    theirs = other.tasks[task].identities
    places: defaultdict[Identity, deque[int]] = defaultdict(deque)
    for place, identity in enumerate(theirs):
        places[identity].append(place)
    order, unmatched = [], []
    for place, identity in enumerate(reference.tasks[task].identities):
        if places[identity]:
            order.append(places[identity].popleft())
        else:
            unmatched.append(place)
    left = sorted(place for some in places.values() for place in some)
    if unmatched or left:
        raise _differing(reference, other, task, unmatched, left)
    return np.array(order)


def _differing(
    reference: SavedResults, other: SavedResults, task: str, unmatched: Sequence[int], left: Sequence[int]
) -> DataError:
    ours, theirs = reference.tasks[task], other.tasks[task]
    numbers = [
        f"{len(some)} of the {len(kept.tasks[task].where)} in {kept.path}"
        for some, kept in ((unmatched, reference), (left, other))
    ]
    first = ours.where[unmatched[0]] if unmatched else theirs.where[left[0]]
    why = f"only in {(reference if unmatched else other).path}"
    if unmatched:
        identity = ours.identities[unmatched[0]]
        alike = [theirs.identities[place] for place in left if theirs.identities[place].asked == identity.asked]
        if alike:
            why = _why(identity, alike[0])
    told = [kept.settings.get("limit") for kept in (reference, other)]
    hint = "Score or evaluate both on the same examples."
    if told[0] != told[1]:
        limits = " and ".join("no --limit" if limit is None else f"--limit {limit}" for limit in told)
        hint = f"They were scored with {limits}: take the same for both."
    return DataError(
        f"The examples of task '{task}' differ, {numbers[0]} and {numbers[1]}; the first is {first}: {why}", hint
    )


def _why(ours: Identity, theirs: Identity) -> str:
    if ours.target != theirs.target:
        return f"its right answer is {_short(ours.target)} in one and {_short(theirs.target)} in the other"
    return f"its group is {ours.group!r} in one and {theirs.group!r} in the other"


def _short(answer: str | None) -> str:
    return repr(answer if answer is None or len(answer) <= LONGEST_ANSWER else f"{answer[:LONGEST_ANSWER]}\u2026")
