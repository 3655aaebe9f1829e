"""Written answers beside right ones: exact match, ROUGE by rouge-score, BLEU and chrF by sacrebleu."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Literal

from gpt_tasks.tasks.measures import Form, Measure, Part, corpus_metric

ROUGE = ("rouge1", "rouge2", "rougeL", "rougeLsum")
# Languages that are written without spaces; sacrebleu has a tokenizer for Chinese, the others go by characters.
_TOKENIZERS = {"zh": "zh", "ja": "char", "ko": "char", "th": "char", "lo": "char", "km": "char", "my": "char"}
_SENTENCE_END = re.compile(r"(?<=[.!?\u3002\uff01\uff1f])\s+")


def exact_match(answer: str, references: Sequence[str]) -> Part:
    """One where the answer is a right one, but for case and the white space around it."""
    return Part(float(answer.strip().lower() in [reference.strip().lower() for reference in references]))


@dataclass(frozen=True, slots=True)
class TextMeasure(Measure):
    """A measure of a written answer beside right ones; `part(answer, references)` is what an example brings.

    `signature(references)` says how it was computed, given how many right answers each example has (-1: it varies).
    """

    part: Callable[[str, Sequence[str]], Part] = exact_match
    signature: Callable[[int], str] | None = None


def rouge(kind: str) -> TextMeasure:
    """ROUGE's F1, of 0 to 1, with stemming (Lin 2004); of several references the best counts.

    `rougeLsum` goes sentence by sentence, which are found by their end marks. The words are those of rouge-score:
    letters a to z and digits.
    """
    return TextMeasure(kind, highest=1.0, part=partial(_rouge, kind), signature=lambda _: "rouge-score, F1, stemmed")


def bleu(language: str) -> TextMeasure:
    """Corpus BLEU, of 0 to 100, of answers in a language (Papineni et al. 2002; sacrebleu, Post 2018)."""
    return _corpus("bleu", _TOKENIZERS.get(language, "13a"))


def chrf() -> TextMeasure:
    """Corpus chrF2, of 0 to 100: character n-grams up to 6 (Popovic 2015; sacrebleu)."""
    return _corpus("chrf", "13a")


def _corpus(form: Literal["bleu", "chrf"], tokenizer: str) -> TextMeasure:
    part, signature = partial(_counts, form, tokenizer), partial(_signature, form, tokenizer)
    return TextMeasure(form, form=form, highest=100.0, part=part, signature=signature)


def _rouge(kind: str, answer: str, references: Sequence[str]) -> Part:
    if kind == "rougeLsum":
        answer, references = _lines(answer), [_lines(reference) for reference in references]
    return Part(float(_scorer(kind).score_multi(references, answer)[kind].fmeasure))


def _lines(text: str) -> str:
    return _SENTENCE_END.sub("\n", text)


def _counts(form: Form, tokenizer: str, answer: str, references: Sequence[str]) -> Part:
    streams = [[reference] for reference in references]
    counts = corpus_metric(form, tokenizer)._extract_corpus_statistics([answer], streams)[0]
    return Part(tuple(map(float, counts)))


def _signature(form: Form, tokenizer: str, references: int) -> str:
    metric = corpus_metric(form, tokenizer)
    metric.num_refs = references
    return str(metric.get_signature())


@cache
def _scorer(kind: str) -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer([kind], use_stemmer=True)
