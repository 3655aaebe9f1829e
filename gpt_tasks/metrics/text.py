"""Metrics of written answers: exact match, ROUGE by rouge-score, BLEU and chrF by sacrebleu."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache, partial
from typing import Any, Literal

from gpt_tasks.extensions import Metric
from gpt_tasks.metrics.aggregate import corpus_metric
from gpt_tasks.types import Statistic
from gpt_tasks.words import folded, letters_of, words

ROUGE = ("rouge1", "rouge2", "rougeL", "rougeLsum")
# Languages written without spaces, and Korean; sacrebleu has a tokenizer for Chinese, the others go by characters.
_TOKENIZERS = {"zh": "zh", "ja": "char", "ko": "char", "th": "char", "lo": "char", "km": "char", "my": "char"}
_BY_SCRIPT = "13a, zh for Chinese, char for Japanese, Korean, Thai, Lao, Khmer, Burmese"
_BY_CHARACTER = r"\p{Hiragana}\p{Katakana}\u30fc\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
# End marks before white space, those of Arabic, Urdu, Indian scripts, Armenian and Ethiopic among them; and those of
# Chinese and Japanese, behind which there is none.
_SENTENCE_END = re.compile(r"(?<=[.!?\u061f\u06d4\u0964\u0965\u0589\u1362])\s+|(?<=[\u3002\uff01\uff1f\uff61])\s*(?!$)")


def exact_match() -> Metric:
    """One where the answer is a right one, but for case and the white space around it."""
    return Metric("exact_match", "Share of answers that equal a reference.", range=(0.0, 1.0), statistic=_exact_match)


def rouge(kind: str) -> Metric:
    """ROUGE's F1, of 0 to 1, with stemming (Lin 2004); of several references the best counts.

    `rougeLsum` goes sentence by sentence, which are found by their end marks. The words are those of `words.words`:
    in English text they are rouge-score's, which reads the letters a to z and digits alone.
    """
    return Metric(
        kind,
        "F1 of shared word sequences.",
        range=(0.0, 1.0),
        statistic=partial(_rouge, kind),
        signature=lambda _: "rouge-score, F1, stemmed, words of any script, characters where it puts no spaces",
    )


def bleu(language: str | None = None) -> Metric:
    """Corpus BLEU, of 0 to 100, of answers in a language (Papineni et al. 2002; sacrebleu, Post 2018).

    Without a language the script of each example's references chooses the tokenizer, which the signature says.
    """
    return _corpus("bleu", _BY_SCRIPT if language is None else _TOKENIZERS.get(language, "13a"))


def chrf() -> Metric:
    """Corpus chrF2, of 0 to 100: character n-grams up to 6 (Popovic 2015; sacrebleu)."""
    return _corpus("chrf", "13a")


def _corpus(name: Literal["bleu", "chrf"], tokenizer: str) -> Metric:
    return Metric(
        name,
        "Shared n-grams of words." if name == "bleu" else "Shared n-grams of characters.",
        range=(0.0, 100.0),
        statistic=partial(_counts, name, tokenizer),
        aggregate=name,
        signature=partial(_signature, name, tokenizer),
    )


def _exact_match(answer: str, references: Sequence[str]) -> Statistic:
    return Statistic(float(folded(answer).strip() in [folded(reference).strip() for reference in references]))


def _rouge(kind: str, answer: str, references: Sequence[str]) -> Statistic:
    if kind == "rougeLsum":
        answer, references = _lines(answer), [_lines(reference) for reference in references]
    return Statistic(float(_scorer(kind).score_multi(references, answer)[kind].fmeasure))


def _lines(text: str) -> str:
    return _SENTENCE_END.sub("\n", text)


def _counts(name: str, tokenizer: str, answer: str, references: Sequence[str]) -> Statistic:
    if tokenizer == _BY_SCRIPT:
        tokenizer = _tokenizer_of("\n".join(references))
    streams = [[reference] for reference in references]
    counts = corpus_metric(name, tokenizer)._extract_corpus_statistics([answer], streams)[0]
    return Statistic(tuple(map(float, counts)))


def _signature(name: str, tokenizer: str, references: int) -> str:
    metric = corpus_metric(name, "13a" if tokenizer == _BY_SCRIPT else tokenizer)
    metric.num_refs = references
    signature = str(metric.get_signature())
    return signature.replace("tok:13a", f"tok:{tokenizer}") if tokenizer == _BY_SCRIPT else signature


def _tokenizer_of(text: str) -> str:
    """Return sacrebleu's tokenizer for a text: the one for most of its letters."""
    if text.isascii():
        return "13a"
    chinese, others = letters_of(text, r"\p{Han}"), letters_of(text, _BY_CHARACTER)
    if 2 * (chinese + others) <= letters_of(text, r"\p{L}"):
        return "13a"
    # Japanese has Chinese characters among its own.
    return "zh" if chinese > 10 * others else "char"


@cache
def _scorer(kind: str) -> Any:
    from nltk.stem.porter import PorterStemmer
    from rouge_score.rouge_scorer import RougeScorer
    from rouge_score.tokenizers import Tokenizer

    class Words(Tokenizer):  # type: ignore[misc]
        """The words of any script; those of a to z are stemmed as rouge-score's own tokenizer stems them."""

        stemmer = PorterStemmer()

        def tokenize(self, text: str) -> list[str]:
            return [self.stemmer.stem(word) if len(word) > 3 and word.isascii() else word for word in words(text)]

    return RougeScorer([kind], tokenizer=Words())
