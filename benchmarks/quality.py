"""How well does the embedded GPT learn real tasks? `python benchmarks/quality.py [--quick] [--data FOLDER]`

Fine-tunes `tiny` with each method, with the command line's defaults and one setting for all sets, on three seeds;
beside it the same architecture with random weights, and TF-IDF with logistic regression on the same rows. Selection is
on the validation split only; what is reported is test accuracy. A case's `ratio` is ours by the peer's; `p` is the
two-sided paired bootstrap's over the test examples, each with its share of seeds that got it right.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from _cores import gpt_tasks, on_cores
from _results import print_table, write_results

from gpt_tasks import load

SETS = {"sst2": ("sentiment", "sentiment/sst2"), "trec6": ("classification", "classification/trec6")}
SETS["ag_news_small"] = ("classification", "classification/ag_news_small")
METHODS = ("full", "lora", "head")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--quick", action="store_true", help="one seed, 500 rows of each set")
    parser.add_argument("--workers", type=int, default=1, help="trainings at a time, each on a core of its own")
    parser.add_argument("--sets", nargs="*", choices=SETS, default=list(SETS), help="a part of them writes nothing")
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=list(METHODS))
    parser.add_argument(
        "--keep", type=Path, help="a folder for the runs of one state of the code, so that it can be stopped"
    )
    args = parser.parse_args()
    if not args.data.is_dir():
        raise SystemExit(f"There is no folder {args.data}: name the one that holds sentiment/sst2 with --data")
    seeds = [0] if args.quick else [0, 1, 2]
    limit = 500 if args.quick else None
    cases = []
    with tempfile.TemporaryDirectory() as scratch:
        keep = args.keep or Path(scratch)
        backbones = {"tiny": "tiny", "untrained": random_weights(keep / "untrained")}
        jobs = list(itertools.product(args.methods, backbones, args.sets, seeds))

        def measured(job: tuple[str, str, str, int], core: int | None) -> dict[str, Any]:
            method, kind, name, seed = job
            return result(name, args.data, backbones[kind], method, seed, limit, keep / kind, core)

        found = dict(zip(jobs, on_cores(jobs, args.workers, measured), strict=True))
        for method, name in itertools.product(args.methods, args.sets):
            results = {kind: [found[method, kind, name, seed] for seed in seeds] for kind in backbones}
            cases += compared(name, method, results)
    print_table(cases)
    if not args.quick and args.sets == list(SETS) and args.methods == list(METHODS):
        write_results("quality", cases)


def random_weights(folder: Path) -> str:
    """Save the architecture and the tokenizer of `tiny` with random weights."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, set_seed

    from gpt_tasks.plugins import installed_plugins

    if folder.exists():
        return str(folder)
    embedded = installed_plugins().registry.backbones["tiny"].location()
    set_seed(0)
    AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(embedded)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(embedded).save_pretrained(folder)
    return str(folder)


def result(
    name: str, data: Path, backbone: str, method: str, seed: int, limit: int | None, folder: Path, core: int | None
) -> dict[str, Any]:
    """Fine-tune once, and return the test accuracy, the baseline's, and which test examples were right."""
    task, source = SETS[name]
    output = folder / f"{name}-{method}-{seed}"
    if not (output / "metrics.json").is_file():
        flags = ["--data", str(data / source), "--backbone", backbone, "--method", method, "--seed", str(seed)]
        limited = [] if limit is None else ["--limit", str(limit)]
        resumed = ["--resume"] if output.exists() else []
        gpt_tasks(["finetune", task, *flags, *limited, "--output", str(output), *resumed], core)
    run = load(output)
    if run.record["config"]["limit"] != limit:
        raise SystemExit(f"{output} was trained on other rows: give --keep another folder")
    with (output / "predictions.jsonl").open(encoding="utf-8") as file:
        right = [row["label"] == row["predicted"] for row in map(json.loads, file)]
    accuracy = 100 * run.report.metrics["accuracy"].value
    print(f"{folder.name} {output.name}: {accuracy:.2f}", flush=True)
    return {
        "accuracy": accuracy,
        "baseline": 100 * run.report.baselines["tfidf_logistic_regression"]["accuracy"].value,
        "seconds": run.report.training["seconds"],
        "right": np.array(right),
    }


def compared(name: str, method: str, results: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return two cases: against TF-IDF + logistic regression, and against the same shape untrained."""
    from gpt_tasks.metrics.intervals import paired_bootstrap

    ours, untrained = (
        {key: [result[key] for result in results[kind]] for key in ("accuracy", "baseline", "seconds", "right")}
        for kind in ("tiny", "untrained")
    )
    mean = statistics.mean(ours["accuracy"])
    spread = 4.303 * statistics.stdev(ours["accuracy"]) / 3**0.5 if len(ours["accuracy"]) == 3 else float("nan")
    baseline = statistics.mean(ours["baseline"])
    without = statistics.mean(untrained["accuracy"])
    difference = paired_bootstrap(np.mean(ours["right"], axis=0), np.mean(untrained["right"], axis=0))
    common = {
        "ours": round(mean, 2),
        "interval": [round(mean - spread, 2), round(mean + spread, 2)] if not math.isnan(spread) else None,
        "unit": "% test accuracy",
        "goal": 1.0,
        "rounds": [round(accuracy, 2) for accuracy in ours["accuracy"]],
        "seconds": ours["seconds"],
    }
    return [
        {"case": f"{name} {method} / tfidf", **common, "peer": round(baseline, 2), "ratio": round(mean / baseline, 4)},
        {
            "case": f"{name} {method} / untrained",
            **common,
            "peer": round(without, 2),
            "ratio": round(mean / without, 4),
            "peer_rounds": [round(accuracy, 2) for accuracy in untrained["accuracy"]],
            "p": difference.p_value,
        },
    ]


if __name__ == "__main__":
    main()
