"""Which recipe learns most in the same time? `python benchmarks/pretrain_recipes.py --text FILES --minutes 10`

Every recipe differs from the first in what its name says, trains a model from nothing for the same wall-clock time (the
speed is measured first, so that the learning rate has come down to zero by then) and is measured on the whole held-out
text. Runs go one after another, or with `--workers 2` two at a time, each on one core; `--keep FOLDER` saves them, so
that a stopped comparison continues. A case's `ratio` is the first recipe's bits per byte by this one's.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from _cores import gpt_tasks, on_cores
from _results import print_table, write_results

CORPUS = Path(__file__).parents[2] / "shared" / "corpus"
BASE = {"learning_rate": 2e-3, "muon_learning_rate": 0.02, "vocab_size": 8192, "context": 256, "batch_tokens": 8192}
RECIPES: dict[str, dict[str, Any]] = {
    "muon 0.02, adamw 2e-3": {},
    "adamw 1e-3": {"optimizer": "adamw", "learning_rate": 1e-3},
    "adamw 2e-3": {"optimizer": "adamw", "learning_rate": 2e-3},
    "adamw 4e-3": {"optimizer": "adamw", "learning_rate": 4e-3},
    "muon 0.01": {"muon_learning_rate": 0.01},
    "muon 0.04": {"muon_learning_rate": 0.04},
    "embeddings 5e-3": {"learning_rate": 5e-3},
    "vocabulary 4096": {"vocab_size": 4096},
    "vocabulary 16384": {"vocab_size": 16384},
    "context 512": {"context": 512},
    "12 x 192": {"layers": 12, "heads": 3, "width": 192},
    "3 x 384": {"layers": 3, "heads": 6, "width": 384},
    "updates of 4096 tokens": {"batch_tokens": 4096},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, nargs="+", default=[CORPUS / "novels_100.txt.xz"])
    parser.add_argument("--validation", type=Path, default=CORPUS / "valid.txt.xz")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--quick", action="store_true", help="20 seconds each; the figures then mean nothing")
    parser.add_argument("--workers", type=int, default=1, help="runs at a time, each on a separate core")
    parser.add_argument("--only", nargs="*", choices=RECIPES, default=list(RECIPES), help="nothing is written then")
    parser.add_argument("--keep", type=Path, help="a folder for the models, those already there are not trained again")
    args = parser.parse_args()
    minutes = 1 / 3 if args.quick else args.minutes
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)

        def measured(name: str, core: int | None) -> dict[str, Any]:
            return train(name, folder, args.text, args.validation, minutes, core)

        found = dict(zip(args.only, on_cores(args.only, args.workers, measured), strict=True))
    first = found[args.only[0]]["validation"]["bits_per_byte"]
    cases = [
        {
            "case": name,
            "ours": figures["validation"]["bits_per_byte"],
            "peer": first,
            "unit": "bits per byte",
            "ratio": first / figures["validation"]["bits_per_byte"],
            "goal": "",
            "rounds": [],
            "minutes": figures["training"]["seconds"] / 60,
            "tokens_seen": figures["training"]["tokens_seen"],
            "parameters": figures["parameters"],
        }
        for name, figures in found.items()
    ]
    print_table(cases)
    if not args.quick and args.only == list(RECIPES):
        write_results("pretrain_recipes", cases)


def train(
    name: str, folder: Path, text: list[Path], validation: Path, minutes: float, core: int | None
) -> dict[str, Any]:
    """Train one recipe by the command line; return its figures."""
    output = folder / name.replace(" ", "-").replace(",", "")
    flags = [f"--{flag.replace('_', '-')}={value}" for flag, value in {**BASE, **RECIPES[name]}.items()]
    texts = [part for file in text for part in ("--text", str(file))]
    # One validation, at the end: those on the way take time that is not counted.
    limits = [f"--minutes={minutes}", "--evaluate-steps=1000000", f"--output={output}"]
    if not (output / "training.json").is_file():
        gpt_tasks(["pretrain", *texts, f"--validation={validation}", *flags, *limits], core)
    figures: dict[str, Any] = json.loads((output / "training.json").read_text())
    print(f"{name}: {figures['validation']['bits_per_byte']:.4f} bits per byte", flush=True)
    return figures


if __name__ == "__main__":
    main()
