"""Counted words are scikit-learn's TF-IDF, know how like two texts are, and are weighed by what validation shows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from scipy.sparse import hstack
from scipy.special import log_softmax
from scipy.stats import pearsonr
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from gpt_tasks.errors import ModelError
from gpt_tasks.learners.counts import Counts, Stack, fit_counts, load_stack
from gpt_tasks.types import Example

TOPICS = ("goal striker keeper stadium", "oven butter flour recipe", "planet orbit comet moon")
WORDS = [*" ".join(TOPICS).split(), "river", "bridge", "candle", "window", "garden", "letter", "violin", "harbour"]
COUNTED = ("cross_entropy", "binary", "squared")


def examples(texts: list[str]) -> list[Example]:
    return [Example({"text": text}, None, "") for text in texts]


def sentences(n: int, seed: int, labels: int = 3) -> tuple[list[Example], np.ndarray]:
    random = np.random.default_rng(seed)
    targets = random.integers(0, labels, n)
    return examples(
        [" ".join(random.permutation([*random.choice(TOPICS[t].split(), 2), "the", "of"])) for t in targets]
    ), targets


def pairs(n: int, seed: int) -> tuple[list[Example], np.ndarray]:
    """Texts of six words, and by how many of them two are alike, as deviations from the mean."""
    random = np.random.default_rng(seed)
    shared = random.integers(0, 7, n)
    found = []
    for number in shared:
        drawn = random.permutation(WORDS)
        first, second = drawn[:6], [*drawn[:number], *drawn[6 : 12 - number]]
        found.append(Example({"a": " ".join(first), "b": " ".join(random.permutation(second))}, None, ""))
    return found, ((shared - 3) / 2).astype(np.float32)


def fitted(labels: int = 3) -> Counts:
    return fit_counts(*sentences(150, 1, labels), labels, "cross_entropy", hashed=False)


def noise(shape: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(7).normal(size=shape).astype(np.float32)


def right(targets: np.ndarray, labels: int = 3) -> np.ndarray:
    """Logits of a model that is mostly right."""
    logits: np.ndarray = 3 * np.eye(labels, dtype=np.float32)[targets] + noise((len(targets), labels))
    return logits


def test_they_are_scikit_learns_words_and_characters() -> None:
    (texts, targets), (tests, _) = sentences(150, 1), sentences(50, 3)
    vectorizers = (
        TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2)),
        TfidfVectorizer(sublinear_tf=True, ngram_range=(2, 5), analyzer="char_wb"),
    )
    train, test = ([each.inputs["text"] for each in some] for some in (texts, tests))
    features = hstack([vectorizer.fit_transform(train) for vectorizer in vectorizers])
    model = LogisticRegression(C=10, max_iter=1000).fit(features, targets)
    theirs = model.predict_log_proba(hstack([vectorizer.transform(test) for vectorizer in vectorizers]))
    assert log_softmax(fitted().logits(tests, 3), axis=1) == pytest.approx(theirs, abs=2e-2)


def test_a_pair_is_read_by_how_like_its_texts_are() -> None:
    counts = fit_counts(*pairs(400, 1), 1, "squared", hashed=False)
    tests, numbers = pairs(100, 2)
    assert pearsonr(counts.logits(tests, 1)[:, 0], numbers).statistic > 0.95
    swapped = [Example({"a": each.inputs["b"], "b": each.inputs["a"]}, None, "") for each in tests]
    assert np.array_equal(counts.logits(swapped, 1), counts.logits(tests, 1))


def test_the_one_that_knows_more_has_more_weight() -> None:
    (texts, targets), counts = sentences(200, 5), fitted()
    by_chance = noise((200, 3))
    trusting = Stack(counts, "cross_entropy").weighed(by_chance, texts, targets)
    assert trusting.weights[0] < trusting.weights[1] / 3
    misled = fit_counts(texts, np.random.default_rng(1).permutation(targets), 3, "cross_entropy", hashed=False)
    doubting = Stack(misled, "cross_entropy").weighed(right(targets), *sentences(200, 5))
    assert doubting.weights[1] < doubting.weights[0] / 5


def test_both_lose_no_more_than_either_on_the_rows_that_weigh_them() -> None:
    (texts, targets), counts = sentences(300, 5), fitted()
    outputs = right(targets)

    def nats(logits: np.ndarray) -> float:
        return float(-log_softmax(logits, axis=1)[np.arange(300), targets].mean())

    stack = Stack(counts, "cross_entropy").weighed(outputs, texts, targets)
    both = nats(stack.mixed(outputs, texts))
    assert both < min(nats(outputs), nats(counts.logits(texts, 3)))


def test_few_rows_move_the_weights_little() -> None:
    texts, targets = sentences(1, 5)
    few = Stack(fitted(), "cross_entropy").weighed(noise((1, 3)), texts, targets).weights
    assert few == pytest.approx((0.5, 1.0), rel=0.5)
    one, number = pairs(1, 3)
    counts = fit_counts(*pairs(50, 1), 1, "squared", hashed=False)
    assert Stack(counts, "squared").weighed(noise((1, 1)), one, number).weights == pytest.approx((0.5, 0.5), abs=0.5)


def test_weights_of_numbers_are_not_negative() -> None:
    (texts, numbers), counts = pairs(100, 2), fit_counts(*pairs(400, 1), 1, "squared", hashed=False)
    against, trusted = Stack(counts, "squared").weighed(-numbers[:, None], texts, numbers).weights
    assert against == 0 < trusted


def test_each_label_separately() -> None:
    texts, targets = sentences(150, 1)
    labels = np.eye(3, dtype=np.float32)[targets]
    stack = Stack(fit_counts(texts, labels, 3, "binary", hashed=False), "binary")
    tests, expected = sentences(50, 3)
    stack = stack.weighed(noise((50, 3)), tests, np.eye(3)[expected])
    assert np.array_equal(stack.mixed(noise((50, 3)), tests).argmax(1), expected)


def test_a_label_without_training_rows_is_unlikely_and_not_impossible() -> None:
    stack = Stack(fit_counts(*sentences(150, 1, 2), 3, "cross_entropy", hashed=False), "cross_entropy")
    texts, targets = sentences(20, 2, 2)
    mixed = stack.weighed(noise((20, 3)), texts, targets).mixed(noise((20, 3)), texts)
    assert np.isfinite(mixed).all()
    assert not (mixed.argmax(1) == 2).any()


@pytest.mark.parametrize("texts", [["?!", "..", "-"], ["", " ", "\n"]])
def test_texts_without_a_term_leave_the_shares_of_labels(texts: list[str]) -> None:
    counts = fit_counts(examples(texts), np.array([2, 2, 0]), 3, "cross_entropy", hashed=False)
    kept = np.exp(log_softmax(counts.logits(examples(["anything"]), 3)[:, [0, 2]], axis=1))
    assert kept[0, 1] > kept[0, 0]


def test_scripts_without_spaces_are_counted_by_character() -> None:
    chinese = ["这部电影很好看", "服务太差了", "房间很干净", "质量不好"] * 5
    counts = fit_counts(examples(chinese), np.array([1, 0, 1, 0] * 5), 2, "cross_entropy", hashed=False)
    assert [kind.analyzer for kind in counts.kinds] == ["char"]
    assert counts.logits(examples(["电影好看", "服务差"]), 2).argmax(1).tolist() == [1, 0]


@pytest.mark.parametrize("loss", COUNTED)
def test_saved_and_loaded_they_answer_the_same(loss: str, tmp_path: Path) -> None:
    texts, targets = sentences(60, 1) if loss != "squared" else pairs(60, 1)
    labels = np.eye(3, dtype=np.float32)[targets] if loss == "binary" else targets
    outputs = noise((60, 1 if loss == "squared" else 3))
    counts = fit_counts(texts, labels, outputs.shape[1], loss, hashed=False)  # type: ignore[arg-type]
    stack = Stack(counts, loss).weighed(outputs, texts, labels)  # type: ignore[arg-type]
    stack.save(tmp_path)
    assert np.array_equal(load_stack(tmp_path, outputs.shape[1]).mixed(outputs, texts), stack.mixed(outputs, texts))


def test_hashed_they_hold_no_word(tmp_path: Path) -> None:
    stack = Stack(fit_counts(*sentences(150, 1), 3, "cross_entropy", hashed=True), "cross_entropy")
    stack.save(tmp_path)
    assert not [word for word in WORDS if word in (tmp_path / "counts.json").read_text()]
    texts, targets = sentences(50, 3)
    loaded = load_stack(tmp_path, 3)
    assert np.mean(loaded.counts.logits(texts, 3).argmax(1) == targets) > 0.9


def test_what_is_damaged_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"counts.json: this file is missing"):
        load_stack(tmp_path, 3)
    Stack(fitted(), "cross_entropy").save(tmp_path)
    with pytest.raises(ModelError, match="do not fit each other, or 2 outputs"):
        load_stack(tmp_path, 2)
    saved, tensors = json.loads((tmp_path / "counts.json").read_text()), tmp_path / "counts.safetensors"
    for change in ({"kinds": saved["kinds"][:1]}, {"pairs": True}, {"classes": [0, 1]}):
        (tmp_path / "counts.json").write_text(json.dumps(saved | change))
        with pytest.raises(ModelError, match="do not fit each other"):
            load_stack(tmp_path, 3)
    (tmp_path / "counts.json").write_text(json.dumps(saved | {"weights": ["much", 1]}))
    with pytest.raises(ModelError, match=r"counts.json: 'weights"):
        load_stack(tmp_path, 3)
    (tmp_path / "counts.json").write_text(json.dumps(saved))
    whole = tensors.read_bytes()
    arrays = safetensors.numpy.load(whole)
    for content, message in (
        (whole[:-10], r"counts.safetensors: "),
        (safetensors.numpy.save({"idf.0": arrays["idf.0"]}), r"counts.safetensors: "),
        (safetensors.numpy.save(arrays | {"intercepts": arrays["intercepts"] * np.nan}), "not finite numbers"),
    ):
        tensors.write_bytes(content)
        with pytest.raises(ModelError, match=message):
            load_stack(tmp_path, 3)
