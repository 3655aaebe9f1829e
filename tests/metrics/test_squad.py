"""Answers and references: hand-worked cases of SQuAD, MLQA and CMRC 2018, and the official threshold."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt_tasks.metrics.figures import figure
from gpt_tasks.metrics.squad import Language, Threshold, best_threshold, squad_metrics
from gpt_tasks.types import Statistic


def contributed(
    answer: str, references: list[str], language: Language = "en", *, unanswerable: bool = False
) -> dict[str, Statistic]:
    metrics = squad_metrics(language, unanswerable=unanswerable)
    return {metric.name: metric.statistic(answer, references) for metric in metrics}


def both(answer: str, references: list[str], language: Language = "en", *, unanswerable: bool = False) -> list[float]:
    found = contributed(answer, references, language, unanswerable=unanswerable)
    return [float(found[name].columns[0]) for name in ("exact_match", "f1")]


@pytest.mark.parametrize(
    ("answer", "references", "exact", "f1"),
    [
        ("the Eiffel Tower!", ["Eiffel tower"], 1, 1),
        ("  An\tapple,\u00a0a  day ", ["apple day"], 1, 1),
        # in/city/of/paris against paris/france: 1 of 4 and 1 of 2.
        ("in the city of Paris", ["Paris, France"], 0, 1 / 3),
        # Punctuation goes without leaving a space behind, articles only where they are words.
        ("well-known", ["wellknown"], 1, 1),
        ("theatre", ["atre"], 0, 0),
        # A word counts as often as it occurs on both sides: 2 of 4 and 2 of 2.
        ("to be to be", ["to be"], 0, 2 / 3),
        # The best reference counts, for each metric separately.
        ("1973", ["October 1973", "October", "1973"], 1, 1),
        ("October of 1973", ["October 1973", "1973"], 0, 0.8),
        ("", ["Paris"], 0, 0),
        # Quotation marks beyond ASCII stay.
        ("\u201cHamlet\u201d", ["Hamlet"], 0, 0),
        # Two texts of which nothing is left are equal, and have no word in common.
        ("A.", ["the"], 1, 0),
        ("", ["the", "Paris"], 1, 0),
    ],
)
def test_squad_1_by_hand(answer: str, references: list[str], exact: float, f1: float) -> None:
    assert both(answer, references) == pytest.approx([exact, f1])


@pytest.mark.parametrize(
    ("answer", "references", "exact", "f1"),
    [
        ("", [], 1, 1),
        ("Paris", [], 0, 0),
        ("The.", [], 1, 1),
        ("", ["Paris"], 0, 0),
        ("Paris", ["Paris"], 1, 1),
        ("in Paris", ["Paris"], 0, 2 / 3),
        # A reference of which nothing is left is none, where there is another; and "no answer", where there is not.
        ("", ["the", "Paris"], 0, 0),
        ("", ["the"], 1, 1),
        ("Paris", ["the"], 0, 0),
    ],
)
def test_squad_2_by_hand(answer: str, references: list[str], exact: float, f1: float) -> None:
    assert both(answer, references, unanswerable=True) == pytest.approx([exact, f1])


@pytest.mark.parametrize(
    ("answer", "references", "exact", "f1"),
    [
        # Four characters of five and of four, by SQuAD's rules too.
        ("在北京大学", ["北京大学。"], 0, 8 / 9),
        ("北京。", ["「北京」"], 1, 1),
        ("東京タワー", ["東京"], 0, 4 / 7),
        ("Cafe\u0301 Müller", ["CAFÉ MÜLLER"], 1, 1),
        ("नमस्ते दुनिया", ["नमस्ते"], 0, 2 / 3),
    ],
)
def test_any_script_is_counted(answer: str, references: list[str], exact: float, f1: float) -> None:
    assert both(answer, references) == pytest.approx([exact, f1])


def test_a_question_without_references_has_no_answer_under_squad_1_too() -> None:
    assert both("", []) == [1, 1]
    assert both("Paris", []) == [0, 0]


def test_the_split_by_whether_there_is_an_answer() -> None:
    asked = [("Paris", ["Paris"]), ("in Paris", ["Paris"]), ("", ["Rome"]), ("", []), ("Rome", [])]
    found = {
        metric.name: figure(metric, [metric.statistic(*each) for each in asked]).value
        for metric in squad_metrics(unanswerable=True)
    }
    assert found == pytest.approx(
        {
            "exact_match": 2 / 5,
            "f1": (1 + 2 / 3 + 1) / 5,
            "has_answer_exact_match": 1 / 3,
            "has_answer_f1": (1 + 2 / 3) / 3,
            "no_answer_exact_match": 1 / 2,
        }
    )


@pytest.mark.parametrize(
    ("answer", "references", "exact", "f1"),
    [
        ("das \u201eHaus\u201c am See", ["Haus am See"], 1, 1),
        ("Einem der Hunde", ["hunde"], 1, 1),
        # "an" is no German article: an/donau against donau.
        ("an der Donau", ["Donau"], 0, 2 / 3),
        ("der", ["die"], 1, 0),
    ],
)
def test_german_by_hand(answer: str, references: list[str], exact: float, f1: float) -> None:
    assert both(answer, references, "de") == pytest.approx([exact, f1])


@pytest.mark.parametrize(
    ("answer", "references", "exact", "f1"),
    [
        ("光荣和ω-force", ["光荣和ω-Force"], 1, 1),
        ("《战国无双3》", ["战国无双3"], 1, 1),
        # The longest run in common, two characters of 4 and of 5, though four are common in order.
        ("北京大学", ["北京的大学"], 0, 4 / 9),
        # A word of letters counts as much as a character: nexon/korea of 由/nexon/korea/开/发.
        ("由Nexon Korea开发", ["Nexon Korea"], 0, 4 / 7),
        # Spaces are compared, but part no words from characters.
        ("308 分", ["308分"], 0, 1),
        # A sign that the evaluation does not name stays: 2013/年/. against 2013/年.
        ("2013年.", ["2013年"], 0, 0.8),
        ("", ["踢爆"], 0, 0),
        ("踢", ["不对", "踢爆"], 0, 2 / 3),
    ],
)
def test_chinese_by_hand(answer: str, references: list[str], exact: float, f1: float) -> None:
    assert both(answer, references, "zh") == pytest.approx([exact, f1])


@pytest.mark.parametrize("language", ["en", "de", "zh"])
def test_no_answer_is_the_same_in_every_language(language: Language) -> None:
    assert both("", [], language, unanswerable=True) == [1, 1]
    assert both("x", [], language, unanswerable=True) == [0, 0]
    assert both("", ["x"], language, unanswerable=True) == [0, 0]


def test_the_signature_names_the_evaluation() -> None:
    def signature(language: Language, unanswerable: bool) -> str:
        metric = squad_metrics(language, unanswerable=unanswerable)[0]
        assert metric.signature is not None
        return metric.signature(1)

    assert [signature("en", False), signature("en", True)] == ["SQuAD 1.1", "SQuAD 2.0"]
    assert [signature("de", False), signature("zh", False)] == ["MLQA, de", "CMRC 2018"]
    assert signature("zh", True) == "CMRC 2018, no answer as SQuAD 2.0"


@pytest.fixture(scope="module")
def mlqa() -> ModuleType:
    """The evaluation of MLQA as lm-evaluation-harness has it, loaded by its path: its package takes seconds."""
    found = importlib.util.find_spec("lm_eval")
    if found is None or found.origin is None:
        pytest.skip("lm_eval is not installed")
    path = Path(found.origin).parent / "tasks" / "mlqa" / "utils.py"
    spec = importlib.util.spec_from_file_location("mlqa_utils", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PIECES = st.sampled_from(
    ["the", "a", "an", "der", "Die", "EINES", "Haus", "house", "cat", "ß", "Äpfel", "x", "1", "-", "'s", ".", "(", "$"]
)
TEXTS = st.lists(st.tuples(PIECES, st.sampled_from(["", " ", "\n", "\u00a0"])), max_size=6).map(
    lambda pairs: "".join(piece + gap for piece, gap in pairs)
)
MARKS = ["\u201e", "\u201c", "\u2013", "\u2026", "\u00a7", "der Hund", " "]
GERMAN = st.lists(st.sampled_from(MARKS), max_size=4).map("".join)


@settings(max_examples=200, deadline=None)
@given(answer=TEXTS, references=st.lists(TEXTS, min_size=1, max_size=3), marks=GERMAN)
def test_english_and_german_are_as_the_evaluation_of_mlqa_counts(
    mlqa: ModuleType, answer: str, references: list[str], marks: str
) -> None:
    # Of ASCII's punctuation alone, MLQA's English is SQuAD's.
    for language, text in (("en", answer), ("de", answer + marks)):
        peer = [
            mlqa.metric_max_over_ground_truths(function, text, references, language)
            for function in (mlqa.exact_match_score, mlqa.f1_score)
        ]
        assert both(text, references, language) == peer


def test_the_best_threshold_by_hand() -> None:
    # Nothing answered, 2 of 5 are right; in the order of the probabilities it then goes 3, 2, 2.5, 3.5, 2.5.
    found = best_threshold(
        scores=np.array([1.0, 0.0, 0.5, 0.0, 1.0]),
        no_answer=np.array([0.1, 0.2, 0.3, 0.9, 0.6]),
        has_answer=np.array([True, False, True, False, True]),
        answered=np.array([True, True, True, True, True]),
    )
    assert found == Threshold(score=3.5 / 5, above=0.6)


def test_where_nothing_should_be_answered_the_threshold_is_0() -> None:
    nothing = np.zeros(3)
    found = best_threshold(nothing, np.array([0.2, 0.4, 0.9]), nothing.astype(bool), np.ones(3, dtype=bool))
    assert found == Threshold(score=1.0, above=0.0)


def the_official_way(
    scores: np.ndarray, no_answer: np.ndarray, has_answer: np.ndarray, answered: np.ndarray
) -> Threshold:
    """One question after the other, by the probability of no answer."""
    reached = best = float(sum(not each for each in has_answer))
    above = 0.0
    for index in sorted(range(len(scores)), key=lambda index: no_answer[index]):
        if has_answer[index]:
            reached += scores[index]
        elif answered[index]:
            reached -= 1
        if reached > best:
            best, above = reached, float(no_answer[index])
    return Threshold(best / len(scores), above)


@pytest.mark.parametrize("seed", range(8))
def test_the_best_threshold_is_the_official_one(seed: int) -> None:
    random = np.random.default_rng(seed)
    n = 300
    has_answer = random.random(n) < 0.6
    # Half of the cases with many equal probabilities.
    no_answer = random.random(n).round(1 if seed % 2 else 12)
    scores = np.where(random.random(n) < 0.5, 1.0, random.random(n))
    given = scores, no_answer, has_answer, random.random(n) < 0.9
    found = best_threshold(*given)
    assert found == the_official_way(*given)
    if not seed % 2:
        kept = np.where(no_answer > found.above, ~has_answer, np.where(has_answer, scores, ~given[3]))
        assert kept.mean() == pytest.approx(found.score)
