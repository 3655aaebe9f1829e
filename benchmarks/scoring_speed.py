"""How fast are requests scored, compared with lm-evaluation-harness on the same requests?

    python benchmarks/scoring_speed.py [--quick] [--data FOLDER] [--model gpt2|smollm2|FOLDER] [--only CASE ...]

A GPT-2 small with random weights, or another model, scores the same log-likelihood requests on both sides, in float32
and in bf16 (`--precisions`): ours by `Scorer.answer` as `gpt-tasks score` calls it, the peer by the `loglikelihood` of
lm-evaluation-harness's `hf` model, at the batch size of 1, 8, 16 and 64 that is fastest on a fifth of the requests.
Timed is the scoring, tokenizing included, after the model is loaded and a first request was answered. Each run is a
separate process, and the sides take turns.

- `fixed shots`: SST-2 after five examples, the same for every document; two choices of three tokens.
- `drawn shots`: the same, five examples drawn for each document.
- `zero-shot choices`: ARC Challenge and OpenBookQA.
- `blimp`: minimal pairs. `lambada`: last words of passages.

`bound` is the ratio that the work itself allows: multiply-accumulates of all tokens and all their logits on the peer's
side, as it forwards them without padding, by those of distinct tokens and needed logits. `share` is ratio by bound.
Also compared are the largest difference of a log-likelihood in float32, peak memory, and the seconds from the start of
a process to its first answer (`start-up`).
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

from _models import GPT2, SHARED, add_model, case_of, write_model
from _results import print_table, write_results

BATCHES = (1, 8, 16, 64)
PRECISIONS = ("float32", "bf16")
GOALS = {
    "fixed shots float32": 20,
    "fixed shots bf16": 12,
    "drawn shots": 2.4,
    "zero-shot choices": 3,
    "blimp": 1.2,
    "lambada": 1.3,
}
# By the products of matrices of SmolLM2's shape, in bf16.
LLAMA_GOALS = {
    "fixed shots bf16": 12,
    "drawn shots bf16": 2.5,
    "zero-shot choices bf16": 3.2,
    "blimp bf16": 1.4,
    "lambada bf16": 1.25,
}
WORDS = {"negative": " a poor one", "positive": " a great one"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round of a tenth of the requests")
    parser.add_argument("--data", type=Path, default=SHARED / "data", help="holds suites and sentiment/sst2")
    add_model(parser)
    parser.add_argument("--precisions", nargs="*", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--only", nargs="*", choices=CASES, default=list(CASES), help="the others stay unchanged")
    parser.add_argument("--run", nargs=2, metavar=("SIDE", "JOB"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run:
        print(json.dumps(SIDES[args.run[0]](**json.loads(Path(args.run[1]).read_text()))))
        return
    cases: list[dict[str, Any]] = []

    def measured(case: dict[str, Any]) -> None:
        """Save a case at once: all of them take the better part of an hour."""
        goals = GOALS if args.model == GPT2 else LLAMA_GOALS
        goal = next((goal for start, goal in goals.items() if case["case"].startswith(start)), case["goal"])
        case |= {"case": case_of(args.model, case["case"]), "goal": goal}
        cases.append(case)
        if not args.quick:
            write_results("scoring_speed", [case], keep_others=True)

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        backbone = folder / "model"
        write_model(args.model, args.tokenizer, backbone)
        measured(start_up(backbone, folder, 1 if args.quick else 3))
        for name in args.only:
            requests = CASES[name](args.data)
            requests = requests[: max(8, len(requests) // 10)] if args.quick else requests
            for precision in args.precisions:
                measured(compare(f"{name} {precision}", requests, precision, backbone, folder, args.quick))
    print_table(cases)
    for case in cases:
        if "bound" in case:
            share, memory = case["ratio"] / case["bound"], case["memory"]
            print(
                f"{case['case']}: bound {case['bound']:.2f}, share {share:.0%}, peak memory {memory['ours']} and "
                f"{memory['peer']} MiB, largest difference {case['difference']:.2g}"
            )


def compare(
    name: str, requests: list[tuple[str, str]], precision: str, backbone: Path, folder: Path, quick: bool
) -> dict[str, Any]:
    """Score requests on both sides in turn; return the case."""
    job = {"backbone": str(backbone), "precision": precision}
    fifth = requests[: max(8, len(requests) // 5)]
    trials = {size: run("peer", folder, requests=fifth, batch=size, **job)["seconds"] for size in BATCHES}
    best = min(trials, key=trials.__getitem__)
    ours, peer = [], []
    for number in range(1 if quick else 3):
        ours.append(run("ours", folder, requests=requests, **job))
        peer.append(run("peer", folder, requests=requests, batch=best, **job))
        print(f"{name}, round {number + 1}: {ours[-1]['seconds']:.2f} s and {peer[-1]['seconds']:.2f} s", flush=True)
    seconds = {side: [each["seconds"] for each in rounds] for side, rounds in (("ours", ours), ("peer", peer))}
    return {
        "case": name,
        "ours": median(seconds["ours"]),
        "peer": median(seconds["peer"]),
        "unit": "s",
        "ratio": median(seconds["peer"]) / median(seconds["ours"]),
        "goal": "",
        "rounds": seconds,
        "requests": len(requests),
        "peer_batch": best,
        "bound": ours[0]["bound"],
        "engine": ours[0]["engine"],
        "memory": {"ours": ours[0]["memory"], "peer": peer[0]["memory"]},
        "difference": max(abs(a - b) for a, b in zip(ours[0]["values"], peer[0]["values"], strict=True)),
    }


def run(side: str, folder: Path, **job: Any) -> dict[str, Any]:
    """Run one side in a separate process; return what it measured."""
    file = folder / "job.json"
    file.write_text(json.dumps(job))
    done = subprocess.run(
        [sys.executable, __file__, "--run", side, str(file)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{side} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def ours(backbone: str, precision: str, requests: list[tuple[str, str]]) -> dict[str, Any]:
    """Score requests by the scorer that `gpt-tasks score` uses."""
    import torch

    from gpt_tasks.backbone.load import load_backbone
    from gpt_tasks.plugins import installed_plugins
    from gpt_tasks.scoring.engine import BATCH_TOKENS
    from gpt_tasks.scoring.scorer import Scorer
    from gpt_tasks.types import Continuation

    loaded = load_backbone(backbone, installed_plugins().registry.backbones)
    scorer = Scorer(loaded, device=torch.device("cpu"), precision=precision, batch_tokens=BATCH_TOKENS)
    asked = [Continuation(*pair) for pair in requests]
    # The longest request is the first one, so that the model is tried before the clock starts.
    scorer.answer([max(asked, key=lambda each: len(each.context + each.text))])
    began = time.perf_counter()
    found = scorer.answer(asked)
    return {
        "seconds": time.perf_counter() - began,
        "values": [answer.value for answer in found.answers],  # type: ignore[union-attr]
        "engine": found.engine,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "bound": bound(scorer, asked),
    }


def bound(scorer: Any, asked: list[Any]) -> float:
    """Multiply-accumulates of all tokens and logits, by those of distinct tokens and needed logits."""
    from torch.nn import Embedding

    from gpt_tasks.scoring.trie import Trie

    paths = [path for (path,) in scorer.tokenization.paths(asked)]
    model = scorer._model
    embeddings = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    tables = {*map(id, embeddings), *(id(each.weight) for each in model.modules() if isinstance(each, Embedding))}
    logit = embeddings[1].numel()
    token = sum(each.numel() for each in model.parameters() if each.dim() == 2 and id(each) not in tables)
    needed = {path.inputs[: len(path.inputs) - back] for path in paths for back in range(len(path.targets))}
    # The peer forwards one request for all one-token continuations of a context.
    forwarded = {path.inputs: len(path.inputs) for path in paths}
    whole = sum(forwarded.values())
    return (
        whole * (token + logit) / (Trie([path.inputs for path in paths]).distinct_tokens * token + len(needed) * logit)
    )


def peer(backbone: str, precision: str, requests: list[tuple[str, str]], batch: int) -> dict[str, Any]:
    """Score requests by lm-evaluation-harness's hf model."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    model = HFLM(
        pretrained=backbone, batch_size=batch, device="cpu", dtype="bfloat16" if precision == "bf16" else "float32"
    )
    asked = [Instance("loglikelihood", {}, arguments=tuple(pair), idx=0) for pair in requests]
    model.loglikelihood(asked[:1], disable_tqdm=True)
    began = time.perf_counter()
    answers = model.loglikelihood(asked, disable_tqdm=True)
    return {
        "seconds": time.perf_counter() - began,
        "values": [value for value, _ in answers],
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


SIDES = {"ours": ours, "peer": peer}


def start_up(backbone: Path, folder: Path, rounds: int) -> dict[str, Any]:
    """Time whole commands on one document: from the start of the process to its end."""
    row = {"question": "The sun is", "choices": ["hot", "cold"], "answer": 0}
    (folder / "one.jsonl").write_text(json.dumps(row) + "\n")
    (folder / "one.yaml").write_text(
        "name: one\ntasks: [{task: multiple-choice, source: one.jsonl, prompt: '{question}', metrics: [accuracy]}]\n"
    )
    (folder / "tasks").mkdir()
    (folder / "tasks" / "one.yaml").write_text(
        f"task: one\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: {folder / 'one.jsonl'}}}}}\n"
        "test_split: test\noutput_type: multiple_choice\ndoc_to_text: question\ndoc_to_choice: choices\n"
        "doc_to_target: answer\nmetric_list: [{metric: acc}]\n"
    )
    model = f"pretrained={backbone},dtype=float32"
    commands = {
        "ours": f"-m gpt_tasks score {backbone} --suite {folder}/one.yaml",
        "peer": f"-m lm_eval run --model hf --model_args {model} --tasks one --include_path {folder}/tasks",
    }
    taken: dict[str, list[float]] = {side: [] for side in commands}
    for number in range(rounds):
        for side, command in commands.items():
            extra = ["--output", str(folder / f"scores-{number}")] if side == "ours" else []
            began = time.perf_counter()
            subprocess.run([sys.executable, *command.split(), *extra], cwd=folder, capture_output=True, check=True)
            taken[side].append(time.perf_counter() - began)
    return {
        "case": "start-up",
        "ours": median(taken["ours"]),
        "peer": median(taken["peer"]),
        "unit": "s",
        "ratio": median(taken["peer"]) / median(taken["ours"]),
        "goal": 1,
        "rounds": taken,
    }


def rows_of(file: Path) -> list[dict[str, Any]]:
    from gpt_tasks.data.sources import open_source

    return [dict(row.values) for row in open_source(file, {}).splits["all"]()]


def shots(data: Path, *, fixed: bool) -> list[tuple[str, str]]:
    """A hundred rows of SST-2 after five others."""
    train, test = (rows_of(data / "sentiment" / "sst2" / f"{split}.jsonl") for split in ("train", "test"))
    random = Random(0)

    def said(row: dict[str, Any]) -> str:
        label = row["label"] if row["label"] in WORDS else list(WORDS)[int(row["label"])]
        return f"Review: {row['text']}\nIt was{WORDS[label]}\n\n"

    once = "".join(map(said, random.sample(train, 5)))
    asked = []
    for row in test[:100]:
        before = once if fixed else "".join(map(said, random.sample(train, 5)))
        asked += [(f"{before}Review: {row['text']}\nIt was", word) for word in WORDS.values()]
    return asked


def choices(data: Path) -> list[tuple[str, str]]:
    """Fifty questions each of ARC Challenge and OpenBookQA."""
    science = rows_of(data / "suites" / "arc_challenge" / "test.jsonl")[:50]
    common = rows_of(data / "suites" / "openbookqa" / "test.jsonl")[:50]
    asked = [(f"{row['context']}\nAnswer:", f" {choice}") for row in science for choice in row["choices"]]
    return asked + [(row["context"], f" {choice}") for row in common for choice in row["choices"]]


def pairs(data: Path) -> list[tuple[str, str]]:
    """Two hundred minimal pairs of BLiMP, of all paradigms in turn."""
    rows = rows_of(data / "suites" / "blimp" / "test.jsonl.gz")[::335]
    return [("", f" {row[side]}") for row in rows for side in ("good", "bad")]


def last_words(data: Path) -> list[tuple[str, str]]:
    """A hundred passages of LAMBADA."""
    rows = rows_of(data / "suites" / "lambada_openai" / "test.jsonl.gz")[:100]
    return [(row["context"].rstrip(), f" {row['target'].strip()}") for row in rows]


CASES = {
    "fixed shots": lambda data: shots(data, fixed=True),
    "drawn shots": lambda data: shots(data, fixed=False),
    "zero-shot choices": choices,
    "blimp": pairs,
    "lambada": last_words,
}


if __name__ == "__main__":
    main()
