"""From words to tokens and back: where a word ends among tokens, the likeliest tags, and names found in a text."""

from collections.abc import Mapping, Sequence

import numpy as np

from gpt_tasks_plugins.ner.entities import Entity
from gpt_tasks_plugins.ner.spans import Span, words_of


def words_and_tokens(text: str, offsets: Sequence[tuple[int, int]]) -> tuple[list[tuple[int, int]], list[int]]:
    """Return the words of a text, and the index of the last token of each, by the characters of the tokens.

    Words that end within the same token are one.
    """
    words: list[tuple[int, int]] = []
    tokens: list[int] = []
    token = 0
    for start, end in words_of(text):
        while token + 1 < len(offsets) and (offsets[token + 1][0] < end or offsets[token][1] < end):
            token += 1
        if tokens and tokens[-1] == token:
            words[-1] = (words[-1][0], end)
        else:
            words.append((start, end))
            tokens.append(token)
    return words, tokens


def best_path(log_probabilities: np.ndarray, tags: Sequence[str]) -> list[int]:
    """Return the likeliest tags of words, by Viterbi's algorithm over `[words, tags]`.

    I- of a type follows only its own B- or I-.
    """
    if not len(log_probabilities):
        return []
    kinds, inside = np.array([tag[2:] for tag in tags]), np.array([tag.startswith("I-") for tag in tags])
    follows = np.where(~inside[None] | (kinds[:, None] == kinds[None]), 0.0, -np.inf)
    best, origins = np.where(inside, -np.inf, 0.0) + log_probabilities[0], []
    for row in log_probabilities[1:]:
        paths = best[:, None] + follows
        origins.append(paths.argmax(axis=0))
        best = paths.max(axis=0) + row
    path = [int(best.argmax())]
    for origin in reversed(origins):
        path.append(int(origin[path[-1]]))
    return path[::-1]


def longest_matches(text: str, names: Mapping[str, str]) -> list[Entity]:
    """Return the longest stretches of words that are names, from left to right."""
    words, found, place = words_of(text), [], 0
    longest = max((len(words_of(name)) for name in names), default=0)
    while place < len(words):
        ends = range(min(place + longest, len(words)), place, -1)
        spans = (Span(words[place][0], words[end - 1][1], "") for end in ends)
        match = next((span for span in spans if text[span.start : span.end] in names), None)
        if match is None:
            place += 1
            continue
        name = text[match.start : match.end]
        found.append(Entity(match.start, match.end, names[name], name))
        place += len(words_of(name))
    return found
