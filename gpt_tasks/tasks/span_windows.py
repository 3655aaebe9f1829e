"""Windows of contexts after their questions: what a model reads, and which characters each token covers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING

from gpt_tasks.errors import DataError
from gpt_tasks.tasks.encoding import encode_texts, encode_with_offsets, end_of_text

if TYPE_CHECKING:
    import numpy
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows of `n` in number, in the order of the examples that they are of, each of which has at least one.

    A window is the tokens of the question and the separator, with the special tokens in front; some tokens of the
    context; and the closing token, the end of text. The closing token represents "no answer", because there a causal
    model has read all of the window, and at the first token nothing else.

    - `input_ids` `[tokens]`: window i is `input_ids[bounds[i]:bounds[i + 1]]`.
    - `examples` `[n]`: the example that a window is of.
    - `openings` `[n]`: the position in the window where the context's tokens begin.
    - `firsts` `[n]`: the row of `places` that the token at that position has; those after it have the following ones.
    - `places` `[context tokens, 2]`: the characters [start, end) of its context that a token covers, without white
      space at either edge. A token that holds a part of a character covers all of it; one of only white space covers
      none, and its end is not after its start.
    - `answers` `[n, 2]`: the positions of the answer's first and last token in the window; those of the closing token
      where there is no answer, or not all of it in this window.
    """

    input_ids: numpy.ndarray
    bounds: numpy.ndarray
    examples: numpy.ndarray
    openings: numpy.ndarray
    firsts: numpy.ndarray
    places: numpy.ndarray
    answers: numpy.ndarray

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def closings(self) -> numpy.ndarray:
        """The position `[n]` of the closing token, after the context's."""
        closings: numpy.ndarray = self.bounds[1:] - self.bounds[:-1] - 1
        return closings

    @property
    def hold_answers(self) -> numpy.ndarray:
        """Whether a window, `[n]`, holds the whole answer."""
        held: numpy.ndarray = self.answers[:, 1] < self.closings
        return held

    def tokens(self, index: int) -> list[int]:
        """Return the token ids of one window."""
        ids: list[int] = self.input_ids[self.bounds[index] : self.bounds[index + 1]].tolist()
        return ids


def encode_windows(
    questions: Sequence[str],
    contexts: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int,
    stride: int,
    answers: Sequence[tuple[int, int] | None] | None = None,
    where: Sequence[str] | None = None,
    separator: str = "\n",
) -> Windows:
    """Encode examples, at least one, in windows of at most `max_length` tokens.

    Windows of the same context overlap by `stride` tokens: an answer of up to one token more is whole in one of them.
    `answers` are the characters [start, end) of each example's answer in its context, None where it has none. A context
    that several questions are about is tokenized once.

    Raises DataError, by the names in `where`, for a question that leaves the context no room, or where several windows
    would be needed, none beyond their overlap.
    """
    import numpy as np

    rows = {context: row for row, context in enumerate(dict.fromkeys(contexts))}
    context_of = np.array([rows[context] for context in contexts])
    asked = encode_texts(tokenizer, [question.strip() + separator for question in questions])
    read = encode_with_offsets(tokenizer, list(rows), begins=False)
    question_tokens, context_tokens = _Ragged.of(asked), _Ragged.of([tokens.ids for tokens in read])
    begins = np.cumsum([0, *map(len, rows)])
    offsets = np.fromiter(chain.from_iterable(chain.from_iterable(each.offsets for each in read)), dtype=np.int64)
    characters = _characters("".join(rows), offsets.reshape(-1, 2), begins, context_tokens.lengths)

    rooms, needed = max_length - question_tokens.lengths - 1, context_tokens.lengths[context_of]
    _check_rooms(rooms, needed, max_length, stride, where)
    steps = np.maximum(1, rooms - stride)
    # As many steps as are needed to reach the end of the context.
    numbers = 1 + -(np.minimum(0, rooms - needed) // steps)
    examples = np.repeat(np.arange(len(questions)), numbers)
    skipped = _counted(numbers) * steps[examples]
    counts = np.minimum(rooms[examples], needed[examples] - skipped)
    openings = question_tokens.lengths[examples]
    firsts = context_tokens.starts[context_of[examples]] + skipped
    closings = openings + counts

    pool = np.concatenate([context_tokens.values, question_tokens.values, [end_of_text(tokenizer)]])
    asked_at = len(context_tokens.values) + question_tokens.starts[examples]
    starts = np.stack([asked_at, firsts, np.full(len(examples), len(pool) - 1)], axis=1).ravel()
    lengths = np.stack([openings, counts, np.ones_like(counts)], axis=1).ravel()
    return Windows(
        input_ids=pool[np.repeat(starts, lengths) + _counted(lengths)].astype(np.int32),
        bounds=np.append(0, np.cumsum(closings + 1)),
        examples=examples,
        openings=openings,
        firsts=firsts,
        places=(characters - np.repeat(begins[:-1], context_tokens.lengths)[:, None]).astype(np.int32),
        answers=_answers(answers, begins[context_of], characters, examples, openings, firsts, closings),
    )


@dataclass(frozen=True, eq=False)
class _Ragged:
    """Lists of numbers one after the other: list i is `values[starts[i]:starts[i] + lengths[i]]`."""

    values: numpy.ndarray
    starts: numpy.ndarray
    lengths: numpy.ndarray

    @classmethod
    def of(cls, lists: Sequence[Sequence[int]]) -> _Ragged:
        import numpy as np

        lengths = np.array([len(each) for each in lists])
        values = np.fromiter(chain.from_iterable(lists), dtype=np.int64, count=lengths.sum())
        return cls(values, np.cumsum(lengths) - lengths, lengths)


def _characters(text: str, offsets: numpy.ndarray, begins: numpy.ndarray, token_counts: numpy.ndarray) -> numpy.ndarray:
    """Return for tokens the characters [start, end) of all contexts' `text`, without white space at either edge.

    Starts and ends never decrease from one token to the next.
    """
    import numpy as np

    inside = offsets + np.repeat(begins[:-1], token_counts)[:, None]
    codes = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
    blank = np.isin(codes, _white_space())
    here = np.arange(len(codes) + 1)
    # For every place between two characters the next place before a non-blank one, and the last after one.
    following = np.minimum.accumulate(np.where(np.append(blank, False), here[-1], here)[::-1])[::-1]
    before = np.maximum.accumulate(np.where(np.append(True, blank), 0, here))
    return np.stack([following[inside[:, 0]], before[inside[:, 1]]], axis=1)


@cache
def _white_space() -> tuple[int, ...]:
    # No white space has a greater code than U+3000.
    return tuple(code for code in range(0x3001) if chr(code).isspace())


def _check_rooms(
    rooms: numpy.ndarray, needed: numpy.ndarray, max_length: int, stride: int, where: Sequence[str] | None
) -> None:
    refused = (rooms < 1) | ((needed > rooms) & (rooms <= stride))
    if not refused.any():
        return
    index = int(refused.argmax())
    room = int(rooms[index])
    name = f"question {index + 1}" if where is None else where[index]
    if room < 1:
        raise DataError(
            f"{name}: the question takes {max_length - room} of {max_length} tokens and leaves its context no room",
            "Shorten the question, or train with a larger --max-length.",
        )
    raise DataError(
        f"{name}: the question leaves its context {room} of {max_length} tokens, and windows overlap by {stride}",
        "Shorten the question, or train with a larger --max-length or a smaller --stride.",
    )


def _counted(lengths: numpy.ndarray) -> numpy.ndarray:
    """Count 0, 1, ... up to each of the lengths, one after the other."""
    import numpy as np

    counted: numpy.ndarray = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return counted


def _answers(
    answers: Sequence[tuple[int, int] | None] | None,
    begins: numpy.ndarray,
    characters: numpy.ndarray,
    examples: numpy.ndarray,
    openings: numpy.ndarray,
    firsts: numpy.ndarray,
    closings: numpy.ndarray,
) -> numpy.ndarray:
    """Return the positions `[windows, 2]` of the answers' tokens; `begins` `[examples]` is where contexts begin."""
    import numpy as np

    nowhere = np.stack([closings, closings], axis=1)
    if answers is None:
        return nowhere
    # What has no characters has no tokens either.
    spans = begins[:, None] + np.array([answer or (0, 0) for answer in answers])
    # The first token that ends after the answer's start, and the last that starts before its end.
    first = np.searchsorted(characters[:, 1], spans[:, 0], side="right")[examples]
    last = np.searchsorted(characters[:, 0], spans[:, 1], side="left")[examples] - 1
    inside = (firsts <= first) & (first <= last) & (last < firsts + closings - openings)
    positions = np.stack([first, last], axis=1) + (openings - firsts)[:, None]
    return np.where(inside[:, None], positions, nowhere)
