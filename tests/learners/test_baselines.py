"""The baselines learn what can be learnt, the same way each time, and are saved without pickle."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from scipy.special import softmax
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from gpt_tasks.errors import ModelError
from gpt_tasks.learners import baselines as module
from gpt_tasks.learners.baselines import MAJORITY, TFIDF, Baselines, fit_baselines, load_baselines

TOPICS = (
    "goal striker keeper stadium referee league",
    "oven butter flour recipe dough sugar",
    "planet orbit comet telescope galaxy moon",
)
CHINESE = ("这部电影很好看我非常喜欢", "服务太差了我不会再来", "房间很干净早餐也不错", "质量不好用了两天就坏了")


def sentences(n: int, seed: int, labels: int = 3) -> tuple[list[str], np.ndarray]:
    random = np.random.default_rng(seed)
    targets = random.integers(0, labels, n)
    filler = ["the", "a", "of", "and", "with", "was", "it", "in"]
    texts = [" ".join(random.permutation([*random.choice(TOPICS[t].split(), 2), *filler[:5]])) for t in targets]
    return texts, targets


def fitted(labels: int = 3, seed: int = 0) -> Baselines:
    return fit_baselines(*sentences(150, 1, labels), *sentences(40, 2, labels), labels, seed=seed)


def probabilities_of(baselines: Baselines, texts: Sequence[str]) -> dict[str, np.ndarray]:
    """The probabilities `[n, labels]` of one of several labels."""
    return {name: softmax(logits, axis=1) for name, logits in baselines.logits(texts).items()}


@pytest.mark.parametrize("labels", [2, 3])
def test_an_easy_set_is_learnt(labels: int) -> None:
    texts, targets = sentences(100, 3, labels)
    found = probabilities_of(fitted(labels), texts)
    assert np.mean(found[TFIDF].argmax(1) == targets) == 1
    for probabilities in found.values():
        assert probabilities.shape == (100, labels)
        assert probabilities.sum(1) == pytest.approx(np.ones(100), abs=1e-6)


def test_it_is_scikit_learns_tfidf_and_logistic_regression() -> None:
    (texts, targets), (tests, _) = sentences(150, 1), sentences(50, 3)
    ours = fitted()
    vectorizer = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2))
    model = LogisticRegression(C=ours.linear.C, max_iter=1000).fit(vectorizer.fit_transform(texts), targets)
    theirs = model.predict_proba(vectorizer.transform(tests))
    assert probabilities_of(ours, tests)[TFIDF] == pytest.approx(theirs, abs=2e-3)


def test_the_majority_class_answers_with_the_labels_shares() -> None:
    found = fit_baselines(["x y", "x z", "y z"], np.array([2, 2, 0]), [], np.array([], int), 3, seed=0)
    assert probabilities_of(found, ["anything", "else"])[MAJORITY] == pytest.approx(np.array([[1 / 3, 0, 2 / 3]] * 2))


@pytest.mark.parametrize("labels", [2, 3])
def test_saved_and_loaded_they_give_equal_probabilities(labels: int, tmp_path: Path) -> None:
    made, texts = fitted(labels), sentences(50, 3, labels)[0]
    made.save(tmp_path / "baselines")
    loaded = load_baselines(tmp_path / "baselines")
    for name, probabilities in probabilities_of(made, texts).items():
        assert np.array_equal(probabilities_of(loaded, texts)[name], probabilities)
    assert loaded.notes == made.notes
    names = sorted(path.name for path in (tmp_path / "baselines").iterdir())
    assert names == ["baselines.json", "baselines.safetensors"]


def test_the_same_input_gives_the_same_baselines(tmp_path: Path) -> None:
    for name in ("first", "second"):
        fitted().save(tmp_path / name)
    for file in ("baselines.json", "baselines.safetensors"):
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()


def test_what_is_damaged_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"baselines.json: this file is missing"):
        load_baselines(tmp_path)
    fitted().save(tmp_path)
    tensors = (tmp_path / "baselines.safetensors").read_bytes()
    (tmp_path / "baselines.safetensors").write_bytes(tensors[:-100])
    with pytest.raises(ModelError, match=r"baselines.safetensors: "):
        load_baselines(tmp_path)
    arrays = safetensors.numpy.load(tensors)
    arrays["coefficients"][0, 0] = np.nan
    (tmp_path / "baselines.safetensors").write_bytes(safetensors.numpy.save(arrays))
    with pytest.raises(ModelError, match=r"baselines.safetensors: its weights are not finite numbers"):
        load_baselines(tmp_path)
    (tmp_path / "baselines.safetensors").write_bytes(tensors)
    saved = json.loads((tmp_path / "baselines.json").read_text())
    (tmp_path / "baselines.json").write_text(json.dumps(saved | {"terms": saved["terms"][1:]}))
    with pytest.raises(ModelError, match="tensors do not fit"):
        load_baselines(tmp_path)
    (tmp_path / "baselines.json").write_text(json.dumps(saved | {"schema_version": 1}))
    with pytest.raises(ModelError, match="schema version 1"):
        load_baselines(tmp_path)


def test_scripts_without_spaces_are_read_by_character() -> None:
    texts, targets = [*CHINESE] * 5, np.array([1, 0, 1, 0] * 5)
    found = fit_baselines(texts, targets, texts, targets, 2, seed=0)
    assert found.linear.analyzer == "char"
    assert {"不", "电影", "很好看"} <= set(found.linear.terms)
    assert np.array_equal(probabilities_of(found, ["我喜欢这部电影", "太差了"])[TFIDF].argmax(1), [1, 0])
    assert fitted().linear.analyzer == "word"
    assert fit_baselines(["Привет мир", "добрый день"], np.array([0, 1]), [], np.array([], int), 2, seed=0).linear.terms


def test_c_is_chosen_by_accuracy_on_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    texts, targets = sentences(200, 5)
    noisy = np.where(random.random(200) < 0.4, random.integers(0, 3, 200), targets)
    held_out = sentences(60, 6)
    chosen = fit_baselines(texts, noisy, *held_out, 3, seed=0)
    accuracies = []
    for strength in module.C_VALUES:
        monkeypatch.setattr(module, "C_VALUES", (strength,))
        only = fit_baselines(texts, noisy, *held_out, 3, seed=0)
        accuracies.append((np.mean(probabilities_of(only, held_out[0])[TFIDF].argmax(1) == held_out[1]), -strength))
    assert accuracies[0][0] != accuracies[1][0]
    assert -max(accuracies)[1] == chosen.linear.C


def test_without_validation_all_training_rows_are_used_in_the_end() -> None:
    texts, targets = sentences(150, 1)
    texts[17] += " hapax"
    found = fit_baselines(texts, targets, [], np.array([], dtype=int), 3, seed=0)
    assert "hapax" in found.linear.terms
    assert np.mean(probabilities_of(found, sentences(60, 9)[0])[TFIDF].argmax(1) == sentences(60, 9)[1]) == 1


def test_many_rows_are_drawn_from_with_a_note_and_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_ROWS", 100)
    texts, targets = sentences(1_000, 4)
    read = []

    def reading() -> Iterator[str]:
        for place, text in enumerate(texts):
            read.append(place)
            yield text

    found = fit_baselines(reading(), targets, *sentences(40, 2), 3, seed=0)
    assert read == list(range(1_000))
    assert found.notes == ("The TF-IDF baseline was fitted on 100 of 1,000 training rows, drawn at random.",)
    assert np.exp(found.prior) == pytest.approx(np.bincount(targets) / 1_000)


@pytest.mark.parametrize(
    ("texts", "targets"),
    [
        (["! ?", "...", "?"], [0, 1, 1]),
        (["one row"], [1]),
        (["only one", "label here", "in the data"], [1, 1, 1]),
        (["two rows", "of two labels"], [0, 1]),
    ],
    ids=["no words", "one row", "one label", "two rows"],
)
def test_hardly_any_data_still_gives_baselines(texts: list[str], targets: list[int], tmp_path: Path) -> None:
    found = fit_baselines(texts, np.array(targets), [], np.array([], int), 2, seed=0)
    probabilities = probabilities_of(found, [*texts, "unseen"])[TFIDF]
    assert probabilities.sum(1) == pytest.approx(np.ones(len(texts) + 1), abs=1e-6)
    assert probabilities[-1].argmax() == 1 or len(set(targets)) > 1
    found.save(tmp_path)
    assert np.array_equal(probabilities_of(load_baselines(tmp_path), texts)[TFIDF], probabilities[:-1])


def test_a_label_without_training_rows_gets_no_probability() -> None:
    texts, targets = sentences(60, 1, 2)
    found = probabilities_of(fit_baselines(texts, targets * 2, [], np.array([], int), 4, seed=0), texts)[TFIDF]
    assert np.all(found[:, [1, 3]] == 0)
    assert np.mean(found.argmax(1) == targets * 2) == 1


def test_no_texts_give_no_rows() -> None:
    assert {name: given.shape for name, given in probabilities_of(fitted(), []).items()} == {
        MAJORITY: (0, 3),
        TFIDF: (0, 3),
    }


def test_every_label_and_every_number_has_a_separate_baseline(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    words = ("soup", "train", "money")
    there = random.random((200, 3)) < 0.4
    texts = [" ".join(["a", *(word for word, is_there in zip(words, row, strict=True) if is_there)]) for row in there]
    labels = there.astype(np.float32)
    found = fit_baselines(texts[:150], labels[:150], texts[150:], labels[150:], 3, loss="binary", seed=0)
    logits = found.logits(texts[150:])
    assert list(logits) == ["majority", "tfidf_logistic_regression"]
    assert ((logits["tfidf_logistic_regression"] > 0) == there[150:]).all()
    assert np.ptp(logits["majority"], axis=0).max() == 0
    found.save(tmp_path)
    for name, kept in load_baselines(tmp_path).logits(texts[150:]).items():
        assert np.allclose(kept, logits[name], atol=1e-3)

    numbers = (there @ np.array([1.0, -2.0, 0.5])).astype(np.float32)
    found = fit_baselines(texts[:150], numbers[:150], texts[150:], numbers[150:], 1, loss="squared", seed=0)
    logits = found.logits(texts[150:])
    assert list(logits) == ["mean", "tfidf_ridge_regression"]
    assert logits["mean"][:, 0] == pytest.approx(np.full(50, numbers[:150].mean()), abs=1e-5)
    assert np.corrcoef(logits["tfidf_ridge_regression"][:, 0], numbers[150:])[0, 1] > 0.95


def test_of_several_labels_the_cut_is_the_best_on_validation() -> None:
    texts = [f"word{n % 7}" for n in range(140)]
    rare = (np.arange(140) % 7 == 0) & (np.arange(140) % 2 == 0)
    labels = np.stack([rare, np.zeros(140, bool)], axis=1).astype(np.float32)
    found = fit_baselines(texts, labels, texts, labels, 2, loss="binary", seed=0)
    given = found.logits(texts)["tfidf_logistic_regression"] > 0
    assert given[np.arange(140) % 7 == 0, 0].all(), "half of them are right: more than any other answer finds"
    assert not given[:, 1].any()


@pytest.mark.parametrize("loss", ["cross_entropy", "binary", "squared"])
def test_hashed_words_answer_as_well_and_are_not_kept(tmp_path: Path, loss: module.Loss) -> None:
    (texts, targets), (others, others_targets) = sentences(150, 1), sentences(40, 2)
    labels, held_out = targets, others_targets
    if loss == "binary":
        labels, held_out = np.eye(3, dtype=np.int64)[targets], np.eye(3, dtype=np.int64)[others_targets]
    if loss == "squared":
        labels, held_out = targets.astype(np.float32), others_targets.astype(np.float32)
    outputs = 1 if loss == "squared" else 3
    hashed = fit_baselines(texts, labels, others, held_out, outputs, loss=loss, seed=0, hashed=True)
    plain = fit_baselines(texts, labels, others, held_out, outputs, loss=loss, seed=0)
    assert 0 < hashed.linear.buckets <= (len(plain.linear.terms) + 1) // 2
    _, logits = hashed.logits(others).values()
    if loss == "squared":
        assert np.corrcoef(logits[:, 0], others_targets)[0, 1] > 0.9
    else:
        assert np.mean(logits.argmax(1) == others_targets) > 0.9
    hashed.save(tmp_path)
    assert not [word for word in " ".join(TOPICS).split() if word in (tmp_path / "baselines.json").read_text()]
    again = load_baselines(tmp_path)
    for name, found in hashed.logits(others).items():
        np.testing.assert_array_equal(again.logits(others)[name], found)


def test_hashed_words_of_texts_without_any_leave_the_prior() -> None:
    baselines = fit_baselines(["", "!"], np.array([0, 1]), [], np.zeros(0, np.int64), 2, seed=0, hashed=True)
    assert (baselines.linear.terms, baselines.linear.buckets) == ((), 0)
    assert np.isfinite(baselines.logits(["text"])[TFIDF]).all()
