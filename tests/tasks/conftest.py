"""Tokenizers of every family, trained here on a few sentences."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Literal

import pytest
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

SENTENCES = (
    "The soup was cold, and the waiter never came back.",
    "She said: it's late! Don't you (all) know? No; not at all...",
    "Trains stop here at 8 or 9, not at 10; 12345 people and 67890 more wait.",
    "a b c d e f g h i j k l m n o p q r s t u v w x y z",
    "zabcdefghijklmnopqrstuvwxy bcdefghijklmnopqrstuvwxyza A-B_C/D|E<F>G[H]I{J}K",
    "ZABCDEFGHIJKLMNOPQRSTUVWXY BCDEFGHIJKLMNOPQRSTUVWXYZA 9012345678 ' \" \n",
    "这部电影很好看。可是太长。",
    "Éva naïvely ate crème brûlée — für 5 €.",
)
LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_BYTES = [f"<0x{byte:02X}>" for byte in range(256)]

Kept = Literal["all", "all but a space in front", "letters"]


@dataclass(frozen=True)
class Family:
    """A family of tokenizers: a model that has such a one, how ours is made, and what of a text comes back."""

    like: str
    make: Callable[[], PreTrainedTokenizerFast]
    keeps: Kept = "all"
    any_character: bool = True
    normal_form: str | None = None
    has_end: bool = True

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """One that no test may change."""
        return self.make()

    def form(self, text: str) -> str:
        """Return what of a text must come back."""
        text = unicodedata.normalize(self.normal_form, text) if self.normal_form else text
        if self.keeps == "letters":
            return "".join(text.split()).lower()
        return text if self.keeps == "all" else text.lstrip(" ")

    def decoded(self, ids: Sequence[int]) -> str:
        """Return the text of tokens, as far as it must come back."""
        return self.form(str(self.tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)))

    def gives_back(self, ids: Sequence[int], text: str) -> bool:
        """Whether tokens are those of a text; of an unknown word nothing comes back."""
        return self.tokenizer.unk_token_id in ids or self.decoded(ids) == self.form(text)


def _fast(tokenizer: Tokenizer, **special: str) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(tokenizer.to_str()), clean_up_tokenization_spaces=False, **special
    )


def _template(single: str, tokenizer: Tokenizer) -> processors.TemplateProcessing:
    names = [name for name in single.split() if name != "$A"]
    return processors.TemplateProcessing(
        single=single, special_tokens=[(name, tokenizer.token_to_id(name)) for name in names]
    )


@cache
def _byte_level(*special: str, prefix_space: bool = False, split: str | None = None, nfc: bool = False) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(ignore_merges=split is not None))
    tokenizer.normalizer = normalizers.NFC() if nfc else None
    level = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space, use_regex=split is None)
    cut = [] if split is None else [pre_tokenizers.Split(Regex(split), "isolated")]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*cut, level])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=list(special), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return tokenizer


def byte_level(single: str | None, *special: str, prefix_space: bool = False, **names: str) -> PreTrainedTokenizerFast:
    tokenizer = _byte_level(*special, prefix_space=prefix_space)
    found = _fast(tokenizer, **names)
    if single is not None:
        found.backend_tokenizer.post_processor = _template(single, tokenizer)
    return found


def roberta() -> PreTrainedTokenizerFast:
    tokenizer = _byte_level("<s>", "<pad>", "</s>", "<unk>", "<mask>")
    found = _fast(tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>")
    found.backend_tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", tokenizer.token_to_id("</s>")), ("<s>", tokenizer.token_to_id("<s>")), trim_offsets=False
    )
    return found


def llama_3() -> PreTrainedTokenizerFast:
    tokenizer = _byte_level(split=LLAMA_3)
    found = _fast(tokenizer)
    names = ["begin_of_text", "end_of_text", "start_header_id", "end_header_id", "eot_id"]
    names += [f"reserved_special_token_{number}" for number in range(8)]
    found.add_special_tokens({"additional_special_tokens": [f"<|{name}|>" for name in names]})
    found.bos_token, found.eos_token = "<|begin_of_text|>", "<|eot_id|>"
    single = _template("<|begin_of_text|> $A", found.backend_tokenizer)
    found.backend_tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), single])
    return found


def qwen() -> PreTrainedTokenizerFast:
    found = _fast(_byte_level(split=LLAMA_3, nfc=True))
    found.add_special_tokens({"additional_special_tokens": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]})
    found.add_tokens([AddedToken("<think>", special=False, normalized=False)])
    found.eos_token, found.pad_token = "<|im_end|>", "<|endoftext|>"
    return found


def deepseek() -> PreTrainedTokenizerFast:
    """Its turns begin with tokens that are not special."""
    found = _fast(_byte_level("<|begin|>", "<|end|>"), bos_token="<|begin|>", eos_token="<|end|>", pad_token="<|end|>")
    found.add_tokens([AddedToken(f"<|{name}|>", special=False, normalized=False) for name in ("User", "Assistant")])
    found.backend_tokenizer.post_processor = _template("<|begin|> $A", found.backend_tokenizer)
    found.chat_template = (
        "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'assistant' %}<|Assistant|>"
        "{% generation %}{{ message['content'] + eos_token }}{% endgeneration %}{% else %}<|User|>"
        "{{ message['content'] }}{% endif %}{% endfor %}{% if add_generation_prompt %}<|Assistant|>{% endif %}"
    )
    return found


@cache
def _pieces() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """A vocabulary of pieces with a mark in place of spaces, and its merges."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.train_from_iterator(SENTENCES, trainers.BpeTrainer(vocab_size=330, show_progress=False))
    model = json.loads(tokenizer.to_str())["model"]
    names = ["<unk>", "<s>", "</s>", "<pad>", *_BYTES, *model["vocab"]]
    return {name: place for place, name in enumerate(names)}, [(left, right) for left, right in model["merges"]]


def sentencepiece(
    prefix: Literal["legacy", "first", "never"], single: str | None = "<s> $A", **names: str
) -> PreTrainedTokenizerFast:
    vocabulary, merges = _pieces()
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    spaces = normalizers.Replace(" ", "▁")
    strip = [decoders.Strip(" ", 1, 0)]
    if prefix == "legacy":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), spaces])
    elif prefix == "first":
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="first", split=False)
    else:
        tokenizer.normalizer, strip = spaces, []
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>", *([names["pad_token"]] if "pad_token" in names else [])])
    if single is not None:
        tokenizer.post_processor = _template(single, tokenizer)
    return _fast(tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", **names)


def phi_3() -> PreTrainedTokenizerFast:
    found = sentencepiece("legacy", None)
    found.add_tokens([AddedToken(f"<|{name}|>", special=True, rstrip=True) for name in ("user", "assistant", "end")])
    return found


@cache
def _unigram(scheme: str, nfkc: bool) -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC() if nfkc else None
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme=scheme)
    trainer = trainers.UnigramTrainer(
        vocab_size=260, unk_token="<unk>", special_tokens=["<s>", "<pad>", "</s>", "<unk>"], show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return tokenizer


def unigram(single: str | None, scheme: str = "always", *, nfkc: bool = False, **names: str) -> PreTrainedTokenizerFast:
    tokenizer = _unigram(scheme, nfkc)
    found = _fast(tokenizer, **{"eos_token": "</s>", "unk_token": "<unk>", **names})
    if single is not None:
        found.backend_tokenizer.post_processor = _template(single, tokenizer)
    return found


@cache
def _word_piece(lowercase: bool) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase, strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(cleanup=False)
    trainer = trainers.WordPieceTrainer(
        vocab_size=400, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return tokenizer


def word_piece(single: str | None, *, lowercase: bool, **names: str) -> PreTrainedTokenizerFast:
    tokenizer = _word_piece(lowercase)
    found = _fast(tokenizer, unk_token="[UNK]", pad_token="[PAD]", **names)
    if single is not None:
        found.backend_tokenizer.post_processor = _template(single, tokenizer)
    return found


def word_level() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.WordLevelTrainer(special_tokens=["<unk>", "<eos>"], show_progress=False)
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return _fast(tokenizer, unk_token="<unk>", eos_token="<eos>")


def gpt_1() -> PreTrainedTokenizerFast:
    """It marks the ends of words, and has neither an end of text nor padding."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.BPEDecoder(suffix="</w>")
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<unk>"], end_of_word_suffix="</w>", show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return _fast(tokenizer, unk_token="<unk>")


def limited() -> PreTrainedTokenizerFast:
    """Its file cuts and pads every text, as those of sentence encoders do."""
    found = byte_level("<s> $A </s>", "<s>", "</s>", bos_token="<s>", eos_token="</s>", pad_token="</s>")
    found.backend_tokenizer.enable_truncation(4)
    found.backend_tokenizer.enable_padding(direction="left", length=16)
    return found


END = "<|endoftext|>"
FAMILIES: dict[str, Family] = {
    "byte-level BPE": Family("GPT-2, SmolLM2", lambda: byte_level(None, END, bos_token=END, eos_token=END)),
    "byte-level BPE with a space in front": Family(
        "GPT-2 with `add_prefix_space`",
        lambda: byte_level(None, "</s>", prefix_space=True, eos_token="</s>", pad_token="</s>"),
        "all but a space in front",
    ),
    "byte-level BPE that adds a BOS, which is the EOS": Family(
        "OPT", lambda: byte_level("</s> $A", "</s>", "<pad>", bos_token="</s>", eos_token="</s>", pad_token="<pad>")
    ),
    "byte-level BPE that adds an EOS": Family(
        "GPT-2 set to end texts", lambda: byte_level("$A <eos>", "<eos>", eos_token="<eos>", pad_token="<eos>")
    ),
    "byte-level BPE that adds BOS and EOS": Family("RoBERTa as a decoder", roberta),
    "byte-level BPE whose file cuts and pads": Family("models for sentences", limited),
    "byte-level BPE in words of its own, with a BOS": Family("Llama 3", llama_3),
    "byte-level BPE of composed characters": Family("Qwen", qwen, normal_form="NFC"),
    "byte-level BPE whose turns have ordinary tokens": Family("DeepSeek", deepseek),
    "SentencePiece BPE with a space in front": Family(
        "Llama 2", lambda: sentencepiece("legacy"), "all but a space in front"
    ),
    "SentencePiece BPE with a space at the start only": Family(
        "Mistral", lambda: sentencepiece("first"), "all but a space in front"
    ),
    "SentencePiece BPE without a space in front": Family("Gemma", lambda: sentencepiece("never", pad_token="<pad>")),
    "SentencePiece BPE that adds BOS and EOS": Family(
        "Llama 2 with `add_eos_token`", lambda: sentencepiece("legacy", "<s> $A </s>"), "all but a space in front"
    ),
    "SentencePiece BPE whose turns swallow spaces": Family("Phi-3", phi_3, "all but a space in front"),
    "Unigram that adds an EOS": Family(
        "T5 as a decoder", lambda: unigram("$A </s>", pad_token="<pad>"), "letters", False
    ),
    "Unigram that adds BOS and EOS": Family(
        "XLM-R as a decoder", lambda: unigram("<s> $A </s>", nfkc=True, bos_token="<s>"), "letters", False, "NFKC"
    ),
    "Unigram without a space in front": Family(
        "T5 without `add_dummy_prefix`", lambda: unigram(None, "never", bos_token="<s>"), "letters", False
    ),
    "WordPiece in lower case": Family(
        "BERT as a decoder",
        lambda: word_piece("[CLS] $A [SEP]", lowercase=True, bos_token="[CLS]", eos_token="[SEP]"),
        "letters",
        any_character=False,
    ),
    "WordPiece": Family(
        "BERT without its marks", lambda: word_piece(None, lowercase=False, eos_token="[SEP]"), "letters", False
    ),
    "words": Family("word-level models", word_level, "letters", False),
    "BPE of words, no end of text, no pad": Family("GPT", gpt_1, "letters", False, has_end=False),
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test of a `family` is one of each; of an `ending_family`, one of each that has an end of text."""
    chosen = {"family": list(FAMILIES), "ending_family": [name for name in FAMILIES if FAMILIES[name].has_end]}
    for fixture in chosen.keys() & set(metafunc.fixturenames):
        metafunc.parametrize(fixture, [FAMILIES[name] for name in chosen[fixture]], ids=chosen[fixture])


@pytest.fixture
def families() -> dict[str, Family]:
    """All of them by name."""
    return FAMILIES


@pytest.fixture
def sentences() -> tuple[str, ...]:
    """What they were trained on."""
    return SENTENCES
