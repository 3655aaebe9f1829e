"""Forward passes: each example gets its own outputs, in its place, for any batches and memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

from gpt_tasks.errors import ModelError
from gpt_tasks.heads.language_model import LanguageModel
from gpt_tasks.heads.model import HeadModel
from gpt_tasks.heads.sequence import SequenceHead
from gpt_tasks.heads.span import SpanHead
from gpt_tasks.learners.inference import forward, numbers_of, rows_of, tokens_of
from gpt_tasks.progress import counting
from gpt_tasks.types import Features

Kind = Literal["rows", "choices", "tokens", "losses"]
KINDS: tuple[Kind, ...] = ("rows", "choices", "tokens", "losses")
LENGTHS = (3, 17, 2, 9, 30, 2, 9, 12, 30, 5, 4, 8)
REDUCE = {"rows": rows_of, "choices": rows_of, "tokens": tokens_of, "losses": numbers_of}


@pytest.fixture
def models() -> dict[Kind, Any]:
    """A small backbone under a head of rows, of choices and of tokens, and by its own output matrix."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = GPT2Config(
            vocab_size=50, n_positions=32, n_embd=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0
        )
        causal_lm: Any = GPT2LMHeadModel(config)
        heads = {"rows": SequenceHead(16, 3), "choices": SequenceHead(16, 1), "tokens": SpanHead(16, 2)}
        # The heads begin near zero, where all answers are alike.
        for head in heads.values():
            nn.init.normal_(head.linear.weight)
        made: dict[Any, Any] = {kind: HeadModel(causal_lm.base_model, head).eval() for kind, head in heads.items()}
        return {**made, "losses": LanguageModel(causal_lm.base_model, causal_lm).eval()}


def features_of(kind: Kind, lengths: Sequence[int] = LENGTHS) -> list[Features]:
    """Texts of these lengths; of choices, two to four for each, some of them in two windows."""
    random = np.random.default_rng(0)
    found = []
    for place, length in enumerate(lengths):
        ids = random.integers(1, 50, length).tolist()
        if kind == "choices":
            about = (0, 1, 1, 2, 3)[: 2 + place % 4]
            found.append(Features([ids[: len(ids) - turn % 2] for turn in range(len(about))], choices=about))
        else:
            found.append(Features([ids], token_labels=[-100, *ids[1:]] if kind == "losses" else None))
    return found


def computed(kind: Kind, model: nn.Module, features: Sequence[Features], **settings: Any) -> list[np.ndarray]:
    def compute(batch: Mapping[str, Tensor]) -> Any:
        return model.losses(**batch) if kind == "losses" else model(**batch)["logits"]  # type: ignore[operator]

    return forward(
        model,
        features,
        **{
            "batch_tokens": 64,
            "pad_token_id": 0,
            "precision": "float32",
            "compute": compute,
            "reduce": REDUCE[kind],
            "with_labels": kind == "losses",
            **settings,
        },
    )


def out_of_memory(error: type[RuntimeError] = torch.OutOfMemoryError) -> RuntimeError:
    return error("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4000000000 bytes.")


def limited(model: Any, kind: Kind, most: int) -> tuple[Callable[[Mapping[str, Tensor]], Any], list[int]]:
    """What computes with a memory that holds so many examples at once, and the sizes that were requested."""
    sizes: list[int] = []

    def compute(batch: Mapping[str, Tensor]) -> Any:
        sizes.append(len(batch["input_ids"]))
        if sizes[-1] > most:
            raise out_of_memory(RuntimeError)
        return model.losses(**batch) if kind == "losses" else model(**batch)["logits"]

    return compute, sizes


@pytest.mark.parametrize("kind", KINDS)
def test_each_example_gets_its_own_in_its_place_in_any_batch(kind: Kind, models: dict[Kind, Any]) -> None:
    model, features = models[kind], features_of(kind)
    alone = [computed(kind, model, [each])[0] for each in features]
    for together in (computed(kind, model, features), computed(kind, model, features, batch_tokens=1)):
        assert [array.shape for array in together] == [array.shape for array in alone]
        for mine, right in zip(together, alone, strict=True):
            np.testing.assert_allclose(mine, right, atol=1e-5)
    backwards = computed(kind, model, features[::-1])[::-1]
    for mine, right in zip(backwards, alone, strict=True):
        np.testing.assert_allclose(mine, right, atol=1e-5)
    # Were all alike, any order would do.
    assert len({float(array.sum().round(3)) for array in alone}) > len(alone) / 2


def test_results_are_those_of_the_model_itself(models: dict[Kind, Any]) -> None:
    for kind in ("rows", "tokens"):
        features = features_of(kind)
        for each, mine in zip(features, computed(kind, models[kind], features), strict=True):
            ids = torch.tensor(each.sequences)
            with torch.no_grad():
                right = models[kind](ids, torch.ones_like(ids))["logits"][0]
            np.testing.assert_allclose(mine, right.numpy(), atol=1e-5)
    features = features_of("losses")
    causal_lm = models["losses"]._whole[0].eval()
    for each, mine in zip(features, computed("losses", models["losses"], features), strict=True):
        ids = torch.tensor(each.sequences)
        with torch.no_grad():
            right = nn.functional.cross_entropy(causal_lm(ids).logits[0, :-1], ids[0, 1:], reduction="sum")
        assert float(mine) == pytest.approx(float(right), abs=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_are_those_of_the_examples_and_without_padding(kind: Kind, models: dict[Kind, Any]) -> None:
    features = features_of(kind)
    shapes = {
        "rows": [(3,)] * len(features),
        "choices": [(max(each.choices, default=0) + 1,) for each in features],
        "tokens": [(len(each), 2) for each in features],
        "losses": [()] * len(features),
    }
    found = computed(kind, models[kind], features)
    assert [array.shape for array in found] == shapes[kind]
    assert all(np.isfinite(array).all() for array in found)


def test_tokens_of_several_sequences_come_one_sequence_after_the_other(models: dict[Kind, Any]) -> None:
    singles = features_of("tokens")[:4]
    alone = computed("tokens", models["tokens"], singles)
    several = [
        Features([*singles[0].sequences, *singles[1].sequences]),
        Features([*singles[3].sequences, *singles[2].sequences]),
        singles[1],
    ]
    found = computed("tokens", models["tokens"], several)
    np.testing.assert_allclose(found[0], np.concatenate([alone[0], alone[1]]), atol=1e-5)
    np.testing.assert_allclose(found[1], np.concatenate([alone[3], alone[2]]), atol=1e-5)
    np.testing.assert_allclose(found[2], alone[1], atol=1e-5)


@pytest.mark.parametrize("most", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_that_memory_does_not_hold_is_computed_in_halves(
    kind: Kind, most: int, models: dict[Kind, Any]
) -> None:
    model, features = models[kind], features_of(kind)
    whole = computed(kind, model, features, batch_tokens=10_000)
    compute, sizes = limited(model, kind, most)
    halves = computed(kind, model, features, batch_tokens=10_000, compute=compute)
    assert sizes[0] == len(features)
    assert sum(size for size in sizes if size <= most) == len(features)
    assert [array.shape for array in halves] == [array.shape for array in whole]
    for mine, right in zip(halves, whole, strict=True):
        np.testing.assert_allclose(mine, right, atol=1e-5)


def test_what_a_single_example_needs_is_not_halved(models: dict[Kind, Any]) -> None:
    compute, sizes = limited(models["rows"], "rows", 0)
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        computed("rows", models["rows"], features_of("rows"), batch_tokens=10_000, compute=compute)
    assert sizes == [12, 6, 3, 2, 1]


def test_another_error_is_not_taken_for_one_of_memory(models: dict[Kind, Any]) -> None:
    sizes = []

    def compute(batch: Mapping[str, Tensor]) -> Any:
        sizes.append(len(batch["input_ids"]))
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        computed("rows", models["rows"], features_of("rows"), batch_tokens=10_000, compute=compute)
    assert sizes == [12]


def test_memory_that_runs_out_in_reducing_halves_too(models: dict[Kind, Any]) -> None:
    features = features_of("rows")

    def reduce(batch: Mapping[str, Tensor], logits: Tensor) -> list[np.ndarray]:
        if len(logits) > 4:
            raise out_of_memory()
        return rows_of(batch, logits)

    whole = computed("rows", models["rows"], features)
    found = computed("rows", models["rows"], features, batch_tokens=10_000, reduce=reduce)
    np.testing.assert_allclose(np.stack(found), np.stack(whole), atol=1e-5)


def test_batches_hold_no_more_tokens_than_they_may(models: dict[Kind, Any]) -> None:
    shapes = []

    def compute(batch: Mapping[str, Tensor]) -> Any:
        shapes.append(tuple(batch["input_ids"].shape))
        return models["rows"](**batch)["logits"]

    computed("rows", models["rows"], features_of("rows"), batch_tokens=60, compute=compute)
    assert len(shapes) > 1
    assert all(rows * length <= 60 for rows, length in shapes)
    assert sum(rows for rows, _ in shapes) == len(LENGTHS)


@pytest.mark.parametrize("is_training", [False, True])
def test_each_part_of_a_model_is_left_in_its_mode(is_training: bool, models: dict[Kind, Any]) -> None:
    model = models["rows"].train(is_training)
    # Modes of its parts can differ, as where a part is frozen.
    model.head.train(not is_training)
    computed("rows", model, features_of("rows"))
    assert (model.training, model.backbone.training, model.head.training) == (is_training, is_training, not is_training)


def test_a_model_in_evaluation_mode_is_not_touched(models: dict[Kind, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nn.Module, "train", lambda *_: pytest.fail("another thread would be in another mode"))
    computed("rows", models["rows"], features_of("rows"))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("kind", KINDS)
def test_outputs_that_are_not_finite_are_refused(kind: Kind, value: float, models: dict[Kind, Any]) -> None:
    with torch.no_grad():
        models[kind].backbone.ln_f.bias[0] = value
    with pytest.raises(ModelError, match="my model: the model's outputs are not finite numbers"):
        computed(kind, models[kind], features_of(kind), name="my model")


def test_a_model_in_training_answers_as_in_evaluation_and_trains_on(models: dict[Kind, Any]) -> None:
    model, features = models["rows"], features_of("rows")
    right = computed("rows", model, features)
    model.train()
    for _ in range(2):
        np.testing.assert_allclose(np.stack(computed("rows", model, features)), np.stack(right), atol=1e-5)
    assert model.training
    assert model.backbone.training
    assert model.head.training


def test_a_model_whose_forward_fails_is_left_in_training(models: dict[Kind, Any]) -> None:
    def compute(batch: Mapping[str, Tensor]) -> Any:
        raise ValueError("no")

    model = models["rows"].train()
    with pytest.raises(ValueError, match="no"):
        computed("rows", model, features_of("rows"), compute=compute)
    assert model.training


def test_inference_mode_ends_with_each_batch(models: dict[Kind, Any]) -> None:
    modes = []

    class Watched(list[Features]):
        def __getitem__(self, index: Any) -> Any:
            modes.append(torch.is_inference_mode_enabled())
            return super().__getitem__(index)

    computed("rows", models["rows"], Watched(features_of("rows")))
    assert modes
    assert not any(modes)
    assert not torch.is_inference_mode_enabled()
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("kind", KINDS)
def test_results_are_float32_in_every_precision(kind: Kind, precision: str, models: dict[Kind, Any]) -> None:
    features = features_of(kind)
    found = computed(kind, models[kind], features, precision=precision)
    assert {array.dtype for array in found} == {np.dtype(np.float32)}
    for mine, right in zip(found, computed(kind, models[kind], features), strict=True):
        np.testing.assert_allclose(mine, right, atol=1e-5 if precision == "float32" else 0.3, rtol=0.05)


def test_labels_are_seen_where_they_are_wanted_alone(models: dict[Kind, Any]) -> None:
    names: list[set[str]] = []

    def compute(batch: Mapping[str, Tensor]) -> Any:
        names.append(set(batch))
        return models["rows"](batch["input_ids"], batch["attention_mask"])["logits"]

    known = [replace(each, labels=1) for each in features_of("rows")[:2]]
    of_tokens = [replace(each, token_labels=each.sequences[0]) for each in features_of("rows")[:2]]
    for features in (known, of_tokens):
        computed("rows", models["rows"], features, compute=compute)
        computed("rows", models["rows"], features, compute=compute, with_labels=True)
    assert [("labels" in each) for each in names] == [False, True, False, True]


def test_no_features_give_no_results(models: dict[Kind, Any]) -> None:
    assert computed("rows", models["rows"], []) == []


def test_each_batch_says_how_many_are_computed(models: dict[Kind, Any]) -> None:
    said: list[int] = []
    with counting(said.append):
        computed("rows", models["rows"], features_of("rows"))
    assert sum(said) == len(LENGTHS)
    assert len(said) > 2
