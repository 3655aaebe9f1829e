"""How far something is, where nobody sees a bar."""

from __future__ import annotations

import pytest

from gpt_tasks import progress as room
from gpt_tasks.progress import advance, counted, counting, duration, progress


def test_a_log_has_a_line_every_half_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = iter(range(0, 10_000, 10))
    monkeypatch.setattr(room.time, "monotonic", lambda: float(next(now)))
    assert list(counted(range(7), "answers", 7)) == list(range(7))
    assert capsys.readouterr().err.splitlines() == [
        "answers: 3/7, 0.1/s, 40 s left",
        "answers: 6/7, 0.1/s, 10 s left",
    ]
    list(counted(range(4), "answers"))
    assert capsys.readouterr().err.splitlines() == ["answers: 3, 0.1/s"]


def test_what_is_short_or_not_to_be_shown_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    list(counted(range(5), "answers", 5))
    list(counted(range(5), "answers", 5, show=False))
    with progress("answers", 3, 3) as step:
        step()
    assert capsys.readouterr().err == ""


def test_what_is_done_within_is_counted() -> None:
    found: list[int] = []
    advance(1)
    with counting(found.append):
        advance(3)
        with counting(lambda number: found.append(-number)):
            advance(2)
        advance(4)
    advance(5)
    assert found == [3, -2, 4]


def test_times_are_written_by_their_largest_unit() -> None:
    assert [duration(seconds) for seconds in (0.4, 42, 99.6, 600, 6000, 7200)] == [
        "0 s",
        "42 s",
        "2 min",
        "10 min",
        "1.7 h",
        "2.0 h",
    ]
