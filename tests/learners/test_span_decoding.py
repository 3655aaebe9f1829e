"""Answers from logits: item for item those of a plain nested loop, with ties, several windows and "no answer"."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from gpt_tasks.learners.span import choose_answer
from gpt_tasks.learners.span_decoding import BestSpans, Candidate, best_spans
from gpt_tasks.tasks.span_windows import Windows, encode_windows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CONTEXTS = (
    "The soup was cold and the waiter never came back. What a waste!",
    "Wir haben 🙂 den Zug\r\n\tverpasst,  aber der Abend war schön.",
    "北京 is not far.",
    "Late.",
)


def plain_loop(
    starts: np.ndarray,
    ends: np.ndarray,
    windows: Windows,
    contexts: tuple[str, ...],
    n: int,
    longest: int,
    unanswerable: bool,
) -> list[list[tuple[str, float, float]]]:
    """Text, start logit and end logit of every question's candidates: one window after the other, pair by pair."""
    everything = []
    for example, context in enumerate(contexts):
        found = []
        none: tuple[float, str, float, float] | None = None
        for index in np.flatnonzero(windows.examples == example):
            closing, opening = int(windows.closings[index]), int(windows.openings[index])
            own_starts, own_ends = starts[index, : closing + 1], ends[index, : closing + 1]
            null = own_starts[closing] + own_ends[closing]
            if none is None or none[0] > null:
                none = (null, "", own_starts[closing], own_ends[closing])
            places = [
                windows.places[windows.firsts[index] + position - opening] if opening <= position < closing else None
                for position in range(closing + 1)
            ]
            for start in np.argsort(own_starts, kind="stable")[::-1][:n]:
                for end in np.argsort(own_ends, kind="stable")[::-1][:n]:
                    if places[start] is None or places[end] is None:
                        continue
                    if end < start or end - start + 1 > longest:
                        continue
                    if any(edge[0] >= edge[1] for edge in (places[start], places[end])):
                        continue
                    text = context[places[start][0] : places[end][1]]
                    found.append((own_starts[start] + own_ends[end], text, own_starts[start], own_ends[end]))
        assert none is not None
        if unanswerable:
            found.append(none)
        found = sorted(found, key=lambda candidate: candidate[0], reverse=True)[:n]
        if unanswerable and not any(candidate[1] == "" for candidate in found):
            found.append(none)
        everything.append([candidate[1:] for candidate in found])
    return everything


def listed(found: BestSpans) -> list[list[Candidate]]:
    return [found.candidates(question) for question in range(len(found))]


def answers(found: BestSpans, above: float = 0.5) -> list[str]:
    return [choose_answer(found, question, above).text for question in range(len(found))]


def encoded(tokenizer: PreTrainedTokenizerBase, room: int, stride: int) -> Windows:
    prompt = len(tokenizer("Who?\n")["input_ids"])
    return encode_windows(["Who?"] * len(CONTEXTS), CONTEXTS, tokenizer, max_length=prompt + room + 1, stride=stride)


def drawn(windows: Windows, seed: int, *, coarse: bool) -> tuple[np.ndarray, np.ndarray]:
    """Logits of every position, and of some behind the windows' ends; coarse ones are often equal, some of them -0."""
    random = np.random.default_rng(seed)
    shape = (2, len(windows), int(windows.closings.max()) + 4)
    starts, ends = random.normal(scale=2.0, size=shape).astype(np.float32)
    if coarse:
        starts, ends = starts.round(), ends.round()
        assert (np.signbit(starts) & (starts == 0)).any()
    return starts, ends


@pytest.mark.parametrize("unanswerable", [False, True], ids=["answerable", "unanswerable"])
@pytest.mark.parametrize("coarse", [False, True], ids=["apart", "ties"])
@pytest.mark.parametrize(("room", "stride"), [(100, 0), (12, 5), (4, 3)])
@pytest.mark.parametrize(("n", "longest"), [(20, 30), (5, 3), (1, 1), (500, 4)])
def test_the_n_best_are_those_of_a_nested_loop(
    tiny_tokenizer: PreTrainedTokenizerBase,
    room: int,
    stride: int,
    n: int,
    longest: int,
    coarse: bool,
    unanswerable: bool,
) -> None:
    windows = encoded(tiny_tokenizer, room, stride)
    starts, ends = drawn(windows, seed=n, coarse=coarse)
    found = listed(best_spans(starts, ends, windows, CONTEXTS, n=n, longest=longest, unanswerable=unanswerable))
    expected = plain_loop(starts, ends, windows, CONTEXTS, n, longest, unanswerable)
    assert [[(one.text, one.start_logit, one.end_logit) for one in some] for some in found] == expected
    for context, candidates in zip(CONTEXTS, found, strict=True):
        assert all(one.text == context[one.start : one.end] == one.text.strip() for one in candidates)


def test_a_small_case_by_hand(tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    context = "0123"
    windows = encode_windows(["?"], [context], tiny_tokenizer, max_length=20, stride=0)
    opening, length = int(windows.openings[0]), int(windows.closings[0]) + 1
    starts, ends = np.full((2, 1, length), -9.0, dtype=np.float32)
    starts[0, opening : opening + 3] = 3, 1, 2
    ends[0, opening : opening + 3] = 0, 4, 1
    starts[0, -1], ends[0, -1] = -2, 4.5
    found = best_spans(starts, ends, windows, [context], n=3, longest=2, unanswerable=True)
    odds = np.exp([7.0, 5.0, 3.0, 2.5])
    first, second, third, none = odds / odds.sum()
    assert found.candidates(0) == [
        Candidate("01", 0, 2, 3.0, 4.0, pytest.approx(first)),
        Candidate("1", 1, 2, 1.0, 4.0, pytest.approx(second)),
        Candidate("2", 2, 3, 2.0, 1.0, pytest.approx(third)),
        # Not among the three best, and yet returned.
        Candidate("", 0, 0, -2.0, 4.5, pytest.approx(none)),
    ]
    # Beside the best answer alone: scores of 2.5 and 7.
    assert found.no_answer is not None
    assert found.no_answer == pytest.approx([1 / (1 + np.exp(4.5))])
    (beside,) = found.no_answer.tolist()
    assert answers(found) == answers(found, above=beside) == ["01"]
    assert answers(found, above=beside - 1e-6) == [""]


def test_of_several_windows_the_least_sure_says_whether_there_is_no_answer(
    tiny_tokenizer: PreTrainedTokenizerBase,
) -> None:
    context = "0123456789"
    windows = encode_windows(["?"], [context], tiny_tokenizer, max_length=9, stride=4)
    assert windows.closings.tolist() == [8, 8, 8]
    starts, ends = np.full((2, len(windows), 9), -5.0, dtype=np.float32)
    for index, closing in enumerate(windows.closings):
        starts[index, closing], ends[index, closing] = 4 - 2 * (index == 1), index
    # Sums of 4, 3, 6, ...: the second window holds "no answer" the least likely.
    candidates = best_spans(starts, ends, windows, [context], unanswerable=True).candidates(0)
    assert [one[:5] for one in candidates if not one.text] == [("", 0, 0, 2.0, 1.0)]


def test_probabilities_sum_to_1_even_of_great_logits(tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    windows = encoded(tiny_tokenizer, 12, 5)
    starts, ends = (1000 * logits for logits in drawn(windows, seed=0, coarse=False))
    for candidates in listed(best_spans(starts, ends, windows, CONTEXTS, unanswerable=True)):
        assert sum(one.probability for one in candidates) == pytest.approx(1)
        assert candidates[0].probability == max(one.probability for one in candidates)


def test_what_follows_a_window_plays_no_part(tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    windows = encoded(tiny_tokenizer, 12, 5)
    starts, ends = drawn(windows, seed=1, coarse=False)
    expected = listed(best_spans(starts, ends, windows, CONTEXTS, unanswerable=True))
    behind = np.arange(starts.shape[1]) > windows.closings[:, None]
    for filling in (99.0, np.nan):
        starts[behind] = ends[behind] = filling
        assert listed(best_spans(starts, ends, windows, CONTEXTS, unanswerable=True)) == expected


def without_answers(tokenizer: PreTrainedTokenizerBase, *, unanswerable: bool) -> BestSpans:
    """The best start comes after the best end, and no more than one of either is looked at."""
    windows = encoded(tokenizer, 100, 0)
    starts, ends = np.zeros((2, len(windows), int(windows.closings.max()) + 1), dtype=np.float32)
    starts[np.arange(len(windows)), windows.openings + 1] = 1
    ends[np.arange(len(windows)), windows.openings] = 1
    return best_spans(starts, ends, windows, CONTEXTS, n=1, unanswerable=unanswerable)


def test_a_question_without_a_candidate_has_an_empty_answer(tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    found = without_answers(tiny_tokenizer, unanswerable=False)
    assert listed(found) == [[]] * 4
    assert answers(found) == [""] * 4
    found = without_answers(tiny_tokenizer, unanswerable=True)
    assert listed(found) == [[Candidate("", 0, 0, 0.0, 0.0, 1.0)]] * 4
    assert found.no_answer is not None
    assert found.no_answer.tolist() == [1.0] * 4
    assert answers(found, above=1.0) == [""] * 4


def test_answers_are_the_best_candidates(tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    windows = encoded(tiny_tokenizer, 12, 5)
    for seed in range(5):
        found = best_spans(*drawn(windows, seed, coarse=False), windows, CONTEXTS, unanswerable=True)
        best = [next(one.text for one in some if one.text) for some in listed(found)]
        assert found.no_answer is not None
        assert answers(found, above=1.0) == best
        assert answers(found) == [
            text if none <= 0.5 else "" for text, none in zip(best, found.no_answer.tolist(), strict=True)
        ]


def test_an_answer_says_where_it_is_and_holds_all_candidates(tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    windows = encoded(tiny_tokenizer, 12, 5)
    found = best_spans(*drawn(windows, 0, coarse=False), windows, CONTEXTS, unanswerable=True)
    assert found.no_answer is not None
    for question, context in enumerate(CONTEXTS):
        candidates = found.candidates(question)
        answered, silent = (choose_answer(found, question, above) for above in (1.0, -1.0))
        best = next(one for one in candidates if one.text)
        assert (answered.text, answered.start, answered.end) == best[:3]
        assert answered.text == context[answered.start : answered.end]
        assert answered.probability == best.probability
        assert (silent.text, silent.start, silent.end) == ("", 0, 0)
        assert silent.probability == found.no_answer[question]
        for answer in (answered, silent):
            assert [(one.text, one.probability) for one in answer.candidates] == [
                (one.text, one.probability) for one in candidates
            ]
