"""The embedded samples of the built-in tasks: well formed, balanced, diverse, not solved by word counts."""

import json
import re
from collections import Counter
from dataclasses import dataclass
from importlib.resources import files
from itertools import combinations
from math import sqrt
from typing import Any

import pytest

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Stated:
    """What is stated about one task's samples."""

    labels: tuple[str, ...]
    words: tuple[int, int]
    least_in_all: int
    least_per_label: int


TASKS = {
    "sentiment": Stated(("negative", "positive"), words=(6, 35), least_in_all=300, least_per_label=150),
    "classification": Stated(
        ("business", "health", "sport", "technology"), words=(8, 40), least_in_all=240, least_per_label=60
    ),
}


def read(task: str, split: str) -> list[dict[str, str]]:
    path = files("gpt_tasks_plugins") / task.replace("-", "_") / "samples" / f"{split}.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def read_all(task: str) -> list[dict[str, str]]:
    return [row for split in SPLITS for row in read(task, split)]


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def trigram_overlap(first: set[tuple[str, ...]], second: set[tuple[str, ...]]) -> float:
    """Shared trigrams over the size of the smaller set."""
    return len(first & second) / min(len(first), len(second))


def trigrams(text: str) -> set[tuple[str, ...]]:
    found = words(text)
    return set(zip(found, found[1:], found[2:], strict=False))


def best_tfidf_accuracy(task: str) -> float:
    """Test accuracy of TF-IDF + logistic regression fitted on the train split, at the better strength."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    train, test = read(task, "train"), read(task, "test")
    accuracies = []
    for inverse_strength in (1.0, 10.0):
        model = make_pipeline(
            TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
            LogisticRegression(C=inverse_strength, max_iter=1000),
        )
        model.fit([row["text"] for row in train], [row["label"] for row in train])
        accuracies.append(model.score([row["text"] for row in test], [row["label"] for row in test]))
    return float(max(accuracies))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("split", SPLITS)
def test_every_row_is_a_text_and_a_declared_label(task: str, split: str) -> None:
    for row in read(task, split):
        assert list(row) == ["text", "label"]
        assert row["text"] == row["text"].strip() != ""
        assert row["label"] in TASKS[task].labels


@pytest.mark.parametrize("task", TASKS)
def test_texts_have_the_stated_length(task: str) -> None:
    least, most = TASKS[task].words
    wrong = [row["text"] for row in read_all(task) if not least <= len(row["text"].split()) <= most]
    assert not wrong


@pytest.mark.parametrize("task", TASKS)
def test_there_are_as_many_texts_as_stated(task: str) -> None:
    rows = read_all(task)
    assert len(rows) >= TASKS[task].least_in_all
    per_label = Counter(row["label"] for row in rows)
    assert min(per_label[label] for label in TASKS[task].labels) >= TASKS[task].least_per_label


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("split", SPLITS)
def test_labels_are_balanced_within_ten_per_cent(task: str, split: str) -> None:
    per_label = Counter(row["label"] for row in read(task, split))
    assert set(per_label) == set(TASKS[task].labels)
    assert max(per_label.values()) <= 1.1 * min(per_label.values())


@pytest.mark.parametrize("task", TASKS)
def test_no_text_occurs_twice_in_any_splits(task: str) -> None:
    repeated = Counter(" ".join(words(row["text"])) for row in read_all(task))
    assert [text for text, times in repeated.items() if times > 1] == []


@pytest.mark.parametrize("task", TASKS)
def test_no_two_texts_share_half_their_word_trigrams(task: str) -> None:
    texts = [row["text"] for row in read_all(task)]
    found = [(text, trigrams(text)) for text in texts]
    alike = [
        (one, other) for (one, ones), (other, others) in combinations(found, 2) if trigram_overlap(ones, others) >= 0.5
    ]
    assert alike == []


@pytest.mark.parametrize("task", TASKS)
def test_openings_are_varied(task: str) -> None:
    """No three first words open more than one text in a hundred: the texts do not come from a template."""
    texts = [row["text"] for row in read_all(task)]
    openings = Counter(tuple(words(text)[:3]) for text in texts)
    assert openings.most_common(1)[0][1] <= len(texts) / 100


@pytest.mark.parametrize("task", TASKS)
def test_word_counts_do_not_solve_the_test_split(task: str) -> None:
    assert best_tfidf_accuracy(task) < 0.95


@pytest.mark.parametrize("task", TASKS)
def test_the_labels_can_be_learned(task: str) -> None:
    """Word counts beat guessing by more than a 95 % interval of it; rows with mixed-up labels would not."""
    chance = 1 / len(TASKS[task].labels)
    margin = 1.96 * sqrt(chance * (1 - chance) / len(read(task, "test")))
    assert best_tfidf_accuracy(task) > chance + margin


@pytest.mark.parametrize(
    ("task", "fields", "least"),
    [
        ("entailment", ["premise", "hypothesis", "label"], 150),
        ("similarity", ["text_a", "text_b", "score"], 120),
        ("multi-label", ["text", "labels"], 120),
        ("multiple_choice", ["question", "choices", "answer"], 100),
    ],
)
def test_samples_of_other_heads_have_their_fields_and_share_no_text(task: str, fields: list[str], least: int) -> None:
    rows = read_all(task)
    assert len(rows) >= least
    assert all(list(row) == fields for row in rows)
    asked = [json.dumps([row[field] for field in fields[:-1]]) for row in rows]
    assert len(set(asked)) == len(asked)


def test_entailment_is_balanced_and_a_premise_occurs_in_one_split() -> None:
    labels = Counter(row["label"] for row in read_all("entailment"))
    assert set(labels) == {"entailment", "neutral", "contradiction"}
    assert max(labels.values()) - min(labels.values()) <= 6
    premises = [{row["premise"] for row in read("entailment", split)} for split in SPLITS]
    assert not any(one & other for one, other in combinations(premises, 2))


def test_similarities_fill_their_scale() -> None:
    scores = [float(row["score"]) for row in read_all("similarity")]
    assert all(0 <= score <= 5 for score in scores)
    counts = Counter(min(4, int(score)) for score in scores)
    assert min(counts[step] for step in range(5)) >= 12


def test_tags_overlap_and_each_is_frequent_enough() -> None:
    tags = [row["labels"] for row in read_all("multi-label")]
    counts = Counter(tag for several in tags for tag in several)
    assert min(counts.values()) >= 12
    assert sum(len(several) > 1 for several in tags) >= 40


def test_the_right_choice_is_at_no_place_more_often_and_is_not_the_longest() -> None:
    rows: list[Any] = read_all("multiple_choice")
    assert all(0 <= row["answer"] < len(row["choices"]) for row in rows)
    places = Counter(row["answer"] for row in rows if len(row["choices"]) == 4)
    assert max(places.values()) <= 0.35 * sum(places.values())
    longest = [max(row["choices"], key=len) == row["choices"][row["answer"]] for row in rows]
    assert sum(longest) <= 0.4 * len(rows)
