"""Answers that were found before, in a file of JSON lines: a stopped scoring continues where it was."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from gpt_tasks.files import atomic_write, parse_json
from gpt_tasks.scoring.requests import TokenizedRequest
from gpt_tasks.types import Generation, LogLikelihood, Request, Response

VERSION = 1


class AnswerCache:
    """Answers by request, for one model answering in one way; every answer is written at once.

    `identity` says whose answers they are. A file of another identity or version is put aside, and one that was cut
    short is read up to there and written anew: both are reported through `say`. The answers of `others`, which other
    processes left, are taken over, and these files removed.
    """

    def __init__(
        self, path: Path, identity: Mapping[str, Any], say: Callable[[str], None], others: Sequence[Path] = ()
    ) -> None:
        self.path = path
        self._header = {"version": VERSION, **identity}
        self._answers: dict[str, Response] = {}
        whole = self._read(path, say)
        for other in others:
            self._read(other, say)
        if not whole or others:
            with atomic_write(path) as file:
                file.write(json.dumps(self._header) + "\n")
                file.writelines(_line(key, answer) for key, answer in self._answers.items())
        for other in others:
            other.unlink(missing_ok=True)
        self._file = path.open("a", encoding="utf-8", newline="\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file; where something failed before the first answer, there is nothing to continue from."""
        self._file.close()
        if error is not None and not self._answers:
            self.path.unlink(missing_ok=True)

    @property
    def answers(self) -> dict[str, Response]:
        """All answers, by key."""
        return self._answers

    def put(self, key: str, answer: Response) -> None:
        """Store an answer."""
        self._answers[key] = answer
        self._file.write(_line(key, answer))

    def flush(self) -> None:
        """Flush the stored answers to the system, so that a kill does not lose them."""
        self._file.flush()

    def _read(self, path: Path, say: Callable[[str], None]) -> bool:
        """Read a file; return whether answers can be appended to it."""
        if not path.is_file():
            return False
        try:
            with path.open(encoding="utf-8") as lines:
                if parse_json(next(lines, "")) != self._header:
                    aside = path.with_name(path.name + ".aside")
                    say(
                        f"{path}: its answers are of another model, precision, engine or version: put aside as {aside}."
                    )
                    path.replace(aside)
                    return False
                for line in lines:
                    if not line.endswith("\n"):
                        raise ValueError("cut short")
                    key, answer = _parsed(line)
                    self._answers[key] = answer
        except (ValueError, RecursionError):
            say(f"{path}: damaged after {len(self._answers):,} answers: these are used, the rest is written anew.")
            return False
        return True


def key_of_path(path: TokenizedRequest) -> str:
    """Return the key of a path: equal for equal tokens only."""
    return _digest(array("i", [len(path.targets), *path.inputs, *path.targets]).tobytes())


def key_of_generation(request: Generation, context: tuple[int, ...]) -> str:
    """Return the key of a generation."""
    asked = json.dumps([request.stop, request.max_tokens]).encode()
    return _digest(b"generation\0" + asked + array("i", context).tobytes())


def key_of_request(request: Request) -> str:
    """Return the key of a request by its texts, where its tokens are unknown."""
    return _digest(json.dumps([type(request).__name__, asdict(request)], sort_keys=True).encode())


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=12).hexdigest()


def _parsed(line: str) -> tuple[str, Response]:
    match json.loads(line):
        case [str(key), str(text)]:
            return key, text
        case [str(key), float() | int() as value, bool(is_greedy)]:
            return key, LogLikelihood(value, is_greedy)
        case [str(key), float() | int() as value, bool(is_greedy), int(tokens)]:
            return key, LogLikelihood(value, is_greedy, tokens)
    raise ValueError("no answer")


def _line(key: str, answer: Response) -> str:
    if isinstance(answer, str):
        return json.dumps([key, answer]) + "\n"
    tokens = [answer.tokens] if answer.tokens else []
    return json.dumps([key, answer.value, answer.is_greedy, *tokens], allow_nan=False) + "\n"
