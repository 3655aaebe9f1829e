"""Batches by token budget: every example once, in an order that seed and epoch alone decide."""

from __future__ import annotations

from collections import Counter
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt_tasks.data.batches import TokenBudgetBatches, collate
from gpt_tasks.types import Features

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=120)


def batches(lengths: list[int], budget: int, epoch: int = 0, **others: int) -> list[list[int]]:
    sampler = TokenBudgetBatches(lengths, **{"batch_tokens": budget, "seed": 7, "shuffle": True, **others})
    sampler.set_epoch(epoch)
    return list(sampler)


@settings(deadline=None)
@given(LENGTHS, st.integers(1, 200), st.integers(1, 4), st.integers(0, 3))
def test_every_example_counts_once_within_the_budget(lengths: list[int], budget: int, world: int, epoch: int) -> None:
    shares = [batches(lengths, budget, epoch, rank=rank, world_size=world) for rank in range(world)]
    assert len({len(share) for share in shares}) == 1
    assert len(shares[0]) == len(
        TokenBudgetBatches(lengths, batch_tokens=budget, seed=1, shuffle=False, world_size=world)
    )
    everything = [batch for share in shares for batch in share]
    assert Counter(i for batch in everything for i in batch if i >= 0) == Counter(range(len(lengths)))
    assert sum(i < 0 for batch in everything for i in batch) < world
    for batch in everything:
        longest = max(lengths[i if i >= 0 else ~i] for i in batch)
        assert longest * len(batch) <= budget or len(batch) == 1


@settings(deadline=None)
@given(LENGTHS, st.integers(1, 200), st.integers(2, 4), st.integers(0, 3))
def test_the_order_is_the_same_on_any_number_of_ranks(lengths: list[int], budget: int, world: int, epoch: int) -> None:
    alone = batches(lengths, budget, epoch)
    shares = [batches(lengths, budget, epoch, rank=rank, world_size=world) for rank in range(world)]
    together = [batch for turn in zip(*shares, strict=True) for batch in turn]
    assert together[: len(alone)] == alone
    assert all(index < 0 for batch in together[len(alone) :] for index in batch)


def test_epochs_and_seeds_draw_other_orders_and_repeat_them() -> None:
    lengths = [1 + number % 5 for number in range(200)]
    assert batches(lengths, 40, 1) == batches(lengths, 40, 1)
    assert batches(lengths, 40, 1) != batches(lengths, 40, 2)
    assert batches(lengths, 40, 1) != batches(lengths, 40, 1, seed=8)
    assert len(batches(lengths, 40, 1)) == len(batches(lengths, 40, 2))
    mates = [{frozenset(batch) for batch in batches(lengths, 40, epoch)} for epoch in (1, 2)]
    assert len(mates[0] & mates[1]) < len(mates[0]) / 2


def test_data_sorted_by_label_is_mixed() -> None:
    lengths, labels = np.full(400, 10), np.arange(400) >= 200
    shares = [labels[batch].mean() for batch in batches(list(lengths), 400)]
    assert all(0.1 < share < 0.9 for share in shares)


def test_examples_of_like_length_share_a_batch() -> None:
    lengths = np.random.default_rng(0).integers(1, 120, 5000)
    padded = sum(max(lengths[batch]) * len(batch) for batch in batches(list(lengths), 2048))
    assert padded < 1.03 * lengths.sum()


def test_without_shuffling_the_longest_come_first() -> None:
    sampler = TokenBudgetBatches([3, 9, 1, 9, 2], batch_tokens=18, seed=0, shuffle=False)
    assert list(sampler) == list(sampler) == [[1, 3], [2, 4, 0]]


@settings(deadline=None)
@given(LENGTHS, st.integers(1, 50), st.integers(1, 4), st.integers(0, 3))
def test_batches_by_number_hold_as_many_for_all_lengths(lengths: list[int], size: int, world: int, epoch: int) -> None:
    shares = [batches(lengths, 1, epoch, rank=rank, world_size=world, examples=size) for rank in range(world)]
    everything = [batch for share in shares for batch in share]
    assert Counter(i for batch in everything for i in batch if i >= 0) == Counter(range(len(lengths)))
    assert len({len(share) for share in shares}) == 1
    sizes = [len(batch) for batch in everything if batch[0] >= 0]
    assert len(sizes) == -(-len(lengths) // size), "no more batches than are needed"
    assert max(sizes) <= size
    assert max(sizes) - min(sizes) <= 1


def test_batches_by_number_have_other_mates_in_every_epoch() -> None:
    lengths = list(range(1, 201))
    together = [{frozenset(batch) for batch in batches(lengths, 1, epoch, examples=10)} for epoch in (1, 2)]
    assert batches(lengths, 1, 1, examples=10) == batches(lengths, 1, 1, examples=10)
    assert not together[0] & together[1]
    assert [len(batch) for batch in batches(lengths, 1, examples=10)] == [10] * 20


@pytest.mark.parametrize(
    ("side", "ids", "mask"),
    [
        ("right", [[5, 6, 7], [8, 0, 0]], [[1, 1, 1], [1, 0, 0]]),
        ("left", [[5, 6, 7], [0, 0, 8]], [[1, 1, 1], [0, 0, 1]]),
    ],
)
def test_collate_pads_on_either_side(
    side: Literal["right", "left"], ids: list[list[int]], mask: list[list[int]]
) -> None:
    features = [Features([np.array([5, 6, 7], dtype=np.int32)], labels=np.int64(1)), Features([[8]], labels=-100)]
    batch = collate(features, pad_token_id=0, padding_side=side)
    assert batch["input_ids"].tolist() == ids
    assert batch["attention_mask"].tolist() == mask
    assert batch["labels"].tolist() == [1, -100]
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}


def test_a_pad_id_inside_the_text_is_attended_to() -> None:
    batch = collate([Features([[0, 4, 0]], labels=0)], pad_token_id=0)
    assert batch["attention_mask"].tolist() == [[1, 1, 1]]


@pytest.mark.parametrize("side", ["right", "left"])
def test_several_sequences_of_an_example_are_stacked(side: Literal["right", "left"]) -> None:
    labels = np.array([[0.0, 1.0], [1.0, 0.5]], dtype=np.float32)
    sequences = [[[5, 6, 7], [8]], [[9, 9]]]
    features = [Features(ids, labels=label) for ids, label in zip(sequences, labels, strict=True)]
    batch = collate(features, pad_token_id=0, padding_side=side)
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (2, 2, 3)
    for row, example in enumerate(sequences):
        for place in range(2):
            kept = batch["attention_mask"][row, place].bool()
            assert batch["input_ids"][row, place][kept].tolist() == (example[place] if place < len(example) else [])
    assert batch["attention_mask"][0, 1].tolist() == ([1, 0, 0] if side == "right" else [0, 0, 1])
    assert batch["labels"].tolist() == labels.tolist()
    assert batch["labels"].dtype == torch.float32
    assert set(batch) == {"input_ids", "attention_mask", "labels"}


@pytest.mark.parametrize("side", ["right", "left"])
def test_labels_of_tokens_are_at_their_tokens(side: Literal["right", "left"]) -> None:
    features = [Features([[5, 6, 7]], token_labels=[-100, 6, 7]), Features([[8]], token_labels=[2])]
    batch = collate(features, pad_token_id=9, padding_side=side)
    assert batch["labels"].tolist() == [[-100, 6, 7], [2, -100, -100] if side == "right" else [-100, -100, 2]]
    assert batch["labels"].dtype == torch.int64


@pytest.mark.parametrize("side", ["right", "left"])
def test_labels_of_the_tokens_of_several_sequences_are_at_their_tokens(
    side: Literal["right", "left"],
) -> None:
    features = [Features([[5, 6], [7, 8, 9]], token_labels=[0, 1, 2, -100, 3]), Features([[4]], token_labels=[1])]
    batch = collate(features, pad_token_id=0, padding_side=side)
    assert batch["labels"].shape == batch["input_ids"].shape == (2, 2, 3)
    there = batch["attention_mask"].bool()
    assert batch["labels"][there].tolist() == [0, 1, 2, -100, 3, 1]
    assert batch["input_ids"][there].tolist() == [5, 6, 7, 8, 9, 4]
    assert (batch["labels"][~there] == -100).all()


def test_without_labels_there_are_none() -> None:
    batch = collate([Features([[1, 2]]), Features([[3]])], pad_token_id=0)
    assert set(batch) == {"input_ids", "attention_mask"}


def test_choices_say_of_each_sequence_what_it_is_about() -> None:
    features = [
        Features([[1], [2], [3, 3]], labels=1, choices=(0, 1, 1)),
        Features([[4], [5]], labels=0, choices=(0, 1)),
    ]
    batch = collate(features, pad_token_id=0)
    assert batch["choices"].tolist() == [[0, 1, 1], [0, 1, 0]]
    assert not batch["attention_mask"][1, 2].any(), "the third is not there"
    assert batch["choices"].dtype == torch.int64


def test_further_values_are_next_to_the_labels() -> None:
    features = [Features([[1]], labels=0, values=(0.5, 2)), Features([[2]], labels=1, values=np.array([1.5, -3]))]
    batch = collate(features, pad_token_id=0)
    assert batch["values"].tolist() == [[0.5, 2.0], [1.5, -3.0]]
    assert batch["values"].dtype == torch.float32
