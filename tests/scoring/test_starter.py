"""The built-in suite: all of its items can be read, none occurs twice, and no rule of thumb answers them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from gpt_tasks.plugins import installed_plugins
from gpt_tasks.scoring.prompting import read_examples
from gpt_tasks.scoring.suites import ScoredTask, load_suite
from gpt_tasks.types import Continuation, Example

CHOICES = ("sense", "reading")


@pytest.fixture(scope="module")
def tasks() -> dict[str, ScoredTask]:
    suite = load_suite("starter", installed_plugins().registry)
    return {task.name: task for task in suite.tasks}


@pytest.fixture(scope="module")
def examples(tasks: dict[str, ScoredTask]) -> dict[str, list[Example]]:
    schemes = installed_plugins().registry.sources
    return {name: [example for example, _ in read_examples(task, schemes, None)] for name, task in tasks.items()}


@pytest.fixture(scope="module")
def files(tasks: dict[str, ScoredTask]) -> list[Path]:
    return [installed_plugins().registry.suites["starter"].path, *(Path(task.source) for task in tasks.values())]


def share_right(examples: list[Example], best: Callable[[list[int]], int]) -> float:
    """How often the choice of the best length is the right one, ties drawn by lot."""
    right = 0.0
    for example in examples:
        lengths = [len(choice) for choice in example.choices]
        picked = [choice for choice in example.choices if len(choice) == best(lengths)]
        right += (example.choices[int(str(example.target))] in picked) / len(picked)
    return right / len(examples)


def test_items_of_every_task_are_many(examples: dict[str, list[Example]]) -> None:
    assert {name: len(some) for name, some in examples.items()} == {
        "grammar": 80,
        "sense": 70,
        "ending": 40,
        "reading": 40,
    }


def test_data_lies_next_to_the_suite(files: list[Path]) -> None:
    assert all(file.is_file() for file in files)


def test_no_text_occurs_twice(tasks: dict[str, ScoredTask], examples: dict[str, list[Example]]) -> None:
    texts: Counter[str] = Counter()
    for name, some in examples.items():
        for example in some:
            asked = [request for request in tasks[name].task.requests(example, "") if isinstance(request, Continuation)]
            beginnings = {request.context for request in asked} - {""}
            texts.update(" ".join(text.casefold().split()) for text in beginnings)
            texts.update(" ".join((request.context + request.text).casefold().split()) for request in asked)
            texts.update(example.inputs[field].casefold() for field in ("passage",) if field in example.inputs)
    assert not [text for text, times in texts.items() if times > 1]


@pytest.mark.parametrize("name", CHOICES)
def test_right_answers_are_equally_frequent_at_every_index(examples: dict[str, list[Example]], name: str) -> None:
    for number in (2, 3, 4):
        places = Counter(int(str(example.target)) for example in examples[name] if len(example.choices) == number)
        assert set(places) == set(range(number))
        assert max(places.values()) - min(places.values()) <= 2


@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.parametrize("best", [min, max], ids=["shortest", "longest"])
def test_length_does_not_give_the_answer_away(
    examples: dict[str, list[Example]], name: str, best: Callable[[list[int]], int]
) -> None:
    chance = sum(1 / len(example.choices) for example in examples[name]) / len(examples[name])
    assert share_right(examples[name], best) == pytest.approx(chance, abs=0.1)


def test_sentences_of_a_minimal_pair_are_nearly_equally_long(examples: dict[str, list[Example]]) -> None:
    for example in examples["grammar"]:
        good, bad = (len(sentence.split()) for sentence in example.choices)
        assert abs(good - bad) <= 1, example.where
        assert example.target == "0", example.where


def test_every_phenomenon_of_grammar_has_as_many_pairs(examples: dict[str, list[Example]]) -> None:
    phenomena = Counter(example.extra["phenomenon"] for example in examples["grammar"])
    assert len(phenomena) == 10
    assert set(phenomena.values()) == {8}


def test_an_ending_is_a_single_word(examples: dict[str, list[Example]]) -> None:
    for example in examples["ending"]:
        assert example.inputs["target"].isalpha(), example.where
        assert example.inputs["context"] == example.inputs["context"].rstrip(), example.where


def test_files_are_utf8_with_a_final_newline(files: list[Path]) -> None:
    for file in files:
        text = file.read_bytes().decode("utf-8")
        assert text.endswith("\n"), file
        assert not text.endswith("\n\n"), file
        assert "\r" not in text, file
        assert "\ufeff" not in text, file
