"""How good a language model is `tiny`? Bits per byte, perplexities and BLiMP, next to a Kneser-Ney 5-gram model.

    python benchmarks/language_model.py [--model FOLDER] [--before FOLDER] [--shards FOLDER] [--shared FOLDER] [--quick]

- `valid.txt / 5-gram`: bits per byte of the held-out text, against interpolated modified Kneser-Ney over the same
  tokens of the same corpus (`--shards`: the folder `shards` that `gpt-tasks pretrain` left). Every token counts, also
  the ends of documents; the model sees at least half a context before each.
- `valid.txt / before`: against an earlier model (`--before`).
- `tinyshakespeare`, `wikitext2`: perplexity by word (split at white space) and bits per byte, of the validation and the
  test file; there is no peer.
- `BLiMP / 5-gram`: the share of minimal pairs of which the good sentence is the likelier (sum of its tokens, given the
  end-of-text mark), as the mean of the 67 paradigms; 61.2 is what BLiMP's authors published for their 5-gram model
  (Warstadt et al., 2020, table 3).
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from _results import print_table, write_results
from kneser_ney import kneser_ney_nats
from transformers import AutoModelForCausalLM, AutoTokenizer

from gpt_tasks.backbone.precision import native_bf16
from gpt_tasks.plugins import installed_plugins
from gpt_tasks.pretraining.bits_per_byte import bits_per_byte
from gpt_tasks.pretraining.corpus import Shards, ValidationText

PUBLISHED_5_GRAM = 61.2
BF16 = native_bf16(torch.device("cpu"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a causal language model; default: the embedded one")
    parser.add_argument("--before", type=Path, help="an earlier one")
    parser.add_argument("--shards", type=Path, help="the training text's tokens")
    parser.add_argument("--shared", type=Path, default=Path(__file__).parents[2] / "shared", help="holds the texts")
    parser.add_argument("--quick", action="store_true", help="50 pairs of each paradigm, 20,000 tokens of each text")
    args = parser.parse_args()
    if not args.shared.is_dir():
        raise SystemExit(f"There is no folder {args.shared}: name the one that holds corpus and data with --shared")
    model, tokenizer = opened(args.model or installed_plugins().registry.backbones["tiny"].location())
    tokens = 20_000 if args.quick else None
    valid = args.shared / "corpus" / "valid.txt.xz"
    cases = []
    bits = bits_of(model, tokenizer, valid, tokens)
    if args.shards:
        cases.append(case("valid.txt / 5-gram", bits, n_gram_bits(args.shards, tokenizer, valid, tokens)))
    if args.before:
        cases.append(case("valid.txt / before", bits, bits_of(*opened(args.before), valid, tokens)))
    accuracy, by_phenomenon = blimp(model, tokenizer, args.shared / "data" / "suites" / "blimp", args.quick)
    cases.append(
        {
            "case": "BLiMP / 5-gram",
            "ours": accuracy,
            "peer": PUBLISHED_5_GRAM,
            "unit": "% of pairs",
            "ratio": accuracy / PUBLISHED_5_GRAM,
            "goal": 1.0,
            "rounds": [],
            "phenomena": by_phenomenon,
        }
    )
    texts = {}
    for name, file in (("tinyshakespeare", "validation.txt"), ("wikitext2", "test.txt")):
        path = args.shared / "data" / "generation" / name / file
        texts[name] = perplexities(model, tokenizer, path, tokens)
    print_table(cases)
    print(f"\nvalid.txt: {bits:.4f} bits per byte")
    for name, found in texts.items():
        print(f"{name}: perplexity {found['word']:,.1f} by word, {found['byte']:.3f} by byte, {found['bits']:.3f} bits")
    if not args.quick:
        write_results("language_model", [*cases, *({"case": name, **found} for name, found in texts.items())])


def opened(folder: Any) -> tuple[Any, Any]:
    """Open a model, in float32, and its tokenizer."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval(), AutoTokenizer.from_pretrained(
        folder
    )


def case(name: str, ours: float, peer: float) -> dict[str, Any]:
    """Return a case in which fewer bits are better."""
    return {
        "case": name,
        "ours": ours,
        "peer": peer,
        "unit": "bits per byte",
        "ratio": peer / ours,
        "goal": 1.0,
        "rounds": [],
    }


def read(tokenizer: Any, file: Path, tokens: int | None) -> ValidationText:
    """Return the text, or its first tokens."""
    text = ValidationText.read([file], tokenizer)
    return text.head(tokens) if tokens else text


def bits_of(model: Any, tokenizer: Any, file: Path, tokens: int | None) -> float:
    """Return bits per byte, each token given at least half a context."""
    return bits_per_byte(model, read(tokenizer, file, tokens), stride=model.config.n_positions // 2, bf16=BF16)


def n_gram_bits(folder: Path, tokenizer: Any, file: Path, tokens: int | None) -> float:
    """Return bits per byte of the Kneser-Ney model."""
    shards = Shards.open(folder)
    if shards is None:
        raise SystemExit(f"--shards {folder} holds no tokenized text")
    train = np.concatenate([np.fromfile(shard, dtype=shards.dtype) for shard in shards.files])
    text = read(tokenizer, file, tokens)
    return float(kneser_ney_nats(train, text.tokens, len(tokenizer)).sum() / math.log(2) / text.bytes)


def perplexities(model: Any, tokenizer: Any, file: Path, tokens: int | None) -> dict[str, float]:
    """Return the perplexity by word and by byte, and bits per byte; of the file's beginning where `tokens` says so."""
    text = read(tokenizer, file, tokens)
    bits = bits_per_byte(model, text, stride=model.config.n_positions // 2, bf16=BF16)
    words = len(tokenizer.decode(text.tokens, skip_special_tokens=True).split())
    return {
        "word": 2 ** (bits * text.bytes / words),
        "byte": 2**bits,
        "bits": bits,
        "words": words,
        "bytes": text.bytes,
    }


def blimp(model: Any, tokenizer: Any, folder: Path, quick: bool) -> tuple[float, dict[str, float]]:
    """Return the accuracy in percent, and that of each phenomenon: means over their paradigms."""
    taken: dict[str, int] = defaultdict(int)
    pairs = []
    with gzip.open(folder / "test.jsonl.gz", "rt", encoding="utf-8") as file:
        for pair in map(json.loads, file):
            taken[pair["paradigm"]] += 1
            if not quick or taken[pair["paradigm"]] <= 50:
                pairs.append(pair)
    good, bad = (likelihoods(model, tokenizer, [pair[side] for pair in pairs]) for side in ("good", "bad"))
    right: dict[str, list[bool]] = defaultdict(list)
    for pair, is_right in zip(pairs, good > bad, strict=True):
        right[pair["paradigm"]].append(bool(is_right))
    of_phenomenon: dict[str, list[float]] = defaultdict(list)
    for paradigm, phenomenon in sorted({(pair["paradigm"], pair["phenomenon"]) for pair in pairs}):
        of_phenomenon[phenomenon].append(100 * mean(right[paradigm]))
    accuracies = [accuracy for found in of_phenomenon.values() for accuracy in found]
    return mean(accuracies), {name: round(mean(found), 1) for name, found in of_phenomenon.items()}


@torch.inference_mode()
def likelihoods(model: Any, tokenizer: Any, sentences: Sequence[str]) -> np.ndarray:
    """Return the log-probability of each sentence after the end-of-text mark, in nats."""
    encoded = [[tokenizer.eos_token_id, *tokenizer.encode(sentence)] for sentence in sentences]
    order = sorted(range(len(encoded)), key=lambda number: len(encoded[number]))
    found = np.zeros(len(encoded))
    for start in range(0, len(order), 256):
        rows = order[start : start + 256]
        longest = max(len(encoded[row]) for row in rows)
        # Padding on the right changes nothing before it.
        ids = torch.tensor([encoded[row] + [0] * (longest - len(encoded[row])) for row in rows])
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1].log_softmax(-1)
        each = logits.gather(2, ids[:, 1:, None]).squeeze(2)
        lengths = torch.tensor([len(encoded[row]) - 1 for row in rows])
        found[rows] = (each * (torch.arange(longest - 1) < lengths[:, None])).sum(1).numpy()
    return found


if __name__ == "__main__":
    main()
