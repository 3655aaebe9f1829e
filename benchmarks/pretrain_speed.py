"""How fast does `gpt-tasks pretrain` train on this machine's CPU, compared with a plain loop in the same precision?

    python benchmarks/pretrain_speed.py [--quick] [--text FILE]

Both sides train a GPT-2 from nothing on windows of the same text with the same number of tokens an update, ours by
`gpt_tasks.pretraining.pretrain.pretrain`, the peer by the loop that its users write: `GPT2LMHeadModel` with `labels`,
`torch.optim.AdamW`, bf16 autocast where it is native. Each run is a separate process and the sides take turns; timed
are the updates after the first two. `tiny` and `12x768` train with AdamW on both sides, `tiny, muon` is ours with its
default optimizer, which computes more for each update, against the same peer.

`share` is ours by this machine's measured rate of bf16 matrix products (2048 x 2048, the best of the run), in the
counting of PaLM (Chowdhery et al., 2022, appendix B): 6 N + 12 L W T operations a token, N the weights of all matrices
but the input embeddings, L layers, W the width, T the context. Its goal is 0.5 for `12x768`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from _results import print_table, write_results

TEXT = Path(__file__).parents[2] / "shared" / "corpus" / "valid.txt.xz"
VOCABULARY, CONTEXT = 8192, 256
SKIPPED = 2
# Layers, heads, width, tokens an update, updates that are timed, the optimizer, and the goals for ratio and share.
CASES: dict[str, dict[str, Any]] = {
    "tiny": {"shape": (6, 4, 256), "batch": 8192, "updates": 12, "optimizer": "adamw", "goal": 2.0},
    "tiny, muon": {"shape": (6, 4, 256), "batch": 8192, "updates": 12, "optimizer": "muon", "goal": 2.0},
    "12x768": {"shape": (12, 12, 768), "batch": 4096, "updates": 5, "optimizer": "adamw", "goal": ""},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round")
    parser.add_argument("--text", type=Path, default=TEXT, help="any text of a megabyte or more")
    parser.add_argument("--run", nargs=3, metavar=("SIDE", "CASE", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run:
        side, case, folder = args.run
        print(json.dumps({"ours": ours, "peer": peer}[side](CASES[case], Path(folder), args.text)))
        return
    if not args.text.is_file():
        raise SystemExit(f"There is no file {args.text}: name a text with --text")
    cases, rates = [], []
    for name, case in CASES.items():
        taken: dict[str, list[float]] = {"ours": [], "peer": []}
        for number in range(1 if args.quick else 3):
            rates.append(matrix_rate())
            for side, speeds in taken.items():
                speeds.append(run(side, name, args.text))
                print(f"{name}, round {number + 1}, {side}: {speeds[-1]:,.0f} tokens/s", flush=True)
        mine, theirs = median(taken["ours"]), median(taken["peer"])
        cases.append(
            {
                "case": name,
                "ours": mine,
                "peer": theirs,
                "unit": "tokens/s",
                "ratio": mine / theirs,
                "goal": case["goal"],
                "rounds": [dict(zip(taken, pair, strict=True)) for pair in zip(*taken.values(), strict=True)],
            }
        )
    for case in cases:
        case["share"] = case["ours"] * operations(case["case"]) / max(rates)
        case["share_goal"] = 0.5 if case["case"] == "12x768" else None
    print_table(cases)
    print(f"\n{max(rates) / 1e9:,.0f} GFLOP/s in bf16 matrix products; share of it: ", end="")
    print(", ".join(f"{case['case']} {case['share']:.0%}" for case in cases))
    if not args.quick:
        write_results("pretrain_speed", cases)


def operations(case: str) -> int:
    """Return the floating-point operations for one token, forward and backward."""
    layers, _, width = CASES[case]["shape"]
    return int(6 * (12 * layers * width**2 + VOCABULARY * width) + 12 * layers * width * CONTEXT)


def matrix_rate() -> float:
    """Return the operations a second of bf16 matrix products, the best of ten."""
    import torch

    left, right = torch.randn(2, 2048, 2048).bfloat16()
    times = []
    for _ in range(10):
        began = time.perf_counter()
        left @ right
        times.append(time.perf_counter() - began)
    return 2 * 2048**3 / min(times)


def run(side: str, case: str, text: Path) -> float:
    """Run one side in a separate process and folder; return tokens a second."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--text", str(text), "--run", side, case, folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return float(json.loads(done.stdout.splitlines()[-1]))


def ours(case: dict[str, Any], folder: Path, text: Path) -> float:
    """Pretrain as the command does; the times are from its log."""
    from gpt_tasks.pretraining.pretrain import PretrainConfig, pretrain

    layers, heads, width = case["shape"]
    output = folder / "model"
    updates = case["updates"] + SKIPPED
    pretrain(
        PretrainConfig(
            text=[text],
            output=output,
            layers=layers,
            heads=heads,
            width=width,
            vocab_size=VOCABULARY,
            context=CONTEXT,
            tokens=updates * case["batch"],
            batch_tokens=case["batch"],
            optimizer=case["optimizer"],
            checkpoint_steps=updates,
            prompt=[],
            device="cpu",
        ),
        say=lambda line: None,
    )
    history = json.loads((output / "training.json").read_text())["history"]
    times = {entry["step"]: entry["seconds"] for entry in history if "loss" in entry}
    return float(case["updates"] * case["batch"] / (times[updates] - times[SKIPPED]))


def peer(case: dict[str, Any], folder: Path, text: Path) -> float:
    """Train as a plain loop does."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    from gpt_tasks.backbone.precision import native_bf16
    from gpt_tasks.pretraining.corpus import tokenize, train_tokenizer
    from gpt_tasks.pretraining.windows import PackedWindows

    tokenizer = train_tokenizer([text], VOCABULARY, CONTEXT)
    windows = PackedWindows(tokenize([text], tokenizer, folder / "shards"), CONTEXT)
    layers, heads, width = case["shape"]
    config = GPT2Config(n_layer=layers, n_head=heads, n_embd=width, vocab_size=VOCABULARY, n_positions=CONTEXT)
    # Ours drops nothing out in pretraining; so does the peer.
    config.update({"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0})
    model = GPT2LMHeadModel(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, case["updates"] + SKIPPED)
    rows = case["batch"] // CONTEXT
    bf16 = native_bf16(torch.device("cpu"))
    times = []
    for update in range(case["updates"] + SKIPPED):
        batch = torch.stack([torch.from_numpy(windows[update * rows + row][:-1]) for row in range(rows)])
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        loss.item()
        times.append(time.perf_counter())
    return case["updates"] * case["batch"] / (times[-1] - times[SKIPPED - 1])


if __name__ == "__main__":
    main()
