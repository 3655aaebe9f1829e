"""Weights of 8 bits: near the model with every engine; what cannot be is reported."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    BigBirdConfig,
    BigBirdForCausalLM,
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerBase,
)

from gpt_tasks.errors import ModelError, UsageError
from gpt_tasks.generation.decoding import Decoding
from gpt_tasks.generation.engine import CachedLoop
from gpt_tasks.generation.generator import Generator, open_writer
from gpt_tasks.generation.int8 import Translated, int8_engine
from gpt_tasks.generation.linear_kernels import multiplies_int8, product

native = pytest.mark.skipif(not multiplies_int8(), reason="this CPU does not multiply int8")


@pytest.fixture
def bloom() -> BloomForCausalLM:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = BloomConfig(
            vocab_size=384,
            hidden_size=32,
            n_layer=2,
            n_head=4,
            initializer_range=0.2,
            bos_token_id=0,
            eos_token_id=0,
            pad_token_id=0,
        )
        return BloomForCausalLM(config).eval()


@native
@pytest.mark.parametrize("gelu", [False, True])
def test_a_product_of_int8_is_near_the_whole_one_for_any_other_rows(gelu: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(48, 64, generator=generator), torch.randn(48, generator=generator)
    states = torch.randn(5, 64, generator=generator)
    states[2] *= 1000
    states[3] = 0
    multiply = product(weight, bias, "int8", gelu=gelu)
    right = states @ weight.T + bias
    right = torch.nn.functional.gelu(right, approximate="tanh") if gelu else right
    found = multiply(states)
    assert ((found - right).norm(dim=1) < 0.02 * right.norm(dim=1)).all()
    torch.testing.assert_close(multiply(states[:1]), found[:1])
    torch.testing.assert_close(multiply(states[:2].bfloat16()), multiply(states[:2].bfloat16().float()))
    torch.testing.assert_close(found[3], torch.nn.functional.gelu(bias, approximate="tanh") if gelu else bias)


@native
def test_the_embedded_gpt_is_hardly_worse_in_int8() -> None:
    """Perplexity over a text of the project's own, window by window.

    States that are nearly between two integers fall to either side by the last bit of a sum, which differs from CPU to
    CPU. That moves the mean over 256 tokens by 0.007 either way; over all of them, it is known to 0.002.
    """
    writer, small = (open_writer("tiny", device="cpu", precision=name) for name in ("float32", "int8"))
    text = (Path(__file__).parents[2] / "gpt_tasks/backbone/embedded/tiny/README.md").read_text()
    ids = writer.tokenizer(text, verbose=False)["input_ids"]
    engines = [each._engine_for(Decoding.checked()) for each in (writer, small)]
    with torch.inference_mode():
        whole, eighth = (
            torch.cat(
                [
                    torch.nn.functional.cross_entropy(
                        engine._decoder.logits(window)[:-1], torch.tensor(window[1:]), reduction="none"
                    )
                    for window in (ids[start : start + 256] for start in range(0, len(ids), 256))
                ]
            )
            for engine in engines
        )
    assert len(whole) > 1500
    assert not torch.equal(whole, eighth)
    assert abs((eighth - whole).mean().item()) < 0.01


@native
def test_int8_writes_as_requested(capsys: Any) -> None:
    writer = open_writer("tiny", device="cpu", precision="int8")
    shown: list[str] = []
    ((written,),) = writer.write(["The old house"], Decoding.checked(max_new_tokens=20), on_text=shown.append)
    assert "".join(shown) == written.text
    assert written.tokens == 20
    drawing = Decoding.checked(max_new_tokens=20, temperature=1.0, num_return_sequences=2, seed=3)
    assert writer.write(["The old house"], drawing) == writer.write(["The old house"], drawing)
    with pytest.raises(UsageError, match="int8 follows one text at a time"):
        writer.write(["The old house"], Decoding.checked(num_beams=2))


def test_int8_is_for_a_cpu() -> None:
    from gpt_tasks.backbone.precision import resolve_precision, resolve_writing_precision

    cuda, cpu = torch.device("cuda"), torch.device("cpu")
    with pytest.raises(UsageError, match="--precision int8 is for generation on a CPU, not on cuda"):
        resolve_writing_precision("int8", cuda)
    with pytest.raises(UsageError, match="--precision int4: no such precision"):
        resolve_writing_precision("int4", cpu)
    with pytest.raises(UsageError, match="--precision int8 is only for generation"):
        resolve_precision("int8", cpu)


def test_ctranslate2_writes_what_our_loop_does_not_know(
    bloom: BloomForCausalLM, tiny_tokenizer: PreTrainedTokenizerBase
) -> None:
    pytest.importorskip("ctranslate2")
    writer = Generator(bloom, tiny_tokenizer, window=64, precision="int8")
    assert isinstance(writer._engine_for(Decoding.checked()), Translated)
    prompts = ["The soup was cold and the", "She", "The train was late, the coffee"]
    together = writer.write(prompts, Decoding.checked(max_new_tokens=10))
    assert [each.tokens for (each,) in together if each.finish_reason == "length"]
    assert together == [writer.write([prompt], Decoding.checked(max_new_tokens=10))[0] for prompt in prompts]
    sizes = [len(tiny_tokenizer(prompt)["input_ids"]) for prompt in prompts]
    whole = writer.write(prompts, Decoding.checked(max_length=30))
    for size, (each,) in zip(sizes, whole, strict=True):
        assert each.tokens == 30 - size or each.finish_reason == "end"


def test_ctranslate2_streams_stops_ends_and_draws(
    bloom: BloomForCausalLM, tiny_tokenizer: PreTrainedTokenizerBase
) -> None:
    pytest.importorskip("ctranslate2")
    writer = Generator(bloom, tiny_tokenizer, window=64, precision="int8")
    shown: list[str] = []
    ((free,),) = writer.write(["The soup"], Decoding.checked(max_new_tokens=12), on_text=shown.append)
    assert "".join(shown) == free.text
    stop = free.text[3:6]
    ((stopped,),) = writer.write(["The soup"], Decoding.checked(max_new_tokens=12, stop=(stop,)))
    assert (stopped.text, stopped.finish_reason) == (free.text.split(stop)[0], "stop")
    third = tiny_tokenizer(free.text)["input_ids"][2]
    writer.end_also_at([third])
    ((ended,),) = writer.write(["The soup"], Decoding.checked(max_new_tokens=12))
    assert ended.finish_reason == "end"
    assert free.text.startswith(ended.text)
    drawing = Decoding.checked(max_new_tokens=12, temperature=1.0, num_return_sequences=3, seed=3)
    (drawn,) = writer.write(["The soup"], drawing)
    assert [drawn] == writer.write(["The soup"], drawing)
    assert len({each.text for each in drawn}) == 3


def test_without_ctranslate2_the_way_to_it_is_reported(
    bloom: BloomForCausalLM, tiny_tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    with pytest.raises(UsageError) as raised:
        int8_engine(bloom, tiny_tokenizer)
    assert raised.value.message == "--precision int8: a model of type 'bloom' needs CTranslate2 for that here"
    assert raised.value.hint == "pip install 'gpt-tasks[int8]'"


def test_a_model_that_ctranslate2_cannot_convert_is_reported(tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    pytest.importorskip("ctranslate2")
    config = BigBirdConfig(
        vocab_size=384,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        is_decoder=True,
        attention_type="original_full",
    )
    with pytest.raises(ModelError) as raised:
        int8_engine(BigBirdForCausalLM(config).eval(), tiny_tokenizer)
    assert raised.value.message.startswith("--precision int8: CTranslate2 cannot convert this model: No conversion is")
    assert "\n" not in raised.value.message


def test_what_only_generate_heeds_is_reported(bloom: BloomForCausalLM, tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    pytest.importorskip("ctranslate2")
    bloom.generation_config.suppress_tokens = [3]
    with pytest.raises(ModelError, match="the model's generation config asks for suppress_tokens"):
        int8_engine(bloom, tiny_tokenizer)


def test_a_model_that_ctranslate2_takes_for_another_is_reported(tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    """Its converter ignores this setting of GPT-2's."""
    pytest.importorskip("ctranslate2")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = GPT2Config(vocab_size=384, n_positions=64, n_embd=32, n_layer=2, n_head=2, initializer_range=0.5)
        config.scale_attn_weights = False
        model = GPT2LMHeadModel(config).eval()
    with pytest.raises(ModelError, match="CTranslate2 does not reproduce this model"):
        Translated(model, tiny_tokenizer)
    if multiplies_int8():
        assert isinstance(int8_engine(model, tiny_tokenizer), CachedLoop)
