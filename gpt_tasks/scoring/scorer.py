"""A backbone that answers requests: tokenized, looked up, scored by the engine that serves it, put together again."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from gpt_tasks.backbone.finite import require_finite
from gpt_tasks.backbone.load import Backbone, load_backbone
from gpt_tasks.backbone.precision import Precision, in_precision, resolve_device, resolve_precision
from gpt_tasks.data.leaks import load_trained
from gpt_tasks.plugins import installed_plugins
from gpt_tasks.processes import all_gather, broadcast, init_processes, rank, world_size
from gpt_tasks.progress import progress
from gpt_tasks.scoring.cache import AnswerCache, key_of_generation, key_of_path
from gpt_tasks.scoring.engine import BATCH_TOKENS, Engine, EngineName, PlainEngine, TrieEngine
from gpt_tasks.scoring.generate import generate
from gpt_tasks.scoring.model import ScoredModel
from gpt_tasks.scoring.probe import check_tree_attention
from gpt_tasks.scoring.probe_memory import remembered
from gpt_tasks.scoring.requests import Tokenization, TokenizedRequest
from gpt_tasks.scoring.responder import Responses
from gpt_tasks.scoring.trie import Trie
from gpt_tasks.tasks.encoding import literal
from gpt_tasks.threads import LOADING, Lock
from gpt_tasks.types import Continuation, Example, Generation, LogLikelihood, Request, Response, Rolling

UNLIMITED = 2048
"""The window of a model whose positions have no limit, as in lm-evaluation-harness."""


class Scorer:
    """The local Responder: answers requests with one backbone, on one device and in one precision."""

    def __init__(
        self,
        backbone: Backbone,
        *,
        device: torch.device,
        precision: Precision,
        engine: EngineName = "trie",
        batch_tokens: int,
        show_progress: bool = False,
    ) -> None:
        self._backbone = backbone
        self.tokenizer = backbone.tokenizer
        self.tokenization = Tokenization(backbone.tokenizer, backbone.context_length or UNLIMITED)
        model: Any = backbone.model
        self._model = model.to(device)
        self.device, self.precision, self.engine = device, precision, engine
        self._batch_tokens = batch_tokens
        self._show_progress = show_progress
        self._fault: str | None = None
        self._probed = 0  # the deepest paths that were tried
        # The model is in float32 while it is tried, and in its own precision while it answers: one call at a time.
        self._answering = Lock()

    @property
    def identity(self) -> dict[str, str]:
        """What the answers depend on: model, precision and engine."""
        return {"model": self._backbone.fingerprint, "precision": self.precision, "engine": self.engine}

    @property
    def settings(self) -> dict[str, Any]:
        """How it answers, as scores record it."""
        return {"precision": self.precision, "device": str(self.device), "engine": self.engine}

    @property
    def parameters(self) -> int:
        """The number of parameters."""
        return self._backbone.parameters

    @property
    def trained_rows(self) -> np.ndarray | None:
        """The hashes of the rows that the model was trained on, if it is a run's; None where that is not known."""
        return load_trained(self._backbone.location.folder)

    def literal(self, example: Example) -> Example:
        """Return an example whose texts are put into prompts: control tokens that they spell stay characters there."""

        def texts(some: Iterable[str]) -> tuple[str, ...]:
            return tuple(literal(self.tokenizer, text) for text in some)

        return replace(
            example,
            inputs=dict(zip(example.inputs, texts(example.inputs.values()), strict=True)),
            target=None if example.target is None else literal(self.tokenizer, example.target),
            choices=texts(example.choices),
            references=texts(example.references),
        )

    def respond(self, requests: Sequence[Request]) -> Iterator[Response]:
        """Yield the response to every request: all are known at the same time, since they are computed together."""
        yield from self.answer(requests).answers

    def answer(self, requests: Sequence[Request], cache: AnswerCache | None = None) -> Responses:
        """Answer everything; threads wait for each other.

        Raises DataError for a request that this model cannot answer, ModelError for outputs that are not finite.
        """
        with self._answering:
            return self._answer(requests, cache)

    def _answer(self, requests: Sequence[Request], cache: AnswerCache | None) -> Responses:
        likelihoods = [place for place, request in enumerate(requests) if not isinstance(request, Generation)]
        asked: list[Continuation | Rolling] = [requests[place] for place in likelihoods]  # type: ignore[misc]
        parts = self.tokenization.paths(asked)
        # What cannot be answered is refused before anything is computed.
        contexts = {
            place: self.tokenization.context(request)
            for place, request in enumerate(requests)
            if isinstance(request, Generation)
        }
        cut = [0] * len(requests)
        for place, paths in zip(likelihoods, parts, strict=True):
            cut[place] = sum(path.cut for path in paths)
        values = self._likelihoods({path for paths in parts for path in paths}, cache)
        answers: list[Response] = [""] * len(requests)
        for place, paths in zip(likelihoods, parts, strict=True):
            found = [values[path] for path in paths]
            answers[place] = LogLikelihood(
                sum(each.value for each in found),
                all(each.is_greedy for each in found),
                sum(len(path.targets) for path in paths),
            )
        for place, text in self._generations(requests, contexts, cache):
            answers[place], cut[place] = text, contexts[place].cut
        notes = (f"Scored in plain batches: {self._fault}.",) if self._fault else ()
        return Responses(answers, cut, "plain" if self._fault else self.engine, notes)

    def _in_precision(self) -> ScoredModel:
        return self._scored(self.precision)

    def _scored(self, precision: Precision) -> ScoredModel:
        # A fork waits: the child answers too, by the same model.
        with LOADING:
            return ScoredModel(in_precision(self._model, precision))

    def _engine(self, depth: int) -> Engine:
        """The engine that was asked for, in the precision that was asked for, if the model can be packed."""
        if self.engine == "trie" and self._fault is None and depth > self._probed:
            trial = remembered(check_tree_attention, self._scored("float32"), depth)
            self._fault, self._probed = trial, depth
        if self._fault is None and self.engine == "trie":
            return TrieEngine(self._in_precision(), self._batch_tokens)
        return PlainEngine(self._in_precision(), self._batch_tokens)

    def _likelihoods(
        self, paths: set[TokenizedRequest], cache: AnswerCache | None
    ) -> dict[TokenizedRequest, LogLikelihood]:
        known: dict[TokenizedRequest, LogLikelihood] = {}
        missing = []
        before = broadcast({} if cache is None else cache.answers)
        for path in sorted(paths, key=lambda path: (path.inputs, path.targets)):
            answer = before.get(key_of_path(path)) if before else None
            if isinstance(answer, LogLikelihood):
                known[path] = answer
            else:
                missing.append(path)
        if not missing:
            return known
        engine = self._engine(max(len(path.inputs) for path in missing))
        if world_size() > 1:
            share = Trie([path.inputs for path in missing]).share(rank(), world_size())
            missing = missing[share.start : share.stop]
        with self._progress("texts", len(paths), len(known)) as step:
            for place, likelihood in engine.score(missing, advance=_flushing(cache)):
                require_finite(self._backbone.spec, math.isfinite(likelihood.value))
                known[missing[place]] = likelihood
                if cache is not None:
                    cache.put(key_of_path(missing[place]), likelihood)
                step()
        if world_size() > 1:
            known |= self._from_others({key_of_path(path): known[path] for path in missing}, paths, cache)
        if cache is not None:
            cache.flush()
        return known

    def _from_others(
        self, own: dict[str, LogLikelihood], paths: set[TokenizedRequest], cache: AnswerCache | None
    ) -> dict[TokenizedRequest, LogLikelihood]:
        """Exchange the answers of all processes, and store them all on the first one."""
        everyone = {key: answer for part in all_gather(own) for key, answer in part.items()}
        if cache is not None and rank() == 0:
            for key in everyone.keys() - own.keys():
                cache.put(key, everyone[key])
        return {path: everyone[key] for path in paths if (key := key_of_path(path)) in everyone}

    def _generations(
        self, requests: Sequence[Request], contexts: Mapping[int, TokenizedRequest], cache: AnswerCache | None
    ) -> Iterator[tuple[int, str]]:
        """Yield the place of every generation, of which `contexts` holds the tokens, and its text."""
        before = broadcast({} if cache is None else cache.answers)
        missing: list[tuple[int, Generation, tuple[int, ...], str]] = []
        for place, context in contexts.items():
            request = requests[place]
            assert isinstance(request, Generation)
            key = key_of_generation(request, context.inputs)
            answer = before.get(key)
            if isinstance(answer, str):
                yield place, answer
            else:
                missing.append((place, request, context.inputs, key))
        if not missing:
            return
        mine = missing[rank() :: world_size()]
        own: dict[int, str] = {}
        asked, inputs = [request for _, request, _, _ in mine], [context for _, _, context, _ in mine]
        with self._progress("answers", len(mine)) as step:
            for index, text in generate(self._in_precision(), self.tokenizer, asked, inputs, self._batch_tokens):
                place, _, _, key = mine[index]
                if cache is not None:
                    cache.put(key, text)
                    cache.flush()
                step()
                own[place] = text
        everyone = {place: text for part in all_gather(own) for place, text in part.items()}
        for place, _, _, key in missing:
            if cache is not None and rank() == 0 and place not in own:
                cache.put(key, everyone[place])
            yield place, everyone[place]

    def _progress(self, what: str, total: int, done: int = 0) -> AbstractContextManager[Callable[[], None]]:
        return progress(what, total, done, show=self._show_progress)


def open_scorer(
    model: str,
    *,
    device: str = "auto",
    precision: str = "float32",
    engine: EngineName = "trie",
    batch_tokens: int | None = None,
    trust_remote_code: bool = False,
    verify: bool = True,
) -> tuple[Backbone, Scorer]:
    """Load what a user names (a preset, a folder, a run or a hub id) and make a scorer of it; with other processes too.

    Without `verify` the files of a run are taken as they are. Raises UsageError, ModelError or MachineError.
    """
    init_processes(device)
    where = resolve_device(device)
    exact = resolve_precision(precision, where)
    presets = installed_plugins().registry.backbones
    backbone = load_backbone(model, presets, trust_remote_code=trust_remote_code, verify=verify)
    return backbone, Scorer(
        backbone,
        device=where,
        precision=exact,
        engine=engine,
        batch_tokens=batch_tokens or BATCH_TOKENS,
        show_progress=rank() == 0,
    )


def _flushing(cache: AnswerCache | None) -> Callable[[int], None] | None:
    return None if cache is None else lambda _: cache.flush()
