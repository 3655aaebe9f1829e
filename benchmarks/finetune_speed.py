"""How fast is a fine-tuning on this machine's CPU, compared with transformers' Trainer? And does it learn the same?

    python benchmarks/finetune_speed.py [--quick] [--data FOLDER] [--model gpt2|smollm2|FOLDER] [--tokenizer FOLDER]

A GPT-2 small with random weights, or another model, is fine-tuned to SST-2, two labels, by the public entry points of
both: the same rows as bare texts, the same number of updates, the same AdamW, schedule and dropout. Timed is from the
start, tokenizing included, to the end of the last update. Each run is a separate process, and the sides take turns.

- `default`: Trainer as run_glue sets it up: float32, every text padded to 128 tokens, batches of 32.
- `best`: Trainer with the best flags it has: bf16 where it is native, padding to the longest of a batch, batches
  grouped by length.
- `same learning`: one epoch of the whole set on `tiny` from the same initial weights, three seeds, by ours and by the
  Trainer as in `best` but with shuffled batches; the interval is the paired bootstrap's for the difference of the two
  validation accuracies, over examples, each with its share of seeds that got it right. `learning beside best` has
  batches grouped by length on the other side: the Trainer then takes them from the longest to the shortest of each
  stretch, not in random order.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from statistics import mean, median
from typing import Any

from _models import GPT2, SHARED, add_model, case_of, write_model
from _results import print_table, write_results

LABELS = ("negative", "positive")
BATCH = 32
PADDED = 128
LEARNING_RATE, TINY_LEARNING_RATE = 5e-5, 3e-4
WARMUP, WEIGHT_DECAY = 0.1, 0.0
# The goals hold where the CPU multiplies bfloat16 natively, and where it does not.
GOALS = {"bf16": {"default": 15, "best": 2}, "float32": {"default": 6, "best": 1.5}}
LLAMA_GOALS = {"default": 35, "best": 3}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round of 160 rows, and 640 rows on tiny")
    parser.add_argument("--data", type=Path, default=SHARED / "data", help="holds sentiment/sst2")
    add_model(parser)
    parser.add_argument("--only", choices=("speed", "learning"), help="one half; the other's results stay unchanged")
    parser.add_argument("--run", nargs=3, metavar=("SIDE", "FOLDER", "SEED"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run:
        side, folder, seed = args.run
        print(json.dumps(SIDES[side](Path(folder), int(seed))))
        return
    sst2 = args.data / "sentiment" / "sst2"
    if not sst2.is_dir():
        raise SystemExit(f"There is no folder {sst2}: say where it is with --data")
    cases: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        if args.only != "learning":
            folder = Path(scratch) / "speed"
            write_model(args.model, args.tokenizer, folder / "backbone")
            cases += speed(sst2, args.model, folder, *((1, 160) if args.quick else (3, 640)))
        if args.only != "speed":
            cases += learning(sst2, Path(scratch) / "learning", *((1, 640) if args.quick else (3, None)))
    print_table(cases)
    if not args.quick:
        write_results("finetune_speed", cases, keep_others=bool(args.only) or args.model != GPT2)


def speed(sst2: Path, model: str, folder: Path, rounds: int, rows: int) -> list[dict[str, Any]]:
    """Time both sides in turn, and the Trainer's default on a fifth of the rows."""
    import torch

    from gpt_tasks.backbone.precision import resolve_precision

    prepare(folder, sst2, rows=rows, validation=64, learning_rate=LEARNING_RATE)
    milliseconds: dict[str, list[float]] = {"ours": [], "best": [], "default": []}
    for number in range(rounds):
        for side, takes in milliseconds.items():
            taken = run(side, folder, seed=0)
            assert taken["updates"] == -(-taken["rows"] // BATCH), taken
            takes.append(1000 * taken["seconds"] / taken["rows"])
            print(f"round {number + 1}, {side}: {takes[-1]:.1f} ms an example", flush=True)
    goals = GOALS[resolve_precision("auto", torch.device("cpu"))] if model == GPT2 else LLAMA_GOALS
    ours = milliseconds["ours"]
    return [
        {
            "case": case_of(model, case),
            "ours": median(ours),
            "peer": median(milliseconds[case]),
            "unit": "ms an example",
            "ratio": median(milliseconds[case]) / median(ours),
            "goal": goals[case],
            "rounds": [{"ours": mine, "peer": theirs} for mine, theirs in zip(ours, milliseconds[case], strict=True)],
        }
        for case in ("default", "best")
    ]


def learning(sst2: Path, folder: Path, seeds: int, rows: int | None) -> list[dict[str, Any]]:
    """Compare the validation accuracies of both sides after one epoch on `tiny`."""
    import numpy as np
    from _paired import paired_bootstrap

    from gpt_tasks.plugins import installed_plugins

    prepare(folder, sst2, rows=rows, validation=None, learning_rate=TINY_LEARNING_RATE)
    (folder / "backbone").symlink_to(Path(installed_plugins().registry.backbones["tiny"].location()).resolve())
    right: dict[str, list[np.ndarray]] = {"ours": [], "shuffled": [], "best": []}
    for seed in range(seeds):
        for side, answers in right.items():
            answers.append(np.array(run(side, folder, seed)["right"], dtype=bool))
            print(f"seed {seed}, {side}: {100 * answers[-1].mean():.2f} % validation accuracy", flush=True)
    cases = []
    for case, side in (("same learning", "shuffled"), ("learning beside best", "best")):
        mine, theirs = ([100 * float(answers.mean()) for answers in right[one]] for one in ("ours", side))
        difference = paired_bootstrap(np.mean(right["ours"], axis=0), np.mean(right[side], axis=0))
        cases.append(
            {
                "case": case,
                "ours": mean(mine),
                "peer": mean(theirs),
                "unit": "% validation accuracy",
                "ratio": mean(mine) / mean(theirs),
                "goal": "same" if side == "shuffled" else "",
                "rounds": [{"ours": one, "peer": other} for one, other in zip(mine, theirs, strict=True)],
                "difference_interval": [100 * difference.low, 100 * difference.high],
                "within": difference.low <= 0 <= difference.high,
            }
        )
    return cases


def prepare(folder: Path, sst2: Path, *, rows: int | None, validation: int | None, learning_rate: float) -> None:
    """Write what both sides read: the first rows of each split (None: all of them), and the learning rate."""
    (folder / "data").mkdir(parents=True)
    for split, count in (("train", rows), ("validation", validation), ("test", 64)):
        with (sst2 / f"{split}.jsonl").open(encoding="utf-8") as file:
            text = "".join(islice(file, count))
        (folder / "data" / f"{split}.jsonl").write_text(text, encoding="utf-8")
    (folder / "learning_rate").write_text(str(learning_rate), encoding="utf-8")


def read(folder: Path, split: str) -> tuple[list[str], list[int]]:
    """Return texts and labels of a split."""
    with (folder / "data" / f"{split}.jsonl").open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return [row["text"] for row in rows], [LABELS.index(row["label"]) for row in rows]


def run(side: str, folder: Path, seed: int) -> dict[str, Any]:
    """Run one side in a separate process."""
    command = [sys.executable, __file__, "--run", side, str(folder), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def ours(folder: Path, seed: int) -> dict[str, Any]:
    """Fine-tune by `gpt_tasks.finetune`, timed by its own events."""
    import gpt_tasks
    from gpt_tasks.plugins import installed_plugins

    times: list[float] = []
    # Every observer is a plugin's; this one listens in the place of the task's own, which has none.
    installed_plugins().observers["sentiment"] = lambda event: (
        times.append(time.perf_counter()) if event.kind in ("run_started", "step") else None
    )
    with tempfile.TemporaryDirectory() as output:
        trained = gpt_tasks.finetune(
            "sentiment",
            data=folder / "data",
            backbone=folder / "backbone",
            method="full",
            epochs=1,
            batch_tokens=batch_tokens(folder),
            device="cpu",
            output=Path(output) / "run",
            learning_rate=float((folder / "learning_rate").read_text()),
            warmup=WARMUP,
            weight_decay=WEIGHT_DECAY,
            seed=seed,
            options={"prompt": "{text}"},
        )
        texts, labels = read(folder, "validation")
        predictions = trained.predict(texts)
    return {
        "rows": len(read(folder, "train")[0]),
        "updates": trained.report.training["updates"],
        "seconds": times[-1] - times[0],
        "right": [answer.label == LABELS[label] for answer, label in zip(predictions, labels, strict=True)],
    }


def batch_tokens(folder: Path) -> int:
    """Return the largest token budget that makes as many batches as the peer's batches of 32 rows."""
    from transformers import AutoTokenizer

    from gpt_tasks.data.batches import TokenBudgetBatches

    texts, _ = read(folder, "train")
    lengths = [len(ids) for ids in AutoTokenizer.from_pretrained(folder / "backbone")(texts)["input_ids"]]
    wanted = -(-len(lengths) // BATCH)
    fewest, most = max(lengths), sum(lengths)
    while fewest < most:
        budget = (fewest + most + 1) // 2
        enough = len(TokenBudgetBatches(lengths, batch_tokens=budget, seed=0, shuffle=True)) >= wanted
        fewest, most = (budget, most) if enough else (fewest, budget - 1)
    return fewest


def best(folder: Path, seed: int) -> dict[str, Any]:
    """Fine-tune by transformers' Trainer with its best flags."""
    return trainer(folder, seed, flags={**bf16(), "train_sampling_strategy": "group_by_length"})


def shuffled(folder: Path, seed: int) -> dict[str, Any]:
    """Fine-tune by transformers' Trainer with its best flags but for the order of the batches."""
    return trainer(folder, seed, flags=bf16())


def default(folder: Path, seed: int) -> dict[str, Any]:
    """Fine-tune by transformers' Trainer as run_glue does, on a fifth of the rows."""
    return trainer(folder, seed, flags={}, share=5, padding="max_length")


def bf16() -> dict[str, bool]:
    """Return the flag for bf16, set where this CPU multiplies it natively."""
    import torch

    from gpt_tasks.backbone.precision import native_bf16

    return {"bf16": native_bf16(torch.device("cpu"))}


def trainer(
    folder: Path, seed: int, *, flags: dict[str, Any], share: int = 1, padding: bool | str = False
) -> dict[str, Any]:
    """Fine-tune by transformers' Trainer from the weights that ours starts with, on one row of `share`."""
    import torch
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainerCallback,
        TrainingArguments,
        set_seed,
    )

    from gpt_tasks.heads.sequence import SequenceHead

    tokenizer = AutoTokenizer.from_pretrained(folder / "backbone")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    model = AutoModelForSequenceClassification.from_pretrained(
        folder / "backbone",
        num_labels=len(LABELS),
        pad_token_id=tokenizer.pad_token_id,
        dtype=torch.float32,
    )
    set_seed(seed)
    with torch.no_grad():
        model.score.weight.copy_(SequenceHead(model.config.hidden_size, len(LABELS)).linear.weight)
    times: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            times.append(time.perf_counter())

    def encoded(texts: list[str], labels: list[int]) -> list[dict[str, Any]]:
        tokens = tokenizer(texts, padding=padding, truncation=True, max_length=PADDED)
        return [
            {"input_ids": ids, "attention_mask": mask, "labels": label}
            for ids, mask, label in zip(tokens["input_ids"], tokens["attention_mask"], labels, strict=True)
        ]

    with tempfile.TemporaryDirectory() as output:
        texts, labels = read(folder, "train")
        started = time.perf_counter()
        train = encoded(texts[: len(texts) // share], labels[: len(labels) // share])
        arguments = TrainingArguments(
            output_dir=output,
            per_device_train_batch_size=BATCH,
            num_train_epochs=1,
            learning_rate=float((folder / "learning_rate").read_text()),
            warmup_steps=int(WARMUP * -(-len(train) // BATCH)),
            weight_decay=WEIGHT_DECAY,
            seed=seed,
            use_cpu=True,
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            **flags,
        )
        fitting = Trainer(
            model,
            arguments,
            train_dataset=train,
            data_collator=DataCollatorWithPadding(tokenizer),
            callbacks=[Clock()],
        )
        fitting.train()
        texts, labels = read(folder, "validation")
        logits = fitting.predict(encoded(texts, labels)).predictions
    return {
        "rows": len(train),
        "updates": fitting.state.global_step,
        "seconds": times[-1] - started,
        "right": [int(row.argmax()) == label for row, label in zip(logits, labels, strict=True)],
    }


SIDES = {"ours": ours, "best": best, "shuffled": shuffled, "default": default}

if __name__ == "__main__":
    main()
