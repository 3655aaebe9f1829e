"""How the answers of a file name a choice: by its text, its letter, or its number from 0 or from 1."""

from __future__ import annotations

import string
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

from gpt_tasks.errors import DataError
from gpt_tasks.tasks.options import option_advice
from gpt_tasks.tasks.reading import as_text, from_cell, whole_number
from gpt_tasks.types import Row

AnswerForm = Literal["text", "letter", "from-0", "from-1"]
FORMS: tuple[AnswerForm, ...] = get_args(AnswerForm)
_SAID = {
    "text": "texts of choices",
    "letter": "letters of choices (and numbers from 1 beside them)",
    "from-0": "numbers of choices from 0",
    "from-1": "numbers of choices from 1",
}


def read_choices(row: Row, column: str) -> tuple[str, ...]:
    """Return the texts of a row's choices. Raises DataError where they are fewer than two, empty, or no list.

    They are a list, or {"text": [...], "label": [...]} as ARC writes them, also as the text of a cell.
    """
    found = _listed(row, column)
    choices: list[Any] = [as_text(choice) for choice in found] if isinstance(found, list | tuple) else [None]
    if not all(isinstance(choice, str) for choice in choices):
        raise DataError(f"{row.where}: column '{column}' holds no list of texts", "Give the choices as a list.")
    if len(choices) < 2:
        raise DataError(f"{row.where}: {len(choices)} choices are too few", "Give at least two.")
    for place, choice in enumerate(choices):
        if not choice.strip():
            raise DataError(f"{row.where}: choice {place} is empty", "Give every choice a text, or leave the row out.")
    return tuple(choices)


def read_answer(row: Row, column: str, choices: Sequence[str], choices_column: str, form: AnswerForm | None) -> int:
    """Return the place of the right choice, from 0; without a form it is a text, else a number from 0, else a letter.

    Raises DataError where the answer names none of the choices.
    """
    places = places_of(row, column, choices, choices_column)
    forms: tuple[AnswerForm, ...] = (form,) if form else ("text", "from-0", "letter")
    place = next((places[each] for each in forms if each in places), None)
    if place is None:
        how = f" (read as {_SAID[form]})" if form else ""
        raise DataError(
            f"{row.where}: the answer (column '{column}') is {row.values.get(column)!r}, none of the {len(choices)} "
            f"choices{how}",
            "An answer is a choice's place, its letter, or its text: one of these in the whole file.",
        )
    return place


def write_answer(place: int, choices: Sequence[str], form: AnswerForm | None) -> str | int:
    """Return the answer that names the choice at a place, from 0, in a form."""
    if form == "text":
        return choices[place]
    if form == "letter":
        return string.ascii_uppercase[place]
    return place + 1 if form == "from-1" else place


def places_of(row: Row, column: str, choices: Sequence[str], choices_column: str) -> dict[AnswerForm, int]:
    """Return which choice, from 0, an answer names by each form that allows it."""
    answer = row.values.get(column)
    text = str(answer).strip()
    own = from_cell(row.values.get(choices_column))
    labels = own.get("label") if isinstance(own, Mapping) else None
    names = [as_text(name) for name in labels] if isinstance(labels, list | tuple) else []
    if len(names) == len(choices) and text in names:
        return dict.fromkeys(FORMS, names.index(text))
    found: dict[AnswerForm, int] = {}
    if isinstance(answer, str) or answer in _listed(row, choices_column):
        stripped = [choice.strip() for choice in choices]
        if text in stripped:
            found["text"] = choices.index(answer) if answer in choices else stripped.index(text)
    number = whole_number(answer)
    letter = string.ascii_uppercase.find(text.upper()) if len(text) == 1 and text.isascii() and text.isalpha() else -1
    named: dict[AnswerForm, int | None] = {
        "from-0": number,
        "from-1": None if number is None else number - 1,
        "letter": letter,
    }
    for form, place in named.items():
        if place is not None and 0 <= place < len(choices):
            found[form] = place
    if number and 1 <= number <= len(choices):
        found["letter"] = number - 1
    return found


def choose_form(
    rows: Iterable[Row], column: str, choices_column: str, before: AnswerForm | None, where: str
) -> AnswerForm | None:
    """Return the form that allows every answer of a file; None where it has no answers.

    Of several that mean the same choices the first is taken; of several that do not, the one `before`, by which the
    training data were read. Rows that cannot be read in any form are ignored: reading them raises the error. Raises
    DataError where no form allows all answers, or where several do and mean other choices.
    """
    excluded: dict[AnswerForm, str] = {}
    differ: dict[tuple[AnswerForm, AnswerForm], str] = {}
    letters = answered = False
    for row in rows:
        try:
            choices = read_choices(row, choices_column)
            places = places_of(row, column, choices, choices_column)
        except DataError:
            continue
        if not places:
            continue
        answered = True
        answer = row.values.get(column)
        letters = letters or ("letter" in places and whole_number(answer) is None)
        for number, form in enumerate(FORMS):
            if form not in places:
                excluded.setdefault(form, f"{row.where} has {str(answer)[:40]!r}")
                continue
            for other in FORMS[number + 1 :]:
                if other in places and places[other] != places[form]:
                    first, second = choices[places[form]][:40], choices[places[other]][:40]
                    differ.setdefault(
                        (form, other), f"{row.where} has {str(answer)[:40]!r}, which is {first!r} or {second!r}"
                    )
    allowed = [form for form in FORMS if form not in excluded and (form != "letter" or letters)]
    if not answered:
        return None
    if not allowed:
        reasons = "; ".join(f"no {_SAID[form]}, as {excluded[form]}" for form in FORMS if form in excluded)
        raise DataError(
            f"{where}: its answers are written in several ways: {reasons}",
            "Write all of them in one way; if some rows are wrong, name that of the others, as in "
            f"{option_advice('answers', 'from-0')}.",
        )
    clash = next((differ[allowed[0], other] for other in allowed[1:] if (allowed[0], other) in differ), None)
    if clash is None:
        return allowed[0]
    if before in allowed:
        return before
    raise DataError(
        f"{where}: its answers can be read as {' and as '.join(_SAID[form] for form in allowed)}: {clash}",
        f"Say which it is ({' or '.join(allowed)}): {option_advice('answers', allowed[0])}.",
    )


def _listed(row: Row, column: str) -> Any:
    value = from_cell(row.values.get(column))
    return value.get("text") if isinstance(value, Mapping) else value
