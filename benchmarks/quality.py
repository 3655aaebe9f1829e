"""How well does the embedded GPT learn real tasks? `python benchmarks/quality.py [--quick] [--data FOLDER]`

Fine-tunes `tiny` with the command line's defaults, and on `wnut17` also SmolLM2-135M-Instruct where its folder is there
(`--smollm2`). Selection is on the validation split only; what is reported is of the test split. A case's `ratio` is
above 1 where ours is better.

- Sets with labels: test accuracy with each method, one setting for all sets, on three seeds; next to it the same
  architecture with random weights, and TF-IDF with logistic regression on the same rows. `p` is the two-sided paired
  bootstrap's over the test examples, each with its share of seeds that got it right.
- Other sets, and those that are written or predicted: the report's figures of one seed, next to cheap peers; see
  `_quality_reports.py`.

A run of some sets or methods keeps the results of the others.
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
from _cores import on_cores
from _paired import paired_bootstrap
from _quality_reports import REPORTED, TINY, reported
from _quality_run import finetuned
from _results import print_table, write_results

SHARED = Path(__file__).parents[2] / "shared"
LABELLED = {
    "sst2": ("sentiment", "sentiment/sst2"),
    "trec6": ("classification", "classification/trec6"),
    "ag_news_small": ("classification", "classification/ag_news_small"),
}
SETS = [*LABELLED, *REPORTED]
METHODS = ("full", "lora", "head")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=SHARED / "data")
    parser.add_argument(
        "--smollm2",
        type=Path,
        default=SHARED / "models" / "SmolLM2-135M-Instruct",
        help="the folder of SmolLM2-135M-Instruct; sets that it is trained on are left out where it is not there",
    )
    parser.add_argument(
        "--quick", action="store_true", help="tiny, one seed, 500 rows of each set, and of those with a report 100"
    )
    parser.add_argument("--workers", type=int, default=1, help="trainings at a time, each on a separate core")
    parser.add_argument("--sets", nargs="*", choices=SETS, default=SETS)
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=list(METHODS), help="of sets with labels")
    parser.add_argument("--no-untrained", action="store_true", help="without the same shape of random weights")
    parser.add_argument(
        "--keep", type=Path, help="a folder for the runs of one state of the code, so that it can be stopped"
    )
    args = parser.parse_args()
    if not args.data.is_dir():
        raise SystemExit(f"There is no folder {args.data}: name the one that holds sentiment/sst2 with --data")
    with tempfile.TemporaryDirectory() as scratch:
        cases = [*labelled(args, args.keep or Path(scratch)), *reports(args, args.keep or Path(scratch))]
    print_table(cases)
    if not args.quick:
        everything = set(args.sets) == set(SETS) and set(args.methods) == set(METHODS)
        complete = everything and not args.no_untrained and args.smollm2.is_dir()
        write_results("quality", cases, keep_others=not complete)


def labelled(args: argparse.Namespace, keep: Path) -> list[dict[str, Any]]:
    """Return the cases of the sets with labels."""
    sets = [name for name in args.sets if name in LABELLED]
    if not sets:
        return []
    seeds = [0] if args.quick else [0, 1, 2]
    limit = 500 if args.quick else None
    backbones = {"tiny": "tiny"} | ({} if args.no_untrained else {"untrained": random_weights(keep / "untrained")})
    jobs = list(itertools.product(args.methods, backbones, sets, seeds))

    def measured(job: tuple[str, str, str, int], core: int | None) -> dict[str, Any]:
        method, kind, name, seed = job
        return result(name, args.data, backbones[kind], method, seed, limit, keep / kind, core)

    found = dict(zip(jobs, on_cores(jobs, args.workers, measured), strict=True))
    cases = []
    for method, name in itertools.product(args.methods, sets):
        results = {kind: [found[method, kind, name, seed] for seed in seeds] for kind in backbones}
        cases += compared(name, method, results)
    return cases


def reports(args: argparse.Namespace, keep: Path) -> list[dict[str, Any]]:
    """Return the cases of the sets of which the report is shown."""

    def measured(job: tuple[str, str, str], core: int | None) -> list[dict[str, Any]]:
        return reported(*job, args.data, keep / "reported", quick=args.quick, core=core)

    return list(itertools.chain.from_iterable(on_cores(jobs(args), args.workers, measured)))


def jobs(args: argparse.Namespace) -> list[tuple[str, str, str]]:
    """Return the trainings of which the report is shown: each set with each backbone, and where that is."""
    found = []
    for name in args.sets:
        for backbone in REPORTED[name].backbones if name in REPORTED else ():
            if backbone == TINY:
                found.append((name, backbone, TINY))
            elif not args.quick and args.smollm2.is_dir():
                found.append((name, backbone, str(args.smollm2)))
            elif not args.quick:
                print(f"{name} {backbone}: left out, there is no folder {args.smollm2} (--smollm2)", flush=True)
    return found


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
    task, source = LABELLED[name]
    output = folder / f"{name}-{method}-{seed}"
    flags = ["--data", str(data / source), "--backbone", backbone, "--method", method, "--seed", str(seed)]
    run = finetuned(task, flags, limit, output, core)
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
    """Return the cases: against TF-IDF + logistic regression, and against the same shape untrained if that was run."""
    keys = ("accuracy", "baseline", "seconds", "right")
    of_kind = {kind: {key: [result[key] for result in found] for key in keys} for kind, found in results.items()}
    ours = of_kind["tiny"]
    mean = statistics.mean(ours["accuracy"])
    spread = 4.303 * statistics.stdev(ours["accuracy"]) / 3**0.5 if len(ours["accuracy"]) == 3 else float("nan")
    baseline = statistics.mean(ours["baseline"])
    common = {
        "ours": round(mean, 2),
        "interval": [round(mean - spread, 2), round(mean + spread, 2)] if not math.isnan(spread) else None,
        "unit": "% test accuracy",
        "goal": 1.0,
        "rounds": [round(accuracy, 2) for accuracy in ours["accuracy"]],
        "seconds": ours["seconds"],
    }
    beside = {
        "case": f"{name} {method} / tfidf",
        **common,
        "peer": round(baseline, 2),
        "ratio": round(mean / baseline, 4),
    }
    if "untrained" not in of_kind:
        return [beside]
    untrained = of_kind["untrained"]
    without = statistics.mean(untrained["accuracy"])
    difference = paired_bootstrap(np.mean(ours["right"], axis=0), np.mean(untrained["right"], axis=0))
    return [
        beside,
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
