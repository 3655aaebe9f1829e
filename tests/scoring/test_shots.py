"""Shots are drawn as lm-evaluation-harness draws them, and never the example itself."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpt_tasks.errors import DataError
from gpt_tasks.scoring.shots import shots_for
from gpt_tasks.types import Example

POOL = [Example({"text": f"text {number}"}, str(number % 2), f"pool:{number}") for number in range(20)]


def drawn(sampler: str, *, own: bool, seed: int = 1234, count: int = 3) -> list[list[str]]:
    examples = POOL[:8] if own else [replace(each, inputs={"text": f"new {n}"}) for n, each in enumerate(POOL[:8])]
    shots = shots_for(POOL, count, own=own, sampler=sampler, seed=seed)  # type: ignore[arg-type]
    return [[shot.inputs["text"] for shot in shots(example)] for example in examples]


@pytest.mark.parametrize("own", [True, False])
def test_the_same_as_lm_evaluation_harness_for_the_same_seed(own: bool) -> None:
    samplers = pytest.importorskip("lm_eval.api.samplers")
    theirs = samplers.ContextSampler([{"text": shot.inputs["text"]} for shot in POOL], rnd=1234)
    expected = [
        [shot["text"] for shot in theirs.sample(3, eval_doc={"text": example.inputs["text"]} if own else None)]
        for example in POOL[:8]
    ]
    assert drawn("random", own=own) == expected


@pytest.mark.parametrize("sampler", ["random", "fixed", "similar"])
@pytest.mark.parametrize("seed", range(20))
def test_never_the_example_itself(sampler: str, seed: int) -> None:
    for place, shots in enumerate(drawn(sampler, own=True, seed=seed)):
        assert len(set(shots)) == 3
        assert f"text {place}" not in shots


def test_fixed_shots_are_the_same_for_all() -> None:
    assert len(set(map(tuple, drawn("fixed", own=False)))) == 1
    assert len(set(map(tuple, drawn("random", own=False)))) > 1


def test_another_seed_draws_others() -> None:
    assert drawn("random", own=False) != drawn("random", own=False, seed=1)


def test_equal_examples_in_the_pool_are_not_the_shots_of_each_other() -> None:
    pool = [POOL[0]] * 5 + POOL[1:4]
    shots = shots_for(pool, 3, own=True, sampler="random", seed=0)
    assert sorted(shot.inputs["text"] for shot in shots(POOL[0])) == ["text 1", "text 2", "text 3"]


@pytest.mark.parametrize("sampler", ["random", "fixed", "similar"])
@pytest.mark.parametrize("seed", range(20))
def test_an_equal_text_is_never_a_shot_wherever_the_pool_is_from(sampler: str, seed: int) -> None:
    shots = shots_for(POOL[:5], 3, own=False, sampler=sampler, seed=seed)  # type: ignore[arg-type]
    for place, example in enumerate(POOL[:5]):
        # Neither white space nor another label makes it another text.
        asked = Example({"text": f" {example.inputs['text'].replace(' ', '  ')}\n"}, "2", "test:1")
        found = [shot.inputs["text"] for shot in shots(asked)]
        assert len(set(found)) == 3
        assert f"text {place}" not in found


@pytest.mark.parametrize("sampler", ["random", "fixed", "similar"])
def test_a_pool_of_equal_examples_is_reported(sampler: str) -> None:
    pool = [POOL[0]] * 6 + POOL[1:3]
    shots = shots_for(pool, 3, own=True, sampler=sampler, seed=0)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="2 examples with other texts are too few"):
        [shots(POOL[0]) for _ in range(20)]
    assert len(shots(POOL[1])) == 3


def test_too_small_a_pool_is_reported() -> None:
    with pytest.raises(DataError, match=r"^pool: 3 examples are too few to draw 3 shots from"):
        shots_for(POOL[:3], 3, own=True, sampler="random", seed=0)
    assert shots_for([], 0, own=True, sampler="random", seed=0)(POOL[0]) == []


@pytest.mark.parametrize(
    ("asked", "texts"),
    [
        ("the train to Oslo", ["a train in Oslo", "the ferry was late", "soup and bread", "the train from Oslo"]),
        # Scripts without spaces are compared by characters.
        ("火车去北京", ["北京的汽车", "我喜欢喝茶", "天气很好", "火车去上海"]),
    ],
)
def test_the_nearest_texts_are_shown_and_the_nearest_last(asked: str, texts: list[str]) -> None:
    pool = [Example({"text": text}, "0", f"pool:{number}") for number, text in enumerate(texts)]
    shots = shots_for(pool, 2, own=False, sampler="similar", seed=0)
    assert [shot.inputs["text"] for shot in shots(Example({"text": asked}, None, "test:1"))] == [texts[0], texts[3]]


def test_texts_without_a_word_are_taken_in_their_order() -> None:
    pool = [Example({"text": text}, "0", f"pool:{text}") for text in ("?", "!", "...")]
    shots = shots_for(pool, 2, own=False, sampler="similar", seed=0)
    assert [shot.inputs["text"] for shot in shots(Example({"text": "a word"}, None, "test:1"))] == ["!", "?"]
