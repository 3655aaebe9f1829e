"""Answers are saved at once, and nothing is taken from a file that is not whole or not this model's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gpt_tasks.scoring.cache import AnswerCache, key_of_generation, key_of_path
from gpt_tasks.scoring.requests import TokenizedRequest
from gpt_tasks.types import Generation, LogLikelihood

IDENTITY = {"model": "sha256:1", "precision": "float32"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "answers.jsonl"


def fill(path: Path, **answers: LogLikelihood | str) -> None:
    with AnswerCache(path, IDENTITY, print) as cache:
        for key, answer in answers.items():
            cache.put(key, answer)


def read(path: Path, identity: dict[str, str] = IDENTITY) -> tuple[dict[str, LogLikelihood | str], list[str]]:
    said: list[str] = []
    with AnswerCache(path, identity, said.append) as cache:
        return dict(cache.answers), said


def test_answers_come_back_as_they_were(path: Path) -> None:
    fill(path, a=LogLikelihood(-1.25, True), b="a text\nof two lines ✓")
    fill(path, c=LogLikelihood(-1e30, False))
    answers, said = read(path)
    assert answers == {
        "a": LogLikelihood(-1.25, True),
        "b": "a text\nof two lines ✓",
        "c": LogLikelihood(-1e30, False),
    }
    assert said == []


def test_a_file_that_was_cut_short_is_used_up_to_there(path: Path) -> None:
    fill(path, a=LogLikelihood(-1.0, True), b=LogLikelihood(-2.0, False))
    whole = path.read_text()
    for cut in range(len(whole.splitlines()[0]) + 2, len(whole)):
        path.write_text(whole[:cut])
        answers, said = read(path)
        lines = whole[:cut].count("\n") - 1
        assert list(answers) == ["a", "b"][:lines]
        assert read(path) == (answers, []), "it is written anew, so that nothing is to be said the next time"
        assert bool(said) == (not whole[:cut].endswith("\n"))


@pytest.mark.parametrize("other", [{"model": "sha256:2", "precision": "float32"}, {**IDENTITY, "precision": "bf16"}])
def test_answers_of_another_model_are_not_used(path: Path, other: dict[str, str]) -> None:
    fill(path, a=LogLikelihood(-1.0, True))
    answers, said = read(path, other)
    assert answers == {}
    assert "another model" in said[0]
    assert json.loads(path.read_text().splitlines()[0])["precision"] == other["precision"]
    path.with_name("answers.jsonl.aside").replace(path)
    assert list(read(path)[0]) == ["a"], "they are put aside, not lost"


def test_a_file_of_another_version_is_not_used(path: Path) -> None:
    fill(path, a=LogLikelihood(-1.0, True))
    path.write_text(path.read_text().replace('"version": 1', '"version": 0'))
    answers, said = read(path)
    assert answers == {}
    assert "version" in said[0]


@pytest.mark.parametrize("content", ["", "no json", "[1, 2]", '{"version": 1}\n["a"', "\x80"])
def test_any_other_file_is_written_anew(path: Path, content: str) -> None:
    path.write_text(content, encoding="latin-1")
    assert read(path)[0] == {}
    fill(path, a="x")
    assert read(path) == ({"a": "x"}, [])


def test_what_other_processes_left_is_taken_over(path: Path) -> None:
    other = path.with_name("answers-1.jsonl")
    fill(path, a="x")
    fill(other, b="y")
    with AnswerCache(path, IDENTITY, print, [other]):
        assert not other.exists()
    assert read(path)[0] == {"a": "x", "b": "y"}


def test_keys_distinguish_what_differs() -> None:
    paths = [
        TokenizedRequest((1, 2), (3,)),
        TokenizedRequest((1,), (2, 3)),
        TokenizedRequest((1, 2, 3), ()),
        TokenizedRequest((1, 2), (4,)),
    ]
    generations = [((1, 2), ("a",), 3), ((1, 2), ("a",), 4), ((1, 2), ("b",), 3), ((1,), ("a",), 3)]
    keys = [key_of_path(path) for path in paths]
    keys += [key_of_generation(Generation("", stop, most), context) for context, stop, most in generations]
    assert len(set(keys)) == len(keys)
