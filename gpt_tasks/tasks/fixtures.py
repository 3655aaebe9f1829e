"""What the conformance kit needs to check a task: rows, right answers, other targets, longer texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from gpt_tasks.types import Example, Row

LONGER = 8
"""So many times longer a text is made."""

SENTENCES = (
    ("The soup was cold and the waiter never came back.", "soup"),
    ("She plays the cello as if nobody were listening.", "cello"),
    ("The train left ten minutes early without a word.", "train"),
    ("A warm and generous film about two brothers.", "film"),
    ("Nothing in this hotel was as it had been promised.", "hotel"),
    ("We walked along the river until the lamps were lit.", "river"),
    ("The museum keeps its best paintings in the cellar.", "museum"),
    ("My neighbour grows tomatoes on a very small balcony.", "tomatoes"),
)
"""Texts, each with a word of it, of which rows are made where a task has no samples."""


@dataclass(frozen=True)
class Fixtures:
    """How checks work on a task; a check that needs what is None is skipped, and says so.

    - `gold(example)`: the prediction of a model that is right.
    - `wrong(example)`: one that is wrong, where the right one of another example could not be given instead.
    - `retarget(row, other, columns)`: the row with another target, `other`'s where it can be; `columns` are those of
      `Task.fields`. None where the task has no target other than the text.
    - `lengthen(example)`: the example with much longer texts and the same target.
    - `row(number)`: the values of a row, where the task has no samples.
    - `target_key(row)`: by what rows are to differ so that a few show all kinds of targets.
    - `target_labels(row)`: the labels that the row has, which must all be known from training.
    - `any_predictions(example)`: odd predictions that must be scored without an error.
    - `learned_texts(example)`: the texts that a model which writes is to learn.
    - `prompt_ending(example)`: the prompt's own words after its last text, which must not be cut off.
    - `room(example, tokenizer)`: so few tokens that the longer example does not fit, and enough for its target.
    """

    gold: Callable[[Example], Any] | None = None
    wrong: Callable[[Example], Any] | None = None
    retarget: Callable[[Row, Row, Mapping[str, str]], Row | None] | None = None
    lengthen: Callable[[Example], Example] | None = None
    row: Callable[[int], Mapping[str, Any]] | None = None
    target_key: Callable[[Row], str] | None = None
    target_labels: Callable[[Row], set[str]] | None = None
    any_predictions: Callable[[Example], list[Any]] | None = None
    learned_texts: Callable[[Example], list[str]] | None = None
    prompt_ending: Callable[[Example], str] | None = None
    room: Callable[[Example, Any], int] | None = None


def longer_inputs(example: Example, *fields: str) -> Example:
    """Return an example of which some texts, by default all, are several times as long."""
    chosen = fields or tuple(example.inputs)
    return replace(
        example,
        inputs={
            field: " ".join([text] * LONGER) if field in chosen else text for field, text in example.inputs.items()
        },
    )


def with_column(row: Row, **values: Any) -> Row:
    """Return a row with other values in some columns."""
    return replace(row, values={**row.values, **values})
