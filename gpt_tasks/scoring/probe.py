"""Whether a model can be scored along a trie: found by a trial, not by name, as some misread a tree mask silently."""

from __future__ import annotations

from random import Random

from gpt_tasks.scoring.engine import ROW_TOKENS, PlainEngine, TrieEngine
from gpt_tasks.scoring.model import ScoredModel
from gpt_tasks.scoring.requests import TokenizedRequest

TOLERANCE = 1e-4


def check_tree_attention(model: ScoredModel, depth: int, row_tokens: int = ROW_TOKENS) -> str | None:
    """Return why this model, in float32, cannot be packed for paths of up to `depth` tokens; None where it can.

    Both engines score a random tree that branches near its root, in the middle and at its leaves, is as deep as the
    paths to come, and is laid out in rows as long as theirs: as deep as any local window that could matter for them.
    Every log-probability must agree to 1e-4.
    """
    paths = _tree(max(depth, 4), row_tokens, model.vocabulary)
    plain = dict(PlainEngine(model).score(paths))
    try:
        packed = dict(TrieEngine(model, row_tokens=row_tokens).score(paths))
    except Exception as error:  # any exception counts as a refusal
        return f"it refuses a tree mask ({type(error).__name__})"
    off = max(abs(packed[place].value - plain[place].value) for place in plain)
    return None if off <= TOLERANCE else f"packed, its log-likelihoods are off by {off:.2g}"


def _tree(depth: int, row_tokens: int, vocabulary: int) -> list[TokenizedRequest]:
    random = Random(0)

    def draw(count: int) -> tuple[int, ...]:
        return tuple(random.randrange(vocabulary) for _ in range(count))

    trunk = draw(depth)
    half = depth // 2
    # Together too long for one row, so that their common prefix is cached: as few as that takes.
    many = 2 + row_tokens // (depth - half)
    starts = [depth // 8, *[half] * many, depth - 2]
    inputs = [trunk, *((*trunk[:start], *draw(depth - start)) for start in starts)]
    return [TokenizedRequest(path, draw(2)) for path in inputs]
