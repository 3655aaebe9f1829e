"""How fast are texts written, compared with transformers' `generate` and CTranslate2?

    python benchmarks/generation_speed.py [--quick] [--data FOLDER] [--model gpt2|smollm2|FOLDER] [--tokenizer FOLDER]

A GPT-2 small with random weights, or another model, writes 100 tokens, greedily, after one prompt of 32 tokens and
after 16. Timed is the whole way from texts to texts, on a loaded model that has written once. Each side has a separate
process, which waits while others write, and the sides take turns.

- `batch 1`, `batch 16`: ours is a `Generator` as `gpt-tasks generate` opens it, in its default precision; the peer is
  the better of `generate` in float32 and in bf16, over the medians of all rounds.
- `batch 1 int8`, `batch 16 int8`: ours is `--precision int8`; the peer is CTranslate2's `Generator` in int8, called
  directly, without a callback, with those threads and types that were fastest in a trial before.

Also, in the same run: how many texts in float32 are `generate`'s, token for token, and how many in a batch of
prompts of all lengths are those of each prompt alone; how many in bf16 are `generate`'s in bf16. Where they are not,
how near the two best logits are at the first token that differs: a near tie is within 1e-4 in float32, and in bf16
within what that changes in `generate`'s logits there. And the perplexity on wikitext-2 in float32, in bf16, in int8 and
in CTranslate2's int8, over the same windows. With gpt2, the texts are also those of `tiny`, and the perplexity is.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import Any

from _models import GPT2, SHARED, add_model, case_of, write_model
from _results import print_table, write_results

PROMPT, NEW = 32, 100
SIZES = (1, 16)
GOALS = {"batch 1": 1.6, "batch 16": 2, "batch 1 int8": 1, "batch 16 int8": 1}
LLAMA_GOALS = GOALS | {"batch 1": 2}
CLOSE = 1e-4
WINDOW = 256

Side = Callable[[list[str]], list[int]]
"""Writes texts after texts; returns the number of tokens of each."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_model(parser)
    parser.add_argument("--rounds", type=int, default=5, help="of all sides")
    parser.add_argument("--quick", action="store_true", help="one round, and less to compare; nothing is written")
    parser.add_argument("--data", type=Path, default=SHARED / "data", help="holds generation/wikitext2")
    parser.add_argument("--only", choices=("speed", "texts"), help="one half; the other's results stay unchanged")
    args = parser.parse_args()
    text = (args.data / "generation" / "wikitext2" / "test.txt").read_text(encoding="utf-8")
    cases: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        backbone = Path(scratch) / "model"
        write_model(args.model, args.tokenizer, backbone)
        if args.only != "texts":
            goals = GOALS if args.model == GPT2 else LLAMA_GOALS
            cases += speed(backbone, text, goals, 1 if args.quick else args.rounds)
        if args.only != "speed":
            number, windows = (2, 4) if args.quick else (8, 64)
            if args.model == GPT2:
                cases += same_tokens(str(backbone), "random: ", text, number)
                cases += same_tokens("tiny", "tiny: ", text, 2 * number)
            else:
                cases += same_tokens(str(backbone), "", text, number)
            cases += perplexities("tiny" if args.model == GPT2 else str(backbone), text, windows)
    cases = [case | {"case": case_of(args.model, case["case"])} for case in cases]
    print_table(cases)
    for case in cases:
        if "notes" in case:
            print(f"{case['case']}: {case['notes']}")
    if not args.quick:
        write_results("generation_speed", cases, keep_others=bool(args.only) or args.model != GPT2)


def speed(backbone: Path, text: str, goals: dict[str, float], rounds: int) -> list[dict[str, Any]]:
    """Let all sides write in turn; return the four cases."""
    from ctranslate2.converters import TransformersConverter

    TransformersConverter(str(backbone)).convert(str(backbone.parent / "int8"), quantization="int8")
    prompts = cut(backbone, text, [PROMPT] * max(SIZES))
    with ExitStack() as stack:
        sides = {
            name: stack.enter_context(started(side, backbone, setting))
            for name, side, setting in (
                ("ours", ours, "auto"),
                ("float32", generate, "float32"),
                ("bf16", generate, "bfloat16"),
                ("ours int8", ours, "int8"),
                ("CTranslate2", ctranslate2, ""),
            )
        }
        taken: dict[tuple[str, int], list[float]] = {}
        for number in range(-1, rounds):
            for size in SIZES:
                for side, write in sides.items():
                    tokens, seconds = write(prompts[:size])
                    if number >= 0:  # the first one warms up
                        taken.setdefault((side, size), []).append(tokens / seconds)
            if number >= 0:
                told = ", ".join(f"{side} {size}: {figures[-1]:.1f}" for (side, size), figures in taken.items())
                print(f"round {number + 1}, tokens/s: {told}", flush=True)
    cases = []
    for name, goal in goals.items():
        size, int8 = int(name.split()[1]), name.endswith("int8")
        names = ("ours int8", ("CTranslate2",)) if int8 else ("ours", ("float32", "bf16"))
        mine, peers = taken[names[0], size], {peer: taken[peer, size] for peer in names[1]}
        best = max(peers, key=lambda peer: median(peers[peer]))
        cases.append(
            {
                "case": name,
                "ours": median(mine),
                "peer": median(peers[best]),
                "unit": "tokens/s",
                "ratio": median(mine) / median(peers[best]),
                "goal": goal,
                "rounds": {"ours": mine, **peers},
                "notes": {peer: round(median(figures), 1) for peer, figures in peers.items()}
                | ({} if int8 else {"precision": default_precision()}),
            }
        )
    return cases


@contextmanager
def started(side: Callable[[Path, str], Side], backbone: Path, setting: str) -> Iterator[Callable[[list[str]], Any]]:
    """Start a side in a separate process; yield what has it write, and returns the tokens and the seconds."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=serve, args=(there, side, backbone, setting), daemon=True)
    process.start()
    there.close()

    def write(prompts: list[str]) -> Any:
        here.send(prompts)
        return here.recv()

    yield write
    here.close()
    process.join()


def serve(pipe: Any, side: Callable[[Path, str], Side], backbone: Path, setting: str) -> None:
    write = side(backbone, setting)
    with suppress(EOFError):
        while True:
            prompts = pipe.recv()
            began = time.perf_counter()
            tokens = sum(write(prompts))
            pipe.send((tokens, time.perf_counter() - began))


def ours(backbone: Path, precision: str) -> Side:
    """Write by the writer that `gpt-tasks generate` uses."""
    from gpt_tasks.generation.decoding import Decoding
    from gpt_tasks.generation.generator import open_writer

    writer = open_writer(str(backbone), device="cpu", precision=precision)
    writer._ends = frozenset()  # all sides write as many tokens
    decoding = Decoding.checked(max_new_tokens=NEW)
    return lambda prompts: [texts[0].tokens for texts in writer.write(prompts, decoding)]


def generate(backbone: Path, dtype: str) -> Side:
    """Write by transformers' generate."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(backbone, dtype=getattr(torch, dtype)).eval()
    tokenizer = AutoTokenizer.from_pretrained(backbone, padding_side="left")
    tokenizer.pad_token = tokenizer.eos_token
    model.generation_config.eos_token_id = None

    def write(prompts: list[str]) -> list[int]:
        encoded = tokenizer(prompts, return_tensors="pt", padding=True)
        with torch.inference_mode():
            found = model.generate(**encoded, max_new_tokens=NEW, do_sample=False, pad_token_id=tokenizer.pad_token_id)[
                :, encoded["input_ids"].shape[1] :
            ]
        tokenizer.batch_decode(found, skip_special_tokens=True)
        return [len(row) for row in found]

    return write


def ctranslate2(backbone: Path, _: str) -> Side:
    """Write by CTranslate2's Generator, for each size of batch with the settings that a trial finds fastest."""
    import torch
    from ctranslate2 import Generator
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(backbone)
    threads = torch.get_num_threads()

    def opened(kind: str, workers: int, each: int) -> Side:
        generator = Generator(
            str(backbone.parent / "int8"), compute_type=kind, inter_threads=workers, intra_threads=each
        )

        def write(prompts: list[str]) -> list[int]:
            tokens = [tokenizer.convert_ids_to_tokens(ids) for ids in tokenizer(prompts)["input_ids"]]
            found = generator.generate_batch(
                tokens,
                max_length=NEW,
                max_batch_size=-(-len(prompts) // workers),  # several workers share a batch
                include_prompt_in_result=False,
                sampling_topk=1,
                end_token=[],
            )
            ids = [each.sequences_ids[0] for each in found]
            tokenizer.batch_decode(ids, skip_special_tokens=True)
            return [len(row) for row in ids]

        return write

    best: dict[int, Side] = {}

    def write(prompts: list[str]) -> list[int]:
        if len(prompts) not in best:
            ways = {(1, threads)} if len(prompts) == 1 else {(1, threads), (threads, 1)}
            trials = {}
            for kind in ("int8", "int8_float32"):
                for way in sorted(ways):
                    one = opened(kind, *way)
                    one(prompts)
                    began = time.perf_counter()
                    one(prompts)
                    trials[kind, *way] = time.perf_counter() - began
            kind, *way = min(trials, key=trials.__getitem__)
            print(f"CTranslate2, {len(prompts)} prompts: {kind}, {way[0]} workers of {way[1]} threads", flush=True)
            best[len(prompts)] = opened(kind, *way)
        return best[len(prompts)](prompts)

    return write


def same_tokens(model: str, name: str, text: str, number: int) -> list[dict[str, Any]]:
    """Compare texts: in float32 with generate's, and those of a batch with those of each prompt alone; in bf16."""
    import torch

    from gpt_tasks.generation.decoding import Decoding
    from gpt_tasks.generation.generator import open_writer

    writer = open_writer(model, device="cpu", precision="float32")
    rough = open_writer(model, device="cpu", precision="bf16")
    causal_lm, tokenizer = writer._model, writer.tokenizer
    decoding = Decoding.checked(max_new_tokens=NEW)
    ids = tokenizer(text[:20_000], verbose=False)["input_ids"]
    prompts = [ids[100 * place : 100 * place + 3 + 4 * place] for place in range(number)]
    kept = Kept(writer)
    together = kept.write(prompts, decoding)
    alone = [kept.write([prompt], decoding)[0] for prompt in prompts]
    roughly = [Kept(rough).write([prompt], decoding)[0] for prompt in prompts]

    def generated(model: Any) -> list[list[int]]:
        found = []
        for prompt in prompts:
            with torch.inference_mode():
                tokens = model.generate(
                    torch.tensor([prompt]),
                    max_new_tokens=NEW,
                    do_sample=False,
                    eos_token_id=sorted(writer._ends),
                    pad_token_id=tokenizer.pad_token_id or 0,
                )
            found.append(tokens[0, len(prompt) :].tolist())
        return found

    return [
        compared(f"{name}as generate", causal_lm, None, prompts, alone, generated(causal_lm)),
        compared(f"{name}batch as single", causal_lm, None, prompts, together, alone),
        compared(f"{name}as generate, bf16", causal_lm, rough._model, prompts, roughly, generated(rough._model)),
    ]


class Kept:
    """A writer's tokens instead of its texts."""

    def __init__(self, writer: Any) -> None:
        self.writer = writer

    def write(self, prompts: Sequence[Sequence[int]], decoding: Any) -> list[list[int]]:
        import torch

        from gpt_tasks.generation.rows import BatchOutputs

        found: list[list[int]] = [[] for _ in prompts]

        class Tokens(BatchOutputs):
            def take(self, row: int, token: int) -> bool:
                if not self.done[row]:
                    found[row].append(token)
                return super().take(row, token)

        engine = self.writer._engine_for(decoding)
        rows = Tokens(self.writer.tokenizer, prompts, [NEW] * len(prompts), ends=self.writer._ends)
        engine.write(prompts, decoding, rows, torch.Generator())
        return found


def compared(
    name: str,
    model: Any,
    rough: Any,
    prompts: Sequence[Sequence[int]],
    ours: list[list[int]],
    peer: list[list[int]],
) -> dict[str, Any]:
    """Count the texts that are equal, and those that part where the two best logits of `model` are as good as equal.

    That is within 1e-4, or with a `rough` model within twice what its logits differ by.
    """
    import torch

    equal, ties, gaps = 0, 0, []
    for prompt, one, other in zip(prompts, ours, peer, strict=True):
        parted = next((place for place, pair in enumerate(zip(one, other, strict=False)) if len(set(pair)) > 1), None)
        if parted is None:
            equal += one == other
            continue
        before = torch.tensor([[*prompt, *one[:parted]]])
        with torch.inference_mode():
            logits = model(before).logits[0, -1]
            close = CLOSE if rough is None else 2 * float((rough(before).logits[0, -1].float() - logits).abs().max())
        best = logits.topk(2).values
        gaps.append(round(float(best[0] - best[1]), 5))
        ties += gaps[-1] < close
    return {
        "case": name,
        "ours": equal + ties,
        "peer": len(prompts),
        "unit": "texts",
        "ratio": (equal + ties) / len(prompts),
        "goal": 1,
        "notes": {"equal": equal, "near ties": ties, "others": len(prompts) - equal - ties, "gaps": gaps},
    }


def perplexities(model: str, text: str, windows: int) -> list[dict[str, Any]]:
    """Measure a model on the same windows in each precision, each against float32."""
    import numpy as np
    import torch

    from gpt_tasks.generation.generator import open_writer
    from gpt_tasks.generation.int8 import Translated
    from gpt_tasks.generation.packed import PackedDecoder

    writer = open_writer(model, device="cpu", precision="float32")
    causal_lm, tokenizer = writer._model, writer.tokenizer
    ids = tokenizer(text[: 10 * windows * WINDOW], verbose=False)["input_ids"]
    pieces = [ids[start : start + WINDOW] for start in range(0, windows * WINDOW, WINDOW)]
    packed = {name: PackedDecoder(causal_lm, name).logits for name in ("float32", "bf16", "int8")}
    found = {}
    with torch.inference_mode():
        for name, logits in {**packed, "CTranslate2 int8": Translated(causal_lm, tokenizer).all_logits}.items():
            nats = [
                torch.nn.functional.cross_entropy(logits(tokens)[:-1], torch.tensor(tokens[1:])).item()
                for tokens in pieces
            ]
            found[name] = float(np.exp(np.mean(nats)))
    return [
        {
            "case": f"perplexity {name}",
            "ours": value,
            "peer": found["float32"],
            "unit": "by token; peer: float32",
            "ratio": found["float32"] / value,
            "goal": "",
        }
        for name, value in found.items()
        if name != "float32"
    ]


def cut(backbone: Path, text: str, lengths: Sequence[int]) -> list[str]:
    """Return pieces of the text, of so many tokens."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(backbone)
    ids = tokenizer(text[: 40 * sum(lengths)])["input_ids"]
    found, start = [], 0
    for length in lengths:
        piece = tokenizer.decode(ids[start : start + length])
        start += length
        while len(tokenizer(piece)["input_ids"]) != length:
            piece, start = tokenizer.decode(ids[start : start + length]), start + 1
        found.append(piece)
    return found


def default_precision() -> str:
    import torch

    from gpt_tasks.backbone.precision import resolve_precision

    return resolve_precision("auto", torch.device("cpu"))


if __name__ == "__main__":
    main()
