"""The loop of our own writes what transformers' `generate` writes, token for token; what it does not know it leaves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerBase

from gpt_tasks.generation.decoding import Decoding
from gpt_tasks.generation.engine import CachedLoop, Generating, can_loop
from gpt_tasks.generation.generator import Generator, open_writer
from gpt_tasks.generation.linear_kernels import multiplies_int8
from gpt_tasks.generation.packed import PackedDecoder
from gpt_tasks.generation.rows import BatchOutputs

CLOSE = 1e-4
TEXTS = [
    "The old house stood at the end of the lane, and nobody had lived in it since",
    "She",
    "It was raining when the train came in, and nobody on the platform had thought of bringing an umbrella, so that",
    "I am very glad to see you, said the",
]


def random_gpt2(seed: int = 0, **settings: Any) -> GPT2LMHeadModel:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = {"vocab_size": 384, "n_positions": 64, "n_embd": 32, "n_layer": 3, "n_head": 4, **settings}
        model = GPT2LMHeadModel(GPT2Config(bos_token_id=0, eos_token_id=0, initializer_range=0.2, **config))
        for parameter in model.parameters():
            if parameter.ndim == 1:  # biases and norms that are not trained would hide that they are left out
                parameter.data.add_(torch.randn_like(parameter) * 0.1)
    model.generation_config.eos_token_id = None
    return model.eval()


def tokens_by(engine: Any, tokenizer: Any, prompts: Sequence[Sequence[int]], new: int, **settings: Any) -> list[Any]:
    """The tokens of each prompt's rows, without any end."""
    found: list[list[int]] = [[] for _ in range(len(prompts) * settings.get("num_return_sequences", 1))]

    class Kept(BatchOutputs):
        def take(self, row: int, token: int) -> bool:
            if not self.done[row]:
                found[row].append(token)
            return super().take(row, token)

    rows = Kept(tokenizer, [[0]] * len(found), [new] * len(found), ends=frozenset())
    generator = torch.Generator().manual_seed(settings.get("seed", 0))
    engine.write(prompts, Decoding.checked(max_new_tokens=new, **settings), rows, generator)
    return found


def random_prompts(*lengths: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(1, 384, (length,), generator=generator).tolist() for length in lengths]


def parted_at_a_tie(model: Any, prompt: Sequence[int], one: Sequence[int], other: Sequence[int]) -> bool:
    """Whether the two best logits are as good as equal where two texts part."""
    common = next(place for place, pair in enumerate(zip(one, other, strict=True)) if len(set(pair)) > 1)
    with torch.inference_mode():
        best = model(torch.tensor([[*prompt, *one[:common]]])).logits[0, -1].topk(2).values
    return bool(best[0] - best[1] < CLOSE)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"n_inner": 50},
        {"activation_function": "relu"},
        {"activation_function": "gelu"},
        {"scale_attn_by_inverse_layer_idx": True},
        {"scale_attn_weights": False},
        {"tie_word_embeddings": False},
        {"layer_norm_epsilon": 0.1},
    ],
    ids=str,
)
def test_greedy_tokens_are_those_of_generate(tiny_tokenizer: PreTrainedTokenizerBase, settings: dict[str, Any]) -> None:
    model = random_gpt2(**settings)
    prompts = random_prompts(3, 17, 8, 1)
    assert can_loop(model)
    ours = tokens_by(CachedLoop(model, "float32"), tiny_tokenizer, prompts, 30)
    for prompt, row in zip(prompts, ours, strict=True):
        (alone,) = tokens_by(Generating(model, tiny_tokenizer, "float32"), tiny_tokenizer, [prompt], 30)
        assert row == alone or parted_at_a_tie(model, prompt, row, alone)


def test_greedy_tokens_of_the_embedded_gpt_are_those_of_generate() -> None:
    writer = open_writer("tiny", device="cpu", precision="float32")
    model, tokenizer = writer._model, writer.tokenizer
    prompts = [tokenizer(text)["input_ids"] for text in TEXTS]
    looping, generating = CachedLoop(model, "float32"), Generating(model, tokenizer, "float32")
    together = tokens_by(looping, tokenizer, prompts, 40)
    for prompt, row in zip(prompts, together, strict=True):
        (alone,) = tokens_by(looping, tokenizer, [prompt], 40)
        (theirs,) = tokens_by(generating, tokenizer, [prompt], 40)
        for other in (alone, theirs):
            assert row == other or parted_at_a_tie(model, prompt, row, other)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_padding_changes_no_logits(precision: Any) -> None:
    """Short prompts next to longer and longer ones."""
    packed = PackedDecoder(random_gpt2(), precision)
    short, *longer = random_prompts(5, 6, 20, 40)
    with torch.inference_mode():
        _, (alone,) = packed.start([short], 1)
        for other in longer:
            memory, logits = packed.start([other, short], 3)
            torch.testing.assert_close(logits[1], alone, atol=1e-5 if precision == "float32" else 0.1, rtol=0)
            stepped = packed.step(torch.tensor([7, 7]), memory)[1]
            _, (read,) = packed.start([[*short, 7]], 1)
            torch.testing.assert_close(stepped, read, atol=1e-5 if precision == "float32" else 0.1, rtol=0)


@pytest.mark.parametrize(("precision", "apart"), [("float32", 1e-5), ("bf16", 0.03), ("int8", 0.03)])
def test_logits_are_the_models_as_near_as_the_precision_allows(precision: Any, apart: float) -> None:
    if precision == "int8" and not multiplies_int8():
        pytest.skip("this CPU does not multiply int8")
    model = random_gpt2()
    (ids,) = random_prompts(40)
    with torch.inference_mode():
        right = model(torch.tensor([ids])).logits[0]
        found = PackedDecoder(model, precision).logits(ids)
    assert ((found - right).norm() / right.norm()) < apart
    assert (found == right).all() or precision != "float32" or (found - right).abs().max() < 1e-4


def test_rows_that_are_done_leave_and_the_others_write_on(tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    model = random_gpt2()
    prompts = random_prompts(3, 17, 8, 1, 5, 12)
    max_new_tokens = [1, 30, 2, 9, 1, 40]
    writer = Generator(model, tiny_tokenizer, window=None)
    whole = tokens_by(CachedLoop(model, "float32"), tiny_tokenizer, prompts, 40)
    left: list[int] = []

    class Watched(CachedLoop):
        def __init__(self) -> None:
            super().__init__(model, "float32")
            step = self._decoder.step
            self._decoder.step = lambda tokens, memory: (left.append(len(tokens)), step(tokens, memory))[1]  # type: ignore

    rows = BatchOutputs(tiny_tokenizer, prompts, max_new_tokens, ends=frozenset())
    Watched().write(prompts, Decoding.checked(max_new_tokens=40), rows, torch.Generator())
    for row, room, written in zip(whole, max_new_tokens, rows.written(), strict=True):
        assert written.text == tiny_tokenizer.decode(row[:room], skip_special_tokens=True)
    assert left[0] == 4
    assert left[-1] == 1
    assert isinstance(writer._engine_for(Decoding.checked()), CachedLoop)


def test_a_batch_continues_when_its_longest_row_fills_the_window(tiny_backbone_folder: Path) -> None:
    """Also in `generate`, whose rows are computed on when they are done, past the last position there is."""
    writer = open_writer(str(tiny_backbone_folder), device="cpu", precision="float32")
    prompts = ["a", "The soup was cold and the waiter never came back.", "She plays the cello", "b"]
    sizes = [len(writer.tokenizer(prompt)["input_ids"]) for prompt in prompts]
    by_ours = writer.write(prompts, Decoding.checked(max_new_tokens=1000))
    writer._model.generation_config.no_repeat_ngram_size = 60  # which changes nothing, but is for `generate` only
    assert not can_loop(writer._model)
    by_generate = Generator(writer._model, writer.tokenizer, window=64).write(
        prompts, Decoding.checked(max_new_tokens=1000)
    )
    assert by_ours == by_generate
    assert [each.tokens for (each,) in by_ours] == [64 - size for size in sizes]


def test_copies_of_a_prompt_are_drawn_from_the_same_logits_by_the_same_draws_as_generate(
    tiny_tokenizer: PreTrainedTokenizerBase,
) -> None:
    model = random_gpt2()
    prompts = random_prompts(5, 9)
    settings: dict[str, Any] = {"temperature": 0.8, "top_k": 50, "top_p": 0.9, "num_return_sequences": 3, "seed": 4}
    settings["repetition_penalty"] = 1.3
    ours = tokens_by(CachedLoop(model, "float32"), tiny_tokenizer, prompts, 20, **settings)
    theirs = tokens_by(Generating(model, tiny_tokenizer, "float32"), tiny_tokenizer, prompts, 20, **settings)
    assert ours == theirs
    assert len(set(map(tuple, ours))) == 6


def test_a_penalty_does_not_depend_on_padding(tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    model = random_gpt2()
    prompts = random_prompts(3, 30)
    for engine in (CachedLoop(model, "float32"), Generating(model, tiny_tokenizer, "float32")):
        together = tokens_by(engine, tiny_tokenizer, prompts, 25, repetition_penalty=3.0)
        (alone,) = tokens_by(engine, tiny_tokenizer, prompts[:1], 25, repetition_penalty=3.0)
        assert together[0] == alone


def test_weights_that_changed_are_laid_out_anew(tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    model = random_gpt2()
    writer = Generator(model, tiny_tokenizer, window=64)
    before = writer.write(["The soup"], Decoding.checked(max_new_tokens=12))
    assert writer.write(["The soup"], Decoding.checked(max_new_tokens=12)) == before
    other = random_gpt2(seed=1)
    model.load_state_dict(other.state_dict())
    assert writer.write(["The soup"], Decoding.checked(max_new_tokens=12)) != before
    fresh = Generator(other, tiny_tokenizer, window=64).write(["The soup"], Decoding.checked(max_new_tokens=12))
    assert writer.write(["The soup"], Decoding.checked(max_new_tokens=12)) == fresh


def altered(change: str) -> Any:
    model = random_gpt2()
    match change:
        case "another class":
            model.__class__ = type("Mine", (GPT2LMHeadModel,), {})
        case "another layer":
            model.transformer.h[1].mlp.c_fc.__class__ = type("Mine", (type(model.transformer.h[1].mlp.c_fc),), {})
        case "a hook":
            model.transformer.h[0].mlp.register_forward_hook(lambda *_: None)
        case "a generation config that asks for more":
            model.generation_config.suppress_tokens = [3]
        case "another architecture":
            config = GPTNeoXConfig(
                vocab_size=384, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
            )
            return GPTNeoXForCausalLM(config)
    return model


@pytest.mark.parametrize(
    "change",
    [
        "another class",
        "another layer",
        "a hook",
        "a generation config that asks for more",
        "another architecture",
    ],
)
def test_what_is_no_plain_gpt2_is_left_to_generate(tiny_tokenizer: PreTrainedTokenizerBase, change: str) -> None:
    model = altered(change)
    assert not can_loop(model)
    writer = Generator(model, tiny_tokenizer, window=64)
    assert isinstance(writer._engine_for(Decoding.checked()), Generating)
    ((written,),) = writer.write(["The soup"], Decoding.checked(max_new_tokens=3))
    assert written.tokens == 3 or written.finish_reason == "end"


def test_beams_are_those_of_generate() -> None:
    writer = open_writer("tiny", device="cpu", precision="float32")
    prompts = ["The old house", "She said that"]
    found = writer.write(prompts, Decoding.checked(max_new_tokens=12, num_beams=4, num_return_sequences=3))
    for prompt, texts in zip(prompts, found, strict=True):
        ids = writer.tokenizer(prompt, return_tensors="pt")
        right = writer._model.generate(**ids, max_new_tokens=12, num_beams=4, num_return_sequences=3, pad_token_id=0)
        new = right[:, ids["input_ids"].shape[1] :]
        assert [each.text for each in texts] == writer.tokenizer.batch_decode(new, skip_special_tokens=True)
        assert len({each.text for each in texts}) == 3
    (best,) = writer.write(prompts[:1], Decoding.checked(max_new_tokens=12, num_beams=4))
    assert best == found[0][:1]
    assert best != writer.write(prompts[:1], Decoding.checked(max_new_tokens=12))[0]
    with pytest.raises(ValueError, match="without beams"):
        writer.write(["She"], Decoding.checked(num_beams=2), on_text=print)


def test_beams_stop_at_a_stop_text_and_have_each_their_own_room(tiny_backbone_folder: Path) -> None:
    writer = open_writer("tiny", device="cpu", precision="float32")
    ((free,),) = writer.write(["The old house"], Decoding.checked(max_new_tokens=12, num_beams=3))
    stop = free.text[10:13]
    ((written,),) = writer.write(["The old house"], Decoding.checked(max_new_tokens=12, num_beams=3, stop=(stop,)))
    assert stop not in written.text
    assert written.finish_reason in ("stop", "length")
    small = open_writer(str(tiny_backbone_folder), device="cpu", precision="float32")
    prompts = ["a", "The soup was cold and the waiter"]
    sizes = [len(small.tokenizer(prompt)["input_ids"]) for prompt in prompts]
    found = small.write(prompts, Decoding.checked(max_length=40, num_beams=2))
    assert [each.tokens for (each,) in found] == [40 - size for size in sizes]
