"""Entities as stretches of a text: read from tags of words or from exports of annotation tools, and checked."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from gpt_tasks import DataError, Example, Row, from_cell

# A run of letters, digits and marks is a word; so is any other character, and each Chinese or Japanese one.
_UNSPACED = r"\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_WORD = rf"(?V1)[{_UNSPACED}]\p{{M}}*|[[\p{{L}}\p{{M}}\p{{N}}_]--[{_UNSPACED}]]+|\S"
_PREFIXES = "BIOESLU"
_SHAPE = 'Give spans as {"start": 0, "end": 5, "label": "PER"}, in characters, or as [0, 5, "PER"].'


class Span(NamedTuple):
    """The characters [start, end) of a text, and the type of the entity that they name."""

    start: int
    end: int
    type: str


def words_of(text: str) -> list[tuple[int, int]]:
    """Return the characters [start, end) of each word of a text."""
    # Imported here, because commands that read no entities should not wait for it.
    import regex

    return [word.span() for word in regex.finditer(_WORD, text)]


def text_of_tokens(row: Row, column: str) -> tuple[str, list[tuple[int, int]]]:
    """Return tokens joined by spaces, and the characters of each. Raises DataError where they are no list of texts."""
    tokens = from_cell(row.values.get(column))
    if not isinstance(tokens, Sequence) or isinstance(tokens, str) or not all(isinstance(each, str) for each in tokens):
        raise DataError(f"{row.where}: column '{column}' holds no list of words", "Give the words as a list of texts.")
    places, start = [], 0
    for token in tokens:
        places.append((start, start + len(token)))
        start += len(token) + 1
    return " ".join(tokens), places


def spans_of_tags(row: Row, column: str, places: Sequence[tuple[int, int]]) -> tuple[list[Span], int]:
    """Return the spans that BIO, IOBES or BILOU tags name, and how many began with I- after another tag.

    Those begin an entity, as the field reads them. Raises DataError for what is no tag, and for another number of them.
    """
    tags = from_cell(row.values.get(column))
    if not isinstance(tags, Sequence) or isinstance(tags, str) or len(tags) != len(places):
        number = len(tags) if isinstance(tags, Sequence) and not isinstance(tags, str) else "no list of"
        raise DataError(
            f"{row.where}: {number} tags (column '{column}') for {len(places)} words", "Give each word one."
        )
    spans: list[Span] = []
    repaired = 0
    open_type = ""
    for tag, (start, end) in zip(tags, places, strict=True):
        prefix, _, kind = str(tag).partition("-")
        if not isinstance(tag, str) or prefix not in _PREFIXES or (prefix == "O") == bool(kind):
            raise DataError(
                f"{row.where}: {tag!r} (column '{column}') is no tag", "Tags are O, B-TYPE, I-TYPE, E-TYPE, S-TYPE."
            )
        if prefix in "IEL" and kind == open_type:
            spans[-1] = spans[-1]._replace(end=end)
        elif prefix != "O":
            repaired += prefix in "IEL"
            spans.append(Span(start, end, kind))
        open_type = kind if prefix in "BI" else ""
    return spans, repaired


def spans_of_export(row: Row, column: str, text: str) -> list[Span]:
    """Return the spans in a row's column: of objects, of lists, or of Label Studio's annotations.

    Raises DataError, naming the row, where nobody annotated it, and for a span that lies outside of the text or
    overlaps another.
    """
    found = _listed(row, column)
    if found is None:
        raise DataError(
            f"{row.where}: the spans (column '{column}') are missing",
            "Annotate the row, or leave it out; an empty list says that there is no entity.",
        )
    spans = sorted(_span(row, each) for each in found)
    for before, span in zip([Span(0, 0, ""), *spans], spans, strict=False):
        if not 0 <= span.start < span.end <= len(text):
            raise DataError(
                f"{row.where}: the span {span.start} to {span.end} ({span.type}) lies outside of the text of "
                f"{len(text)} characters",
                _SHAPE,
            )
        if span.start < before.end:
            raise DataError(
                f"{row.where}: the spans {text[before.start : before.end][:40]!r} and "
                f"{text[span.start : span.end][:40]!r} overlap",
                "Leave one of them out.",
            )
    return spans


def counted(before: tuple[int, int], examples: Sequence[Example]) -> tuple[int, int]:
    """Add how many entities of examples were repaired, and how many of their spans were left out."""
    counts = [json.loads(each.target)[1:] for each in examples if each.target]
    return before[0] + sum(repaired for repaired, _ in counts), before[1] + sum(dropped for _, dropped in counts)


def notes_of(counts: tuple[int, int], data: str) -> tuple[str, ...]:
    """Return what users should know of what was counted."""
    repaired, dropped = counts
    notes = [f"{repaired:,} entities of {data} begin with I-, and were read as if it were B-."] if repaired else []
    return (*notes, f"{dropped:,} spans of {data} cut a word and were left out.") if dropped else tuple(notes)


def _listed(row: Row, column: str) -> Iterable[Any] | None:
    """Return the spans of a row, None where there was no annotator.

    Of Label Studio's annotations they are those of the first that was not cancelled; its JSON-MIN has no column for a
    text in which nothing was marked.
    """
    value = from_cell(row.values.get(column))
    if value is None or (isinstance(value, str) and not value.strip()):
        return [] if "annotation_id" in row.values else None
    items = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    annotations = [each for each in items if isinstance(each, Mapping) and "result" in each]
    if annotations or (not items and isinstance(row.values.get("data"), Mapping)):
        chosen = next((each for each in annotations if not each.get("was_cancelled")), None)
        if chosen is None:
            return None
        values = [each.get("value") for each in chosen["result"] or () if isinstance(each, Mapping)]
        return [value for value in values if isinstance(value, Mapping) and "labels" in value]
    return items


def _span(row: Row, value: Any) -> Span:
    if isinstance(value, Mapping):
        label = value.get("label", value.get("type", value.get("labels")))
        label = label[0] if isinstance(label, list) and label else label
        found = [value.get("start", value.get("start_offset")), value.get("end", value.get("end_offset")), label]
    else:
        found = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else []
    # Where some rows have none, pandas makes fractions of whole numbers.
    found = [int(each) if isinstance(each, float) and each.is_integer() else each for each in found]
    if len(found) != 3 or not all(isinstance(place, int) for place in found[:2]) or not isinstance(found[2], str):
        raise DataError(f"{row.where}: {str(value)[:80]} is no span", _SHAPE)
    return Span(*found)
