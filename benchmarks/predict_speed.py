"""How fast is a file of short rows answered, compared with transformers' pipeline? How much of it is the model's time?

    python benchmarks/predict_speed.py [--quick] [--data FOLDER] [--model tiny|smollm2|FOLDER] [--rows N]

`tiny`, or another model, with a head of two labels answers 100,000 rows of SST-2's texts (repeated until there are that
many), read from a .csv and written to one. Sides take turns, each in a separate process, after a first answer has
loaded everything.

- `pipeline`: rows a second of `gpt-tasks predict --input --output`, in Python `Run.answered_rows` and `write_answers`,
  and of a loop over transformers' text-classification pipeline with its class for classification of the same shape,
  whose rows come from `csv` and go to `csv`, at the batch size of 1, 8, 32 and 128 that is fastest on a twentieth. The
  pipeline answers a fifth of the rows: its rows a second do not depend on how many there are.
- `forward passes`: all seconds of ours, and those within the forward passes of the same run. The goal is that all
  take at most 1.2 times those.
- `memory`: peak memory of ours, and with a tenth of the rows. It should not grow.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import subprocess
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

from _cores import gpt_tasks
from _results import print_table, write_results

SHARED = Path(__file__).parents[2] / "shared"
ROWS, TINY = 100_000, "tiny"
BATCHES = (1, 8, 32, 128)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round of a twentieth of the rows")
    parser.add_argument("--model", default=TINY, help="tiny, smollm2, or a model's folder")
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--data", type=Path, default=SHARED / "data" / "sentiment" / "sst2", help="holds train.jsonl")
    parser.add_argument("--run", nargs=2, metavar=("SIDE", "JOB"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run:
        print(json.dumps(SIDES[args.run[0]](**json.loads(Path(args.run[1]).read_text(encoding="utf-8")))))
        return
    rows, rounds = (args.rows // 20, 1) if args.quick else (args.rows, 3)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        flags = ["--backbone", args.model, "--method", "head", "--output", str(folder / "run")]
        gpt_tasks(["finetune", "sentiment", *flags], None)
        write_rows(args.data / "train.jsonl", folder / "all.csv", rows)
        for name, share in (("fifth", 5), ("tenth", 10), ("twentieth", 20)):
            write_rows(args.data / "train.jsonl", folder / f"{name}.csv", rows // share)
        trials = {size: side("peer", folder, "twentieth", batch=size)["seconds"] for size in BATCHES}
        best = min(trials, key=trials.__getitem__)
        ours, peer = [], []
        for number in range(rounds):
            ours.append(side("ours", folder, "all"))
            peer.append(side("peer", folder, "fifth", batch=best))
            seconds = ours[-1]["seconds"], ours[-1]["forward"], peer[-1]["seconds"]
            print("round {}: {:.1f} s (forward {:.1f}), {:.1f} s".format(number + 1, *seconds), flush=True)
        tenth = side("ours", folder, "tenth")
    fast = [rows / each["seconds"] for each in ours]
    slow = [rows // 5 / each["seconds"] for each in peer]
    whole, forward = ([each[name] for each in ours] for name in ("seconds", "forward"))
    memory = median(each["memory"] for each in ours)
    cases = [
        {
            "case": "pipeline",
            "ours": median(fast),
            "peer": median(slow),
            "unit": "rows a second",
            "ratio": median(fast) / median(slow),
            "goal": 1,
            "rounds": {"ours": fast, "peer": slow},
            "peer_batch": best,
        },
        {
            "case": "forward passes",
            "ours": median(whole),
            "peer": median(forward),
            "unit": "s",
            "ratio": median(one / other for one, other in zip(whole, forward, strict=True)),
            "goal": 1.2,
            "rounds": {"ours": whole, "peer": forward},
        },
        {
            "case": "memory",
            "ours": memory,
            "peer": tenth["memory"],
            "unit": "MiB, all rows and a tenth",
            "ratio": memory / tenth["memory"],
            "goal": 1,
            "rounds": [each["memory"] for each in ours],
        },
    ]
    if args.model != TINY:
        cases = [case | {"case": f"{Path(args.model).name}: {case['case']}"} for case in cases]
    print_table(cases)
    if not args.quick:
        write_results("predict_speed", cases, keep_others=args.model != TINY)


def write_rows(source: Path, file: Path, rows: int) -> None:
    """Write so many rows with a text each, those of a .jsonl repeated."""
    if not source.is_file():
        raise SystemExit(f"There is no file {source}: say where its folder is with --data")
    texts = [json.loads(line)["text"] for line in source.read_text(encoding="utf-8").splitlines()]
    with file.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(["id", "text"])
        writer.writerows(enumerate(islice(cycle(texts), rows)))


def side(name: str, folder: Path, rows: str, **job: Any) -> dict[str, Any]:
    """Run one side in a separate process; return what it measured."""
    file = folder / "job.json"
    names = {"run": folder / "run", "source": folder / f"{rows}.csv", "output": folder / f"{name}.csv"}
    file.write_text(json.dumps({**{key: str(path) for key, path in names.items()}, **job}), encoding="utf-8")
    command = [sys.executable, __file__, "--run", name, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def ours(run: str, source: str, output: str) -> dict[str, Any]:
    """Answer a file as `gpt-tasks predict RUN --input --output` does; `forward` is the time within forward passes."""
    from gpt_tasks import load
    from gpt_tasks.evaluation.answer_files import AnswerColumns, write_answers

    model = load(run)
    model.predict(["a first answer"])
    learner, forward = model.predictor, 0.0
    compute = learner.compute

    def timed(*given: Any) -> Any:
        nonlocal forward
        began = time.perf_counter()
        found = compute(*given)
        forward += time.perf_counter() - began
        return found

    learner.compute = timed
    began = time.perf_counter()
    write_answers(Path(output), model.answered_rows(source), model.task, AnswerColumns())
    return {"seconds": time.perf_counter() - began, "forward": forward, "memory": peak()}


def peer(run: str, source: str, output: str, batch: int) -> dict[str, Any]:
    """Answer a file by transformers' pipeline; what its head answers does not matter for its time."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

    tokenizer = AutoTokenizer.from_pretrained(f"{run}/model")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    model = AutoModelForSequenceClassification.from_pretrained(f"{run}/model", num_labels=2).eval()
    model.config.pad_token_id = tokenizer.pad_token_id
    classify = pipeline("text-classification", model=model, tokenizer=tokenizer, device=torch.device("cpu"))
    classify("a first answer")
    began = time.perf_counter()
    with (
        Path(source).open(encoding="utf-8", newline="") as opened,
        Path(output).open("w", encoding="utf-8", newline="") as file,
    ):
        reader, aside = csv.DictReader(opened), []
        writer = csv.writer(file)
        writer.writerow(["id", "text", "prediction", "confidence"])

        def texts() -> Any:
            for row in reader:
                aside.append(row)
                yield row["text"]

        for place, answer in enumerate(classify(texts(), batch_size=batch, truncation=True)):
            row = aside[place]
            writer.writerow([row["id"], row["text"], answer["label"], round(answer["score"], 6)])
    return {"seconds": time.perf_counter() - began, "memory": peak()}


def peak() -> int:
    """Return the process's peak memory in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


SIDES = {"ours": ours, "peer": peer}

if __name__ == "__main__":
    main()
