"""A writer: batches write what each prompt writes alone, texts end where they should, drawing goes by its seed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from gpt_tasks.errors import DataError, UsageError
from gpt_tasks.generation import generator
from gpt_tasks.generation.decoding import Decoding
from gpt_tasks.generation.generator import Generator, open_writer
from gpt_tasks.progress import counting

PROMPTS = [
    "The old house stood",
    "I am very glad to see you, said",
    "She",
    "It was raining when the train came in, and nobody on the platform had thought of bringing",
    "天气很好",
    "Once upon a time there was a miller who had three sons and",
    "",
]
CLOSE = 1e-4


@pytest.fixture(scope="module")
def tiny() -> Generator:
    return open_writer("tiny", device="cpu", precision="float32")


@pytest.fixture
def small(tiny_backbone_folder: Path) -> Generator:
    """Random weights, a window of 64."""
    return open_writer(str(tiny_backbone_folder), device="cpu", precision="float32")


def two_are_close(writer: Generator, prompt: str, texts: Sequence[str]) -> bool:
    """Whether the two likeliest tokens are as good as equal where two continuations part."""
    ids = [writer.tokenizer(prompt + text)["input_ids"] for text in texts]
    common = next((place for place, pair in enumerate(zip(*ids, strict=False)) if len(set(pair)) > 1), None)
    if common is None:
        return False
    with torch.inference_mode():
        best = writer._model(torch.tensor([ids[0][:common]])).logits[0, -1].topk(2).values
    return bool(best[0] - best[1] < CLOSE)


def test_a_batch_writes_what_each_prompt_writes_alone(tiny: Generator) -> None:
    decoding = Decoding(max_new_tokens=24)
    together = [texts[0] for texts in tiny.write(PROMPTS, decoding)]
    one_by_one = [tiny.write([prompt], decoding)[0][0] for prompt in PROMPTS]
    said: list[int] = []
    with counting(said.append):
        pairs = tiny.write(PROMPTS, decoding, batch_tokens=100)
    assert sum(said) == len(PROMPTS) > said[0]
    assert any(len(each.text) > 20 for each in together)
    for prompt, *found in zip(PROMPTS, together, one_by_one, [texts[0] for texts in pairs], strict=True):
        texts = [each.text for each in found]
        assert len(set(texts)) == 1 or two_are_close(tiny, prompt, texts), prompt


def test_what_is_shown_as_it_comes_is_the_text(tiny: Generator) -> None:
    shown: list[str] = []
    ((written,),) = tiny.write(["The old house"], Decoding(max_new_tokens=20), on_text=shown.append)
    assert "".join(shown) == written.text
    assert len(shown) > 10
    assert (written.tokens, written.finish_reason) == (20, "length")


def test_a_stop_text_ends_one_row_and_not_the_others(tiny: Generator) -> None:
    free = tiny.write(PROMPTS, Decoding(max_new_tokens=24))
    stop = free[0][0].text[8:11]
    for (written,), (before,) in zip(tiny.write(PROMPTS, Decoding(max_new_tokens=24, stop=(stop,))), free, strict=True):
        assert written.text == before.text.split(stop)[0]
        assert (written.finish_reason == "stop") == (stop in before.text)


def test_the_end_of_text_ends_a_text(small: Generator) -> None:
    """With an output matrix of which the end-of-text row wins after any token."""
    model = small._model
    end = small.tokenizer.eos_token_id
    with torch.no_grad():
        model.lm_head.weight[end] = 100 * model.transformer.ln_f.bias.add(1)
        model.transformer.ln_f.bias.fill_(1.0)
    ((written,),) = small.write(["The soup"], Decoding(max_new_tokens=9))
    assert (written.text, written.tokens, written.finish_reason) == ("", 0, "end")


def test_the_total_and_the_window_bound_what_is_written(small: Generator) -> None:
    tokens = len(small.tokenizer("The soup was")["input_ids"])
    for settings, expected in (
        ({"max_length": tokens + 5}, 5),
        ({"max_new_tokens": 7, "max_length": tokens + 5}, 5),
        ({"max_new_tokens": 3, "max_length": tokens + 5}, 3),
        ({}, 64 - tokens),
        ({"max_new_tokens": 1000}, 64 - tokens),
    ):
        ((written,),) = small.write(["The soup was"], Decoding(**settings))
        assert written.tokens == expected or written.finish_reason == "end"
    with pytest.raises(DataError, match=rf"has {tokens} tokens, and prompt and text together may have {tokens}"):
        small.write(["The soup was"], Decoding(max_length=tokens))
    with pytest.raises(DataError, match="and prompt and text together may have 64"):
        small.write(["The soup was cold " * 20], Decoding())
    with pytest.raises(DataError, match="the model reads at most 64"):
        small.next_tokens("The soup was cold " * 20, 3)


def test_prompts_of_one_batch_have_each_their_own_room(small: Generator) -> None:
    prompts = ["a", "The soup was cold and the waiter never came back."]
    sizes = [len(small.tokenizer(prompt)["input_ids"]) for prompt in prompts]
    found = small.write(prompts, Decoding(max_length=40))
    assert [each.tokens for (each,) in found] == [40 - size for size in sizes]


def test_drawing_goes_by_its_seed(tiny: Generator) -> None:
    def drawn(seed: int) -> list[str]:
        settings = Decoding(max_new_tokens=12, temperature=1.0, num_return_sequences=3, seed=seed)
        (texts,) = tiny.write(["The old house"], settings)
        return [each.text for each in texts]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert len(set(drawn(1))) == 3


def test_a_narrow_draw_is_the_likeliest_token(tiny: Generator) -> None:
    greedy = tiny.write(["The old house"], Decoding(max_new_tokens=12))
    for settings in ({"top_k": 1}, {"top_p": 1e-6}, {"temperature": 0.0}, {"temperature": 1e-3}):
        assert tiny.write(["The old house"], Decoding(max_new_tokens=12, **settings)) == greedy


def test_tokens_of_the_context_are_less_likely_with_a_penalty(tiny: Generator) -> None:
    ((written,),) = tiny.write(["The old house"], Decoding(max_new_tokens=40, repetition_penalty=100.0))
    ids = tiny.tokenizer(written.text)["input_ids"]
    assert len(set(ids)) > 0.9 * len(ids)


def test_the_next_tokens_are_a_distribution(small: Generator) -> None:
    every = small.next_tokens("The soup", 10_000)
    assert len(every) == 384
    assert sum(each.probability for each in every) == pytest.approx(1, abs=1e-4)
    assert [each.probability for each in every] == sorted((each.probability for each in every), reverse=True)
    ((written,),) = small.write(["The soup"], Decoding(max_new_tokens=1))
    assert every[0].text == written.text or written.finish_reason == "end"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"top_p": 1.5}, "--top-p 1.5: input should be less than or equal to 1"),
        ({"top_p": 0.0}, "--top-p 0.0"),
        ({"top_k": 0}, "--top-k 0"),
        ({"temperature": -1.0}, "--temperature -1.0"),
        ({"temperature": 1e-39}, "--temperature 1e-39 is below 0.0001"),
        ({"temperature": float("nan")}, "--temperature nan"),
        ({"repetition_penalty": 1e-39}, "--repetition-penalty 1e-39"),
        ({"top_k": 10**30}, "--top-k 1000"),
        ({"max_new_tokens": 10**30}, "--max-new-tokens 1000"),
        ({"temperature": 0.0, "top_p": 0.5}, "--top-p 0.5 is of no use: --temperature 0 draws nothing"),
        ({"num_return_sequences": 2}, "--num-return-sequences 2: without drawing, all would be the same"),
        ({"repetition_penalty": 0.0}, "--repetition-penalty 0.0"),
        ({"num_beams": 0}, "--num-beams 0"),
        ({"num_beams": 4, "temperature": 0.7}, "--temperature 0.7 is of no use: --num-beams 4 looks for"),
        ({"num_beams": 2, "num_return_sequences": 3}, "--num-return-sequences 3: --num-beams 2 finds no more"),
        ({"max_new_tokens": 0}, "--max-new-tokens 0"),
        ({"max_length": 0}, "--max-length 0"),
        ({"seed": -1}, "--seed -1"),
        ({"stop": ("",)}, "--stop: the text to stop at is empty"),
    ],
)
def test_settings_that_cannot_be_are_named(settings: dict[str, object], told: str) -> None:
    with pytest.raises(UsageError) as raised:
        Decoding.checked(**settings)
    assert raised.value.message.startswith(told)
    assert raised.value.hint


@pytest.mark.parametrize("asked", [{"num_return_sequences": 100_000_000, "top_k": 5}, {"num_beams": 1000}])
def test_more_texts_than_memory_holds_are_refused_before_any_is_written(
    tiny: Generator, asked: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generator, "machine_memory", lambda: 1e8)
    with pytest.raises(UsageError, match=r"--num-\w+-?\w* \d+: so many texts of .* take [\d,]+ GB"):
        tiny.write(["The soup"], Decoding.checked(**asked))
