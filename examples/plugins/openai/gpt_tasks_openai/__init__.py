"""Ask models behind OpenAI-compatible endpoints: `openai:NAME` by completions, `openai-chat:NAME` by chat completions.

OPENAI_BASE_URL says where it is and OPENAI_API_KEY who asks; neither is ever written into a file.
"""

import hashlib
import os
from collections import deque
from contextlib import contextmanager
from functools import partial
from itertools import islice
from multiprocessing.pool import ThreadPool
from urllib.parse import urlsplit

from gpt_tasks import (
    DataError,
    Generation,
    LogLikelihood,
    MachineError,
    ModelError,
    ResponderSpec,
    Rolling,
    UsageError,
    hookimpl,
)

GPT_TASKS_HOOKS = 1
OFFICIAL = "https://api.openai.com/v1"
RETRIES = 5  # after 0.5, 1, 2, 4 and 8 seconds, or when the endpoint says
MOST_STOPS = 4  # an endpoint takes no more; the other ones are looked for here


class Endpoint:
    """One model of one endpoint; with `chat` every prompt is put to it as a user's message."""

    def __init__(self, prefix, chat, model, settings):
        import openai

        for name in settings:
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(f"{flag} is for a model on this machine, not for {prefix}{model}", "Leave it out.")
        url = os.environ.get("OPENAI_BASE_URL") or OFFICIAL
        key = os.environ.get("OPENAI_API_KEY", "")
        if not key and url == OFFICIAL:
            raise UsageError(f"{prefix}{model}: OPENAI_API_KEY is not set", "Set it, or OPENAI_BASE_URL to your own.")
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError("OPENAI_BASE_URL is no address", "Give one such as http://localhost:8000/v1.")
        self.model, self.chat, self.key = model, chat, key
        # As messages name it: without a password that may be in it.
        address = parts.netloc.rpartition("@")[2]
        self.name = f"{prefix}{model} at {parts.scheme}://{address}{parts.path}"
        self.parallel = _number("GPT_TASKS_OPENAI_PARALLEL", int, 4)
        self.timeout = _number("GPT_TASKS_OPENAI_TIMEOUT", float, 60)
        self.first = os.environ.get("GPT_TASKS_OPENAI_BOS", "")
        self.identity = {"model": f"{prefix}{model}", "endpoint": hashlib.sha256(url.encode()).hexdigest()[:16]}
        if self.first:
            self.identity["bos"] = self.first
        # The client itself sends a request again when the connection fails, and for 408, 409, 429 and 5xx.
        self.client = openai.OpenAI(api_key=key or "none", base_url=url, timeout=self.timeout, max_retries=RETRIES)

    def respond(self, requests):
        """Yield the responses; no more than `parallel` requests are ahead of the one that is waited for."""
        for request in requests:
            if self.chat and not isinstance(request, Generation):
                raise UsageError(
                    f"{self.name}: chat completions return no log-likelihood of a given text",
                    "Take openai:NAME, if the endpoint has completions, or leave the task out.",
                )
        rest = iter(requests)
        # Its threads do not keep the process from ending.
        with ThreadPool(self.parallel) as pool:
            sent = deque(pool.apply_async(self._answer, (request,)) for request in islice(rest, self.parallel))
            while sent:
                yield sent.popleft().get()
                sent.extend(pool.apply_async(self._answer, (request,)) for request in islice(rest, 1))

    def _answer(self, request):
        if isinstance(request, Generation):
            return self._written(request)
        if isinstance(request, Rolling):
            return self._log_likelihood("", request.text)
        return self._log_likelihood(request.context, request.text)

    def _written(self, request):
        how = {"model": self.model, "stop": list(request.stop[:MOST_STOPS]) or None, "temperature": 0}
        if self.chat or request.messages:
            messages = [dict(message) for message in request.messages]
            how["messages"] = messages or [{"role": "user", "content": request.context}]
            choice = self._choice(self.client.chat.completions.create, max_completion_tokens=request.max_tokens, **how)
            text = getattr(getattr(choice, "message", None), "content", None)
        else:
            how["prompt"] = request.context or self.first
            choice = self._choice(self.client.completions.create, max_tokens=request.max_tokens, **how)
            text = getattr(choice, "text", None)
        if not isinstance(text, str):
            raise self._half("no text")
        for stop in request.stop:
            text = text.split(stop, maxsplit=1)[0]
        return text

    def _log_likelihood(self, context, text):
        """Add up the echoed tokens from where the context ends, whose last spaces belong to the text."""
        before = context.rstrip()
        prompt = context + text if before else self.first + context + text
        start = len(before or self.first)
        # One token more, since some endpoints cannot write none.
        how = {"model": self.model, "max_tokens": 1, "temperature": 0, "echo": True, "logprobs": 1}
        choice = self._choice(self.client.completions.create, prompt=prompt, **how)
        found = getattr(choice, "logprobs", None)
        columns = [getattr(found, name, None) for name in ("tokens", "text_offset", "token_logprobs", "top_logprobs")]
        if not all(isinstance(column, list) and column for column in columns):
            raise ModelError(
                f"{self.name} gives no log-probabilities (logprobs) of the tokens",
                "Take openai-chat:NAME for tasks whose answers are written; others need an endpoint that has them.",
            )
        if not str(choice.text).startswith(prompt):
            raise ModelError(
                f"{self.name} does not echo the prompt, so that its log-probabilities are those of other tokens",
                "Tasks that compare texts need an endpoint that knows echo with logprobs.",
            )
        if len({len(column) for column in columns}) > 1 or columns[1][-1] + len(columns[0][-1]) < len(prompt):
            raise self._half("log-probabilities of a part of the tokens only")
        own = [row for row in zip(*columns, strict=True) if start <= row[1] < len(prompt)]
        if not own:
            raise DataError(f"{text!r} adds no tokens to {context[-40:]!r}", "A text needs one at least.")
        if any(not _stands_at(token, offset, prompt) for token, offset, _, _ in own):
            raise ModelError(f"{self.name}: its text offsets are not those of the prompt", "It cannot be scored.")
        if own[0][1] == 0 and own[0][2] is None:
            raise ModelError(
                f"{self.name} gives no log-probability of a text's first token, which has nothing before it",
                "Set GPT_TASKS_OPENAI_BOS to the token that this model's texts begin with, as <|endoftext|>.",
            )
        if any(value is None or not best for _, _, value, best in own):
            raise self._half("no log-probabilities of some tokens")
        is_greedy = all(value >= max(best.values()) for _, _, value, best in own)
        return LogLikelihood(sum(value for _, _, value, _ in own), is_greedy, len(own))

    def _choice(self, create, **request):
        with self._told():
            answer = create(**request)
        choices = getattr(answer, "choices", None)
        if not choices:
            raise self._half("no choices")
        return choices[0]

    def _half(self, what):
        hint = "Try again; or is OPENAI_BASE_URL another service's? It mostly ends in /v1."
        return ModelError(f"{self.name} gave half an answer: {what}", hint)

    @contextmanager
    def _told(self):
        """Raise what the client raises as an error that names the endpoint, and never the key."""
        import openai

        try:
            yield
        except openai.APITimeoutError as error:
            hint = "Try again later, or set GPT_TASKS_OPENAI_TIMEOUT to more; the answers so far are saved."
            raise MachineError(f"{self.name} did not answer within {self.timeout:g} seconds", hint) from error
        except openai.APIConnectionError as error:
            cause = error.__cause__ or error
            hint = "Is it up? OPENAI_BASE_URL says where it is."
            raise MachineError(f"{self.name} gave no answer: {self._said(cause)}", hint) from error
        except openai.APIStatusError as error:
            told = f"{self.name} answers: {self._said(error)}"
            if error.status_code in (408, 409, 429) or error.status_code >= 500:
                wait = error.response.headers.get("retry-after")
                later = f"Try again in {wait} seconds" if wait else "Try again later"
                raise MachineError(told, f"{later}; the answers so far are saved.") from error
            raise ModelError(told, "Check OPENAI_API_KEY, OPENAI_BASE_URL and the model's name.") from error
        except (openai.OpenAIError, ValueError) as error:
            raise self._half(self._said(error)) from error

    def _said(self, error):
        text = " ".join(str(error).split())[:300] or type(error).__name__
        return text.replace(self.key, "...") if self.key else text


def _stands_at(token, offset, prompt):
    """Whether a token is where it says; one that is a part of a character has no text to compare."""
    return prompt.startswith(token, offset) or "\ufffd" in token or token.startswith("bytes:")


def _number(variable, kind, default):
    said = os.environ.get(variable) or default
    try:
        number = kind(said)
    except ValueError:
        number = 0
    if not 0 < number < 10_000:
        raise UsageError(f"{variable}={said} is no number that can be", f"Leave it out for {default}.")
    return number


@hookimpl
def register_responders():
    kinds = (("openai:", False, "By completions"), ("openai-chat:", True, "By chat completions: it only writes"))
    return [ResponderSpec(prefix, told, partial(Endpoint, prefix, chat)) for prefix, chat, told in kinds]
