"""Examples on disk and their encoding: what was written is what is read, in any order."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from gpt_tasks.data.batches import collate
from gpt_tasks.data.encoded import IGNORE_INDEX, EncodedExamples, store_features
from gpt_tasks.data.examples import Examples, chunks, store_examples
from gpt_tasks.errors import MachineError
from gpt_tasks.learners.base import Learner, LearnerSettings
from gpt_tasks.learners.causal import TextLearner
from gpt_tasks.learners.labels import ClassificationLearner
from gpt_tasks.tasks.base import Task
from gpt_tasks.tasks.classification import ClassificationTask
from gpt_tasks.tasks.text_to_text import TextToTextTask
from gpt_tasks.types import Example, Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Topic(ClassificationTask):
    """Tell what a text is about."""

    name = "topic"


WRITTEN = [
    Example({"text": f"text number {n}"}, None if n % 7 == 0 else "ab"[n % 2], f"r.csv:{n + 2}", {"town": str(n % 3)})
    for n in range(3000)
]


@pytest.fixture
def examples(tmp_path: Path) -> Examples:
    return store_examples(WRITTEN, tmp_path)


def test_what_was_written_is_read(examples: Examples) -> None:
    assert list(examples) == WRITTEN
    assert examples[17] == WRITTEN[17]
    assert examples[-1] == WRITTEN[-1]
    assert list(examples[2990:]) == WRITTEN[2990:]
    assert list(examples.texts("text")) == [example.inputs["text"] for example in WRITTEN]
    assert examples.targets() == [example.target for example in WRITTEN]
    with pytest.raises(IndexError):
        examples[3000]


def test_written_answers_are_in_the_file(tmp_path: Path) -> None:
    written = [
        Example(
            {"text": f"text {n}"},
            f" answer {n}",
            f"r:{n}",
            references=tuple(f" answer {n + m}" for m in range(1 + n % 3)),
        )
        for n in range(2500)
    ]
    stored = store_examples(written, tmp_path)
    assert list(stored) == written
    assert stored.subset([2000, 3])[0] == written[2000]
    assert stored.table.targets == (), "memory does not grow with them"
    other = [*written[:-1], Example({"text": "text 2499"}, " answer 2499", "r:2499", references=(" answer 0",))]
    assert store_examples(other, tmp_path).fingerprint != stored.fingerprint


def test_subsets_keep_their_order_and_may_be_subsets_of_subsets(examples: Examples) -> None:
    picked = np.random.default_rng(0).permutation(3000)[:2000]
    subset = examples.subset(picked)
    assert list(subset) == [WRITTEN[index] for index in picked]
    assert list(subset.subset([3, 1])) == [WRITTEN[picked[3]], WRITTEN[picked[1]]]
    assert subset.labels.tolist() == [
        -1 if example.target is None else "ba".index(example.target) for example in subset
    ]
    assert list(examples.subset([])) == []


def test_chunks_hold_so_many_items_or_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(chunks("abcde", 2)) == [["a", "b"], ["c", "d"], ["e"]]
    monkeypatch.setattr("gpt_tasks.data.examples.MOST_CHARACTERS", 6)
    words = ["a", "bb", "ccc", "dddd", "eeeeeeeee", "f", "g", "h"]
    assert list(chunks(words, 3, len)) == [["a", "bb", "ccc"], ["dddd"], ["eeeeeeeee"], ["f", "g", "h"]]
    assert list(chunks([], 3, len)) == []


def test_the_fingerprint_is_of_the_content(tmp_path: Path, examples: Examples) -> None:
    elsewhere = [Example(example.inputs, example.target, "elsewhere", example.extra) for example in WRITTEN]
    assert store_examples(elsewhere, tmp_path).fingerprint == examples.fingerprint
    other = [*WRITTEN[:-1], Example({"text": "text number  2999"}, "b", "r.csv:3001", {"town": "2"})]
    assert store_examples(other, tmp_path).fingerprint != examples.fingerprint
    assert examples[:5].fingerprint != examples[1:6].fingerprint


def learner_of(task: Task, kind: type[Learner[Any]], tokenizer: PreTrainedTokenizerBase, length: int) -> Learner[Any]:
    """A learner that encodes; it has no model."""
    settings = LearnerSettings(length, 1024, "float32", torch.device("cpu"))
    return kind(task, SimpleNamespace(tokenizer=tokenizer), settings)  # type: ignore[arg-type]


def fitted(examples: Examples) -> tuple[Topic, Examples]:
    """The task with the labels of its examples, and these coded by them."""
    task = Topic().configured(Topic.Options(prompt="{text}")).fit(examples, "rows")
    return task, examples.labelled(task.labels, {label: label for label in task.labels})


def encode(
    task: Topic, examples: Examples, tokenizer: PreTrainedTokenizerBase, length: int, scratch: Path
) -> EncodedExamples:
    learner = learner_of(task, ClassificationLearner, tokenizer, length)
    return store_features((learner.encode(chunk) for chunk in chunks(examples, 1024)), scratch)


def test_encoding_matches_the_tokenizer(
    tmp_path: Path, examples: Examples, tiny_tokenizer: PreTrainedTokenizerBase
) -> None:
    known = [index for index, example in enumerate(WRITTEN) if example.target is not None]
    subset = examples.subset(np.random.default_rng(0).permutation(known))
    task, subset = fitted(subset)
    encoded = encode(task, subset, tiny_tokenizer, 64, tmp_path)
    wanted = tiny_tokenizer(list(subset.texts("text")))["input_ids"]
    assert len(encoded) == len(known) == len(subset)
    assert [encoded[index].sequences[0].tolist() for index in range(len(known))] == wanted
    assert encoded.lengths.tolist() == [len(ids) for ids in wanted]
    assert encoded.labels.tolist() == subset.labels.tolist()
    assert [int(encoded[index].labels) for index in range(len(known))] == subset.labels.tolist()
    assert encoded.truncated == 0
    assert encoded.used_tokens.tolist() == sorted({token for ids in wanted for token in ids})
    assert [row.sequences[0].tolist() for row in encoded.__getitems__([5, 2])] == [wanted[5], wanted[2]]


def test_an_example_without_a_target_has_no_label(examples: Examples, tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    task, known = fitted(examples)
    features = learner_of(task, ClassificationLearner, tiny_tokenizer, 64).encode(list(known[:3]))
    assert [None if each.labels is None else int(each.labels) for each in features] == [None, 1, 0]


def test_a_negative_index_ignores_the_label(
    tmp_path: Path, examples: Examples, tiny_tokenizer: PreTrainedTokenizerBase
) -> None:
    known = [index for index, example in enumerate(WRITTEN) if example.target is not None]
    encoded = encode(*fitted(examples.subset(known)), tiny_tokenizer, 64, tmp_path)
    assert encoded[~3].sequences[0].tolist() == encoded[3].sequences[0].tolist()
    assert encoded[3].labels != IGNORE_INDEX == encoded[~3].labels
    for index in (len(known), ~len(known)):
        with pytest.raises(IndexError):
            encoded[index]


class Reply(TextToTextTask):
    """Answer a text."""

    name = "reply"
    prompt = "{text}?"
    answer = " {reply}"


def test_tokens_to_be_learned_are_known_by_their_labels(
    tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerBase
) -> None:
    task = Reply()
    rows = [Row({"text": "x" * n, "reply": "yes" * n}, f"r:{n}") for n in range(1, 9)]
    fields = {"text": "text", "reply": "reply"}
    learner = learner_of(task, TextLearner, tiny_tokenizer, 64)
    encoded = store_features([learner.encode([task.example(row, fields) for row in rows])], tmp_path)
    with pytest.raises(ValueError, match="labels of tokens"):
        _ = encoded.labels
    for index, row in enumerate(rows):
        (ids,), labels = encoded[index].sequences, np.asarray(encoded[index].token_labels)
        taught = labels != IGNORE_INDEX
        assert tiny_tokenizer.decode(ids[taught][:-1]) == f" {row.values['reply']}"
        assert tiny_tokenizer.decode(ids[~taught]) == f"{row.values['text']}?"
        assert ids[-1] == labels[-1] == tiny_tokenizer.eos_token_id
        assert (labels[taught] == ids[taught]).all()
        assert (np.asarray(encoded[~index].token_labels) == IGNORE_INDEX).all()
        assert encoded[~index].sequences[0].tolist() == ids.tolist()
        assert encoded[index].labels is None
    batch = collate([encoded[0], encoded[7]], pad_token_id=int(tiny_tokenizer.eos_token_id))
    assert batch["labels"].shape == batch["input_ids"].shape
    assert (batch["labels"][0, encoded.lengths[0] :] == IGNORE_INDEX).all(), "padding is never learned, for any id"


def test_truncated_examples_are_counted(tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    rows = [Example({"text": "x" * size}, label, "r") for size, label in ((3, "a"), (8, "b"), (30, "a"))]
    task, stored = fitted(store_examples(rows, tmp_path))
    task.long_texts = "truncate"
    encoded = encode(task, stored, tiny_tokenizer, 8, tmp_path)
    assert encoded.lengths.tolist() == [3, 8, 8]
    assert (encoded.truncated, encoded.windowed) == (1, 0)


def test_windows_of_a_long_text_are_its_sequences(tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    rows = [Example({"text": "x" * size}, label, "r") for size, label in ((3, "a"), (30, "b"), (8, "a"))]
    encoded = encode(*fitted(store_examples(rows, tmp_path)), tiny_tokenizer, 8, tmp_path)
    counts = [len(encoded[index].sequences) for index in range(3)]
    assert counts == [1, 5, 1]
    assert [len(ids) for ids in encoded[1].sequences] == [8, 8, 8, 8, 6]
    assert encoded.lengths.tolist() == [3, 38, 8]
    assert (encoded.truncated, encoded.windowed) == (0, 1)
    assert encoded[~1].labels == IGNORE_INDEX


def test_a_full_disk_is_the_machines_error(
    tmp_path: Path, files_up_to: Callable[[int], AbstractContextManager[None]]
) -> None:
    with files_up_to(10_000), pytest.raises(MachineError) as caught:
        store_examples(WRITTEN, tmp_path)
    assert "\n" not in caught.value.message
    assert caught.value.hint
