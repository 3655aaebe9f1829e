"""Entities as they are answered, told in targets, written as tags of words, and marked in a text."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gpt_tasks_plugins.ner.spans import Span


@dataclass(frozen=True, slots=True)
class Entity:
    """A stretch of a text, its type, and the probability of its least certain word."""

    start: int
    end: int
    type: str
    text: str
    probability: float = 1.0


@dataclass(frozen=True, slots=True)
class Entities:
    """All entities of a text, and the probability of its least certain word, that of a word of no entity included.

    A model that wrote them as lines has no probability: `readable` of its `lines` were of use.
    """

    entities: tuple[Entity, ...]
    readable: int = 0
    lines: int = 0
    probability: float | None = None


def spans_of(target: str | None) -> list[Span]:
    """Return the spans of a target."""
    return [Span(*span) for span in json.loads(target)[0]] if target else []


def tags_of(words: Sequence[tuple[int, int]], spans: Iterable[Span]) -> list[str]:
    """Return the BIO tag of each word."""
    tags, by_start = ["O"] * len(words), {span.start: span for span in spans}
    current: Span | None = None
    for place, (start, end) in enumerate(words):
        if start in by_start:
            current = by_start[start]
            tags[place] = f"B-{current.type}"
        elif current is not None and end <= current.end:
            tags[place] = f"I-{current.type}"
    return tags


def marked(text: str, entities: Iterable[Entity], *, probabilities: bool = False) -> str:
    """Return a text in which entities are in brackets, with their type behind a bar."""
    parts, place = [], 0
    for each in sorted(entities, key=lambda entity: entity.start):
        sure = f" {each.probability:.0%}" if probabilities else ""
        parts += [text[place : each.start], f"[{text[each.start : each.end]}|{each.type}{sure}]"]
        place = each.end
    return "".join([*parts, text[place:]])
