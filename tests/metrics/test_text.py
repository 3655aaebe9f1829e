"""Written answers and references: hand-worked cases, sacrebleu's own corpus scores, several references."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer

from gpt_tasks.extensions import Metric
from gpt_tasks.metrics.aggregate import apply_aggregate
from gpt_tasks.metrics.figures import figure
from gpt_tasks.metrics.text import ROUGE, bleu, chrf, exact_match, rouge
from gpt_tasks.types import Statistic

ANSWERS = [
    "The cat sat on the mat.",
    "A dog runs in the park, fast.",
    "",
    "There is nobody here.",
    "The train was late again",
]
REFERENCES = [
    "The cat is sitting on the mat.",
    "A dog is running in the park.",
    "It rains.",
    "There is nobody here.",
    "Again the train came late.",
]


def contributed(metric: Metric, answer: str, references: Sequence[str]) -> Statistic:
    """What an answer contributes to a metric."""
    assert metric.statistic is not None
    found = metric.statistic(answer, references)
    assert isinstance(found, Statistic)
    return found


def test_rouge_by_hand() -> None:
    # the/cat/sat/mat against the/cat/on/the/mat: 3 of 4 and 3 of 5; bigrams: the-cat of 3 and 4.
    answer, reference = "the cat sat mat", "the cat on the mat"
    assert contributed(rouge("rouge1"), answer, [reference]).value == pytest.approx(2 * 0.75 * 0.6 / 1.35)
    assert contributed(rouge("rouge2"), answer, [reference]).value == pytest.approx(2 * (1 / 3) * (1 / 4) / (7 / 12))
    assert contributed(rouge("rougeL"), answer, [reference]).value == pytest.approx(2 * 0.75 * 0.6 / 1.35)


def test_rouge_stems_and_takes_the_best_reference() -> None:
    assert contributed(rouge("rouge1"), "running dogs", ["the dog runs"]).value == pytest.approx(0.8)
    assert contributed(rouge("rouge1"), "a b c", ["x y", "a b c", "a"]).value == 1.0


@pytest.mark.parametrize(
    ("answer", "reference", "unigrams", "bigrams"),
    [
        # Characters of Chinese: 4 of 5 shared on both sides, and the pairs 我们 and 们去.
        ("我们去公园。", "我们去学园。", 0.8, 0.5),
        ("今日は雨です", "今日は雪です", 5 / 6, 3 / 5),
        ("Привет мир", "мир, ПРИВЕТ!", 1.0, 0.0),
        ("नमस्ते दुनिया", "नमस्ते", 2 / 3, 0.0),
        ("größer als", "grosser als", 0.5, 0.0),
        ("ein Café", "ein Cafe\u0301", 1.0, 1.0),
    ],
)
def test_rouge_counts_the_words_of_any_script(answer: str, reference: str, unigrams: float, bigrams: float) -> None:
    assert contributed(rouge("rouge1"), answer, [reference]).value == pytest.approx(unigrams)
    assert contributed(rouge("rouge2"), answer, [reference]).value == pytest.approx(bigrams)
    assert "words of any script" in rouge("rouge1").signature(1)


@pytest.mark.parametrize("kind", ROUGE)
def test_rouge_of_english_is_that_of_rouge_score(kind: str) -> None:
    texts = [
        *ANSWERS,
        *REFERENCES,
        "Runners' feelings weren't \u201cconsidered\u201d \u2013 at 3.5 % (US-made)",
        "",
        "?",
    ]
    theirs = RougeScorer([kind], use_stemmer=True)
    for answer in texts:
        for reference in texts:
            expected = theirs.score(reference, answer)[kind].fmeasure
            if kind != "rougeLsum" or answer.count(".") + reference.count(".") == 0:
                assert contributed(rouge(kind), answer, [reference]).value == expected


def test_exact_match_ignores_case_and_form_in_any_script() -> None:
    for answer, reference in (("STRASSE ", "Straße"), ("ΌΣΟΣ", "όσος"), ("Cafe\u0301", "CAFÉ")):
        assert contributed(exact_match(), answer, [reference]).value == 1.0
    assert contributed(exact_match(), "Strase", ["Straße"]).value == 0.0


def test_sentences_of_chinese_need_no_space() -> None:
    answer, reference = "下雪了。狗在叫。", "狗在叫。下雪了。"
    assert contributed(rouge("rougeLsum"), answer, [reference]).value == 1.0
    assert contributed(rouge("rougeL"), answer, [reference]).value < 1.0


def test_rouge_lsum_goes_by_sentences() -> None:
    answer, reference = "It snows. The dog barks.", "The dog barks. It snows."
    assert contributed(rouge("rougeLsum"), answer, [reference]).value == 1.0
    assert contributed(rouge("rougeL"), answer, [reference]).value < 1.0


@pytest.mark.parametrize(
    ("answer", "references", "right"),
    [(" Paris ", ["paris"], 1), ("Paris", ["Rome", "Paris"], 1), ("Paris.", ["Paris"], 0), ("", ["Paris"], 0)],
)
def test_exact_match(answer: str, references: list[str], right: int) -> None:
    assert contributed(exact_match(), answer, references).value == right


def test_bleu_by_hand() -> None:
    # 5 words against 6, all but the last bigram onwards: precisions 4/5, 3/4, 2/3, 1/2; brevity exp(1 - 6/5).
    counts = contributed(bleu("en"), "one two three four six", ["one two three four five six"])
    precisions = [5 / 5, 3 / 4, 2 / 3, 1 / 2]
    expected = 100 * math.exp(1 - 6 / 5 + sum(map(math.log, precisions)) / 4)
    assert apply_aggregate("bleu", np.array(counts.columns), np.array(1.0)) == pytest.approx(expected)


@pytest.mark.parametrize("metric", [bleu("de"), bleu("zh"), bleu("ja"), chrf()], ids=["13a", "zh", "char", "chrf"])
def test_corpus_scores_are_those_of_sacrebleu(metric: Metric) -> None:
    from sacrebleu.metrics import BLEU, CHRF

    chinese = metric.signature is not None and "tok:zh" in metric.signature(1)
    answers = ["我们去公园吧。", "天气很好。", "他有三本书。"] if chinese else ANSWERS
    references = ["我们去公园。", "今天天气很好。", "他有三本书。"] if chinese else REFERENCES
    tokenizer = "zh" if chinese else "char" if metric.signature and "tok:char" in metric.signature(1) else "13a"
    peer = CHRF() if metric.aggregate == "chrf" else BLEU(tokenize=tokenizer)
    found = figure(
        metric,
        [contributed(metric, *pair) for pair in zip(answers, ([reference] for reference in references), strict=True)],
    )
    assert found.value == pytest.approx(peer.corpus_score(answers, [references]).score)
    assert metric.signature is not None
    assert metric.signature(1) == str(peer.get_signature())
    assert found.low <= found.value <= found.high
    assert found.stderr > 0


@pytest.mark.parametrize(
    ("text", "tokenizer"),
    [
        ("One two, three.", "13a"),
        ("Один два три, четыре.", "13a"),
        ("我们今天去公园。天气很好。", "zh"),
        ("今日は公園に行きました。", "char"),
        ("東京大学の研究者", "char"),
        ("오늘 우리는 공원에 갔다", "char"),
        ("วันนี้อากาศดีมาก", "char"),
        ("The word 公园 means park.", "13a"),
    ],
)
def test_without_a_language_the_script_chooses_the_tokenizer(text: str, tokenizer: str) -> None:
    from sacrebleu.metrics import BLEU

    answer = text[:-1]
    counts = contributed(bleu(), answer, [text])
    peer = BLEU(tokenize=tokenizer)._extract_corpus_statistics([answer], [[text]])[0]
    assert list(counts.columns) == peer
    signature = bleu().signature
    assert signature is not None
    assert "|tok:13a, zh for Chinese, char for Japanese, Korean, Thai, Lao, Khmer, Burmese|" in signature(1)


def test_several_references_are_those_of_sacrebleu() -> None:
    from sacrebleu.metrics import BLEU

    others = [text.upper().lower() for text in reversed(REFERENCES)]
    pairs = zip(ANSWERS, zip(REFERENCES, others, strict=True), strict=True)
    found = figure(bleu("en"), [contributed(bleu("en"), answer, both) for answer, both in pairs])
    assert found.value == pytest.approx(BLEU().corpus_score(ANSWERS, [REFERENCES, others]).score)


def test_a_perfect_corpus_reaches_the_best_value() -> None:
    for metric, best in ((bleu("en"), 100), (chrf(), 100), (rouge("rouge2"), 1), (rouge("rougeLsum"), 1)):
        found = figure(metric, [contributed(metric, text, [text]) for text in REFERENCES if len(text.split()) > 3])
        assert found.value == pytest.approx(best)
        assert found.stderr == pytest.approx(0, abs=1e-9)


def test_the_jackknife_agrees_with_the_spread_of_new_samples() -> None:
    """The standard error of BLEU over 60 sentences, against the spread of BLEU over many other 60."""
    random = np.random.default_rng(0)
    words = ["one", "two", "three", "four", "five", "six", "seven"]

    def sample() -> list[tuple[str, list[str]]]:
        texts = [" ".join(random.choice(words, 9)) for _ in range(60)]
        return [(" ".join(word if random.random() < 0.8 else "so" for word in text.split()), [text]) for text in texts]

    metric = bleu("en")
    figures = [figure(metric, [contributed(metric, *pair) for pair in sample()]) for _ in range(40)]
    spread = float(np.std([found.value for found in figures], ddof=1))
    error = float(np.mean([found.stderr for found in figures]))
    assert 0.7 < error / spread < 1.4


def test_an_interval_stays_where_values_can_be() -> None:
    statistics = [contributed(rouge("rouge1"), answer, ["one two"]) for answer in ("one", "x", "y", "z")]
    found = figure(rouge("rouge1"), statistics)
    assert 0.0 < found.low < found.value < found.high < 1.0
