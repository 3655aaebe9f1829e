"""The right answers of a question and their positions in its context: read, checked, and corrected."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gpt_tasks.errors import DataError
from gpt_tasks.tasks.reading import from_cell, truth_value, whole_number
from gpt_tasks.types import Row

QUESTION, CONTEXT = "question", "context"
UNPLACED = -1
"""The start of an answer whose position the data do not give."""
MOST_MISPLACED = 0.05
"""The share of a training set's answers that may be elsewhere than the data say."""
_MOST_NAMED = 3
_FORMS = 'Give {"text": [...], "answer_start": [...]}, a list of {"text": ..., "answer_start": ...}, or texts alone.'


@dataclass(frozen=True, slots=True)
class Span:
    """A span of a context: its text, and the position of its first character."""

    text: str
    start: int = UNPLACED

    @property
    def end(self) -> int:
        """The position after its last character."""
        return self.start + len(self.text)


def read_answers(row: Row, column: str, impossible: str | None = None) -> tuple[Span, ...]:
    """Return the right answers in a row's column; none where the question has no answer.

    They come as parallel lists, {"text": [...], "answer_start": [...]}, or as a list of objects, as in SQuAD's own
    file, or as texts alone, where the data do not give their position; any of these also as JSON in a cell of text.
    `impossible` names the column that says of a question that it has no answer. Raises DataError, naming the row, for
    anything else, for an answer of only white space, and where the two columns contradict each other.
    """
    value = from_cell(row.values.get(column))
    unanswerable = _flag(row, impossible)
    if value in (None, "") and unanswerable:
        return ()
    answers = tuple(_span(row, column, text, start) for text, start in _pairs(row, column, value))
    if unanswerable is not None and unanswerable == bool(answers):
        found = f"an answer: {answers[0].text[:60]}" if answers else "none"
        raise DataError(
            f"{row.where}: '{impossible}' is {str(unanswerable).lower()}, and '{column}' holds {found}",
            "Fix one of the two.",
        )
    return answers


@dataclass(slots=True)
class Placement:
    """Corrects the positions of the answers of training data, and counts those that were wrong.

    An answer that is `moved` occurs at exactly one place of its context, but not at the given one; one that is `lost`
    occurs at none, or at several others. The first three of either are `named`. An answer without a given position is
    placed where its context holds it exactly once, and else `lost`.
    """

    answers: int = 0
    moved: int = 0
    lost: int = 0
    named: list[str] = field(default_factory=list)

    def place(self, answer: Span, context: str, where: str) -> Span | None:
        """Return an answer at its position in its context, or None where that is unknown."""
        self.answers += 1
        if answer.start >= 0 and context.startswith(answer.text, answer.start):
            return answer
        first = context.find(answer.text)
        is_once = first >= 0 and context.find(answer.text, first + 1) < 0
        if not is_once or answer.start != UNPLACED:
            if len(self.named) < _MOST_NAMED:
                self.named.append(where)
            self.moved += is_once
            self.lost += not is_once
        return replace(answer, start=first) if is_once else None

    def check(self, name: str) -> None:
        """Raise DataError where the data called `name` held no answer, or too many were elsewhere than the data say."""
        if not self.answers:
            raise DataError(
                f"{name}: not one question has an answer", "There is nothing to learn from: give data with answers."
            )
        if self.moved + self.lost > MOST_MISPLACED * self.answers:
            raise DataError(
                f"{name}: {self.moved + self.lost} of {self.answers} answers are not in their context where "
                f"answer_start says ({self._names()})",
                "An answer is copied from its context, and answer_start counts the characters before it, from 0.",
            )

    @property
    def note(self) -> str:
        """A note about the answers that were elsewhere, or an empty text."""
        if not self.named:
            return ""
        done = [f"{self.moved} moved to the one place where they occur"] if self.moved else []
        done += [f"{self.lost} left out, which occur nowhere or at several places"] if self.lost else []
        whole = self.moved + self.lost
        return f"{whole} of {self.answers} answers are not where they should be: {', '.join(done)} ({self._names()})."

    def _names(self) -> str:
        more = self.moved + self.lost > len(self.named)
        return ", ".join(self.named) + (" and others" if more else "")


def _flag(row: Row, column: str | None) -> bool | None:
    value = None if column is None else row.values.get(column)
    if value in (None, ""):
        return None
    flag = truth_value(value)
    if flag is None:
        raise DataError(
            f"{row.where}: column '{column}' holds {value!r}, neither true nor false",
            "Say true of a question without an answer, false of others.",
        )
    return flag


def _pairs(row: Row, column: str, value: Any) -> Iterable[tuple[Any, Any]]:
    """Return texts and starts, of any type."""
    if isinstance(value, Mapping) and not _is_list(value.get("text")):
        value = [value]
    if isinstance(value, Mapping):
        texts, starts = value["text"], value.get("answer_start")
        starts = [None] * len(texts) if starts is None else starts
        if _is_list(starts) and len(starts) == len(texts):
            return zip(texts, starts, strict=True)
        numbers = f"{len(texts)} texts and {len(starts) if _is_list(starts) else 'no list of'} starts"
        raise DataError(f"{row.where}: column '{column}' holds {numbers}", _FORMS)
    if _is_list(value) and all(isinstance(each, Mapping) for each in value):
        return [(each.get("text"), each.get("answer_start")) for each in value]
    if isinstance(value, str) or (_is_list(value) and all(isinstance(each, str) for each in value)):
        return [(text, None) for text in ([value] if isinstance(value, str) else value)]
    if value is None:
        raise DataError(f"{row.where}: column '{column}' is missing", _FORMS)
    raise DataError(
        f"{row.where}: column '{column}' holds a {type(value).__name__}, not answers: {str(value)[:60]}", _FORMS
    )


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _span(row: Row, column: str, text: Any, start: Any) -> Span:
    if not isinstance(text, str):
        found = "is missing" if text is None else f"is a {type(text).__name__}, not a text: {str(text)[:60]}"
        raise DataError(f"{row.where}: the text of an answer (column '{column}') {found}", _FORMS)
    if not text.strip():
        raise DataError(
            f"{row.where}: an answer (column '{column}') is empty",
            "Give a question that has no answer an empty list of answers.",
        )
    if start is None or start == "":
        return Span(text)
    place = whole_number(start)
    if place is None:
        raise DataError(
            f"{row.where}: the answer_start of '{text[:60]}' (column '{column}') is {start!r}, not a whole number",
            "It counts the characters of the context before the answer.",
        )
    return Span(text, place)
