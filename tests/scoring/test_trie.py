"""The plan forwards every token that some path needs, none twice without reason, and shows each its own past only."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from gpt_tasks.scoring.trie import Drop, Extend, Pack, Trie, lay_out

Path = tuple[int, ...]
PATHS = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=12).map(tuple), min_size=1, max_size=40)


def walk(trie: Trie, row_tokens: int, batch_tokens: int) -> tuple[list[Path], int]:
    """Carry out a plan on paper: what each forwarded token sees, itself last; and how many tokens were forwarded."""
    seen: list[Path] = []
    forwarded = 0
    caches: list[Path] = []
    for step in trie.plan(row_tokens, batch_tokens):
        held = caches[-1] if caches else ()
        if isinstance(step, Drop):
            caches.pop()
        elif isinstance(step, Extend):
            assert len(held) == step.start
            for index in range(step.first, step.last):
                assert trie.paths[index][: step.end] == trie.paths[step.first][: step.end]
            caches.append(trie.paths[step.first][: step.end])
            seen += [caches[-1][:depth] for depth in range(step.start + 1, step.end + 1)]
            forwarded += step.end - step.start
        else:
            assert isinstance(step, Pack)
            width = max(row.tokens for row in step.rows)
            assert len(step.rows) == 1 or width * len(step.rows) <= batch_tokens
            for row in step.rows:
                assert row.cached == len(held)
                assert trie.paths[row.first][: row.cached] == held
                layout = lay_out(trie, row)
                assert len(layout.tokens) == row.tokens > 0
                forwarded += row.tokens
                for here, depth in enumerate(layout.depths):
                    past = [token for j, token in enumerate(layout.tokens[: here + 1]) if here < layout.ends[j]]
                    assert depth + 1 == len(held) + len(past)
                    seen.append((*held, *past))
                for index, places in zip(range(row.first, row.last), layout.places, strict=True):
                    assert trie.paths[index] == (*held, *(layout.tokens[place] for place in places))
    assert not caches
    return seen, forwarded


@settings(max_examples=300, deadline=None)
@given(paths=PATHS, row_tokens=st.integers(1, 40), batch_tokens=st.integers(1, 100))
def test_every_path_is_forwarded_behind_its_own_past(paths: list[Path], row_tokens: int, batch_tokens: int) -> None:
    trie = Trie(paths)
    seen, forwarded = walk(trie, row_tokens, batch_tokens)
    wanted = {path[:depth] for path in paths for depth in range(1, len(path) + 1)}
    assert set(seen) == wanted
    assert trie.distinct_tokens == len(wanted) <= forwarded


def test_a_long_beginning_that_many_share_is_forwarded_once() -> None:
    beginning = tuple(range(100))
    trie = Trie([(*beginning, *(1000 + number,) * 20) for number in range(30)])
    _, forwarded = walk(trie, row_tokens=64, batch_tokens=256)
    assert forwarded == trie.distinct_tokens == 100 + 30 * 20


def test_a_short_prefix_is_not_worth_a_separate_pass() -> None:
    trie = Trie([(1, *(1000 + number,) * 20) for number in range(30)])
    steps = list(trie.plan(row_tokens=400, batch_tokens=800))
    assert all(isinstance(step, Pack) for step in steps)
    assert sum(row.tokens for step in steps if isinstance(step, Pack) for row in step.rows) == trie.distinct_tokens + 1


def test_equal_paths_cost_nothing_more() -> None:
    trie = Trie([(1, 2, 3)] * 50)
    assert trie.distinct_tokens == 3
    _, forwarded = walk(trie, row_tokens=64, batch_tokens=256)
    assert forwarded == 3


def test_many_nested_beginnings_are_no_recursion() -> None:
    trunk = tuple(range(3000))
    trie = Trie([(*trunk[:end], *((9000 + end,) * 40)) for end in range(0, 3000, 2)])
    drops = [step for step in trie.plan(row_tokens=64, batch_tokens=256) if isinstance(step, Drop)]
    extends = [step for step in trie.plan(row_tokens=64, batch_tokens=256) if isinstance(step, Extend)]
    assert len(drops) == len(extends) > 10


def test_no_paths_no_steps() -> None:
    trie = Trie([])
    assert trie.distinct_tokens == 0
    assert list(trie.plan(64, 256)) == []
