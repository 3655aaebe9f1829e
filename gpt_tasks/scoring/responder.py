"""Who answers requests: a model on this machine, or the responder that a model's name begins with, as `openai:`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gpt_tasks.errors import ModelError, PluginError, UsageError
from gpt_tasks.extensions import Responder, ResponderSpec
from gpt_tasks.paths import user_path
from gpt_tasks.plugins import installed_plugins
from gpt_tasks.processes import world_size
from gpt_tasks.progress import progress
from gpt_tasks.scoring.cache import AnswerCache, key_of_request
from gpt_tasks.types import Continuation, Example, Generation, LogLikelihood, Request, Response
from gpt_tasks.validation import NAME

if TYPE_CHECKING:
    from gpt_tasks.scoring.scorer import Scorer

# The default settings.
_UNSAID = {
    "device": "auto",
    "precision": "float32",
    "engine": "trie",
    "batch_tokens": None,
    "trust_remote_code": False,
    "verify": True,
}


@dataclass(frozen=True)
class Responses:
    """The answers, in the order of the requests; how many tokens each lost on its left; and how they were found."""

    answers: list[Response]
    cut: list[int]
    engine: str | None = None
    notes: tuple[str, ...] = ()


class RegisteredResponder:
    """A plugin's responder, called like the local `Scorer`: each request once, and none whose answer is cached.

    `model` is the name that the user gave.
    """

    parameters: int | None = None
    trained_rows: None = None
    """Which rows its model was trained on is not known."""

    def __init__(self, model: str, responder: Responder) -> None:
        self.model = model
        self._responder = responder
        self.tokenizer: Any = getattr(responder, "tokenizer", None)
        self.identity: dict[str, str] = {"model": model, **getattr(responder, "identity", {})}

    @property
    def settings(self) -> dict[str, Any]:
        """How it answers, as scores record it: its identity without the model."""
        return {name: value for name, value in self.identity.items() if name != "model"}

    def literal(self, example: Example) -> Example:
        """Return the example as it is: how its texts become tokens is for the responder."""
        return example

    def answer(self, requests: Sequence[Request], cache: AnswerCache | None = None) -> Responses:
        """Answer everything; each answer is in the cache's file before the next one is waited for.

        Raises what the responder raises, PluginError where it gives something else than one response to each, and
        ModelError for a log-likelihood that is not a finite number.
        """
        keys = [key_of_request(request) for request in requests]
        known: dict[str, Response] = {} if cache is None else cache.answers
        missing = {key: request for key, request in zip(keys, requests, strict=True) if key not in known}
        wanted = len(set(keys))
        given = iter(self._responder.respond(list(missing.values())) if missing else ())
        with progress("answers", wanted, wanted - len(missing)) as step:
            for key, request in missing.items():
                response = next(given, None)
                if not isinstance(response, str if isinstance(request, Generation) else LogLikelihood):
                    raise PluginError(
                        f"{self.model}: to a {type(request).__name__} the responder gave {response!r:.60}",
                        "Its respond() must yield a text for a Generation, a LogLikelihood for anything else.",
                    )
                if isinstance(response, LogLikelihood) and not math.isfinite(response.value):
                    raise ModelError(
                        f"{self.model}: to a {type(request).__name__} the responder gave {response.value}",
                        "A log-likelihood is a finite number: is the model behind it damaged?",
                    )
                known[key] = response
                if cache is not None:
                    cache.put(key, response)
                    cache.flush()
                step()
        return Responses([known[key] for key in keys], [0] * len(requests))

    def try_requests(self, tasks: Mapping[str, Sequence[Request]], cache: AnswerCache | None = None) -> None:
        """Send one request of every kind, so that a refusal is reported before there is much to pay for.

        Raises what the responder raises; a UsageError or ModelError names the task that needs the request.
        """
        first: dict[tuple[bool, type[Request], bool], tuple[str, Request]] = {}
        for name, requests in tasks.items():
            for request in requests:
                without_context = isinstance(request, Continuation) and not request.context.strip()
                kind = (isinstance(request, Generation), type(request), without_context)
                first.setdefault(kind, (name, request))
        for kind in sorted(first, key=lambda kind: kind[0]):
            name, request = first[kind]
            try:
                self.answer([request], cache)
            except (UsageError, ModelError) as error:
                raise type(error)(f"Task '{name}': {error.message}", error.hint) from error


def find_responder(model: str) -> tuple[ResponderSpec, str] | None:
    """Return the responder that a model's name begins with, and what follows its prefix; None for other names.

    Raises UsageError for a prefix that no plugin provides, and where nothing follows it.
    """
    prefix, colon, location = model.partition(":")
    # One letter before a colon is a drive of Windows.
    if not colon or len(prefix) == 1 or not NAME.fullmatch(prefix) or user_path(model).exists():
        return None
    found = installed_plugins().registry.responders[prefix]
    if not location:
        raise UsageError(f"{model} names no model", f"Give its name after the colon: {found.prefix}NAME.")
    return found, location


def open_registered(model: str, **settings: Any) -> RegisteredResponder | None:
    """Open the responder that a model's name begins with; None for the name of a model on this machine.

    `settings` are those of `ResponderSpec.open`. Raises UsageError or what the responder raises.
    """
    found = find_responder(model)
    if found is None:
        return None
    if world_size() > 1:
        raise UsageError(f"{model}: several processes are for a model on this machine", "Start one process.")
    spec, location = found
    return RegisteredResponder(model, spec.open(location, settings))


def open_responder(model: str, **how: Any) -> Scorer | RegisteredResponder:
    """Open what answers for a model: a registered responder by its prefix, or else a preset, folder, run or hub id.

    `how` are the settings of `open_scorer`. Raises UsageError, ModelError or MachineError.
    """
    registered = open_registered(model, **{name: value for name, value in how.items() if value != _UNSAID[name]})
    if registered is not None:
        return registered
    from gpt_tasks.scoring.scorer import open_scorer

    return open_scorer(model, **how)[1]
