"""Log-likelihoods of token paths by one model: packed along a prefix trie, or in plain padded batches."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor
from transformers import DynamicCache

from gpt_tasks.scoring.model import ScoredModel, repeated
from gpt_tasks.scoring.requests import TokenizedRequest
from gpt_tasks.scoring.trie import Drop, Extend, Pack, Trie, lay_out
from gpt_tasks.types import LogLikelihood

EngineName = Literal["trie", "plain"]
ROW_TOKENS = 256
BATCH_TOKENS = 1024

Advance = Callable[[int], None]
"""Called after each forward pass with its number of tokens, without padding."""


class Engine(Protocol):
    """Scores paths; each answer comes as soon as it is known, with the path's place among those given."""

    def score(
        self, paths: Sequence[TokenizedRequest], advance: Advance | None = None
    ) -> Iterator[tuple[int, LogLikelihood]]:
        """Yield each path's place and its likelihood, once."""
        ...


class PlainEngine:
    """Each path separately, padded on the right to the longest of its batch: the reference for the other engine."""

    def __init__(self, model: ScoredModel, batch_tokens: int = BATCH_TOKENS) -> None:
        self.model = model
        self.batch_tokens = batch_tokens

    @torch.inference_mode()
    def score(
        self, paths: Sequence[TokenizedRequest], advance: Advance | None = None
    ) -> Iterator[tuple[int, LogLikelihood]]:
        """Yield the answers, those of the longest paths first."""
        order = sorted(range(len(paths)), key=lambda place: -len(paths[place].inputs))
        batch: list[int] = []
        for place in order:
            if batch and len(paths[batch[0]].inputs) * (len(batch) + 1) > self.batch_tokens:
                yield from self._batch(paths, batch)
                if advance:
                    advance(sum(len(paths[each].inputs) for each in batch))
                batch = []
            batch.append(place)
        if batch:
            yield from self._batch(paths, batch)

    def _batch(self, paths: Sequence[TokenizedRequest], batch: list[int]) -> Iterator[tuple[int, LogLikelihood]]:
        rows = [torch.tensor(paths[place].inputs) for place in batch]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(self.model.device)
        kept = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
        lengths, counts = (
            [len(paths[place].inputs) for place in batch],
            [len(paths[place].targets) for place in batch],
        )
        # Counted from the end of the longest, the first position that predicts a target in any row.
        tail = ids.shape[1] - min(length - count for length, count in zip(lengths, counts, strict=True))
        asked = {"logits_to_keep": tail} if self.model.keeps_logits else {}
        logits = self.model.model(
            input_ids=ids, attention_mask=kept.to(self.model.device), use_cache=False, **asked
        ).logits
        before = ids.shape[1] - logits.shape[1]
        for row, (place, length, count) in enumerate(zip(batch, lengths, counts, strict=True)):
            path = paths[place]
            probabilities = logits[row, length - count - before : length - before].float().log_softmax(-1)
            targets = torch.tensor(path.targets, device=self.model.device)
            value = probabilities.gather(1, targets[:, None]).sum()
            greedy = (probabilities.argmax(-1) == targets).all()
            yield place, LogLikelihood(float(value), bool(greedy))


class TrieEngine:
    """Each distinct token once: see `gpt_tasks.scoring.trie` for the plan that it carries out."""

    def __init__(self, model: ScoredModel, batch_tokens: int = BATCH_TOKENS, row_tokens: int = ROW_TOKENS) -> None:
        self.model = model
        self.batch_tokens = batch_tokens
        self.row_tokens = row_tokens

    @torch.inference_mode()
    def score(
        self, paths: Sequence[TokenizedRequest], advance: Advance | None = None
    ) -> Iterator[tuple[int, LogLikelihood]]:
        """Yield the answers in the order in which the trie is walked."""
        trie = Trie([path.inputs for path in paths])
        walk = _Walk(self.model, trie, [paths[place] for place in trie.order])
        for step in trie.plan(self.row_tokens, self.batch_tokens):
            for index, likelihood in walk.take(step):
                yield trie.order[index], likelihood
            if advance and not isinstance(step, Drop):
                advance(walk.forwarded)


class _Walk:
    """The state of one walk: the live caches, and the partial scores of paths that are partly forwarded."""

    def __init__(self, model: ScoredModel, trie: Trie, paths: Sequence[TokenizedRequest]) -> None:
        self.model, self.trie, self.paths = model, trie, paths
        self.caches: list[DynamicCache] = []
        self.known: defaultdict[int, list[tuple[Tensor, Tensor]]] = defaultdict(list)
        self.forwarded = 0

    def take(self, step: Extend | Pack | Drop) -> list[tuple[int, LogLikelihood]]:
        """Carry out one step; return the answers that are now complete."""
        if isinstance(step, Drop):
            self.caches.pop()
            return []
        return self._extend(step) if isinstance(step, Extend) else self._pack(step)

    def _extend(self, step: Extend) -> list[tuple[int, LogLikelihood]]:
        tokens = self.trie.paths[step.first][step.start : step.end]
        cache = repeated(self.caches[-1], 1) if self.caches else DynamicCache()
        positions = torch.arange(step.start, step.end, device=self.model.device)
        ids = torch.tensor(tokens, device=self.model.device)
        hidden = self.model.hidden(ids[None], positions[None], None, cache)[0]
        self.caches.append(cache)
        self.forwarded = len(tokens)
        places = range(len(tokens))
        wanted = [(index, step.start, places) for index in range(step.first, step.last)]
        return self._foretell(hidden, wanted)

    def _pack(self, step: Pack) -> list[tuple[int, LogLikelihood]]:
        device = self.model.device
        layouts = [lay_out(self.trie, row) for row in step.rows]
        width, cached = max(row.tokens for row in step.rows), step.rows[0].cached
        ids = torch.zeros(len(layouts), width, dtype=torch.long)
        positions, ends = torch.zeros_like(ids), torch.arange(1, width + 1).repeat(len(layouts), 1)
        for number, layout in enumerate(layouts):
            size = len(layout.tokens)
            ids[number, :size] = torch.tensor(layout.tokens)
            positions[number, :size] = torch.tensor(layout.depths)
            ends[number, :size] = torch.tensor(layout.ends)
        visible = None
        # A single path attends to everything before it: no mask, which would take the square of its length.
        if len(layouts) > 1 or set(layouts[0].ends) != {width}:
            token = torch.arange(width, device=device)
            seen = (token[:, None] >= token) & (token[:, None] < ends.to(device)[:, None, :])
            if cached:
                seen = torch.cat([seen.new_ones(len(layouts), width, cached), seen], dim=-1)
            visible = seen[:, None]
        cache = repeated(self.caches[-1], len(layouts)) if self.caches else None
        hidden = self.model.hidden(ids.to(device), positions.to(device), visible, cache).flatten(0, 1)
        self.forwarded = sum(row.tokens for row in step.rows)
        wanted = [
            (index, row.cached, [number * width + place for place in places])
            for number, (row, layout) in enumerate(zip(step.rows, layouts, strict=True))
            for index, places in zip(range(row.first, row.last), layout.places, strict=True)
        ]
        return self._foretell(hidden, wanted)

    def _foretell(
        self, hidden: Tensor, wanted: Sequence[tuple[int, int, Sequence[int]]]
    ) -> list[tuple[int, LogLikelihood]]:
        """Score targets from states `[n, width]`; `wanted` is each path's index, a depth, and its places from there
        on."""
        rows: list[int] = []
        targets: list[int] = []
        parts: list[tuple[int, int]] = []
        for index, depth, places in wanted:
            path = self.paths[index]
            first = len(path.inputs) - len(path.targets)  # the depth of the token that predicts the first target
            low, high = max(first, depth), min(len(path.inputs), depth + len(places))
            if low < high:
                rows += places[low - depth : high - depth]
                targets += path.targets[low - first : high - first]
                parts.append((index, high - low))
        if not parts:
            return []
        values, greedy = self.model.target_log_probs(hidden, rows, targets)
        answers = []
        sizes = [size for _, size in parts]
        for (index, _), *part in zip(parts, values.split(sizes), greedy.split(sizes), strict=True):
            value, best = part
            known = [*self.known.pop(index, ()), (value, best)]
            if sum(len(value) for value, _ in known) == len(self.paths[index].targets):
                total = torch.cat([value for value, _ in known]).sum()
                answers.append((index, LogLikelihood(float(total), all(bool(best.all()) for _, best in known))))
            else:
                self.known[index] = known
        return answers
