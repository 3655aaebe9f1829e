"""What every benchmark does with its figures: a table on the terminal, a JSON file in `results/`."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("gpt-tasks", "torch", "transformers", "accelerate", "peft", "scikit-learn", "numpy")


def print_table(cases: Sequence[Mapping[str, Any]]) -> None:
    """Print one line a case."""
    width = max(len(case["case"]) for case in cases)
    print(f"\n{'case':{width}} {'ours':>10} {'peer':>10} {'ratio':>8} {'goal':>6}  unit")
    for case in cases:
        print(
            f"{case['case']:{width}} {case['ours']:>10.3f} {case['peer']:>10.3f} {ratio(case):>8} "
            f"{case['goal']:>6}  {case['unit']}"
        )


def ratio(case: Mapping[str, Any]) -> str:
    """Return a case's ratio as the table shows it: there is none against a peer whose figure is 0."""
    return "-" if case["ratio"] is None else f"{case['ratio']:.3f}"


def write_results(name: str, cases: Sequence[Mapping[str, Any]], *, keep_others: bool = False) -> Path:
    """Write `results/NAME.json`, with `keep_others` also the cases that are there already; return its path."""
    path = Path(__file__).parent / "results" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    # Local paths are not part of the command that is recorded.
    given = ["FOLDER" if Path(argument).is_absolute() else argument for argument in sys.argv[1:]]
    command = " ".join(["python", f"benchmarks/{name}.py", *given])
    if keep_others and path.exists():
        measured = {case["case"] for case in cases}
        earlier = json.loads(path.read_text(encoding="utf-8"))
        cases = [*(case for case in earlier["cases"] if case["case"] not in measured), *cases]
        if earlier["command"].endswith(command):
            command = earlier["command"]
        else:
            command = f"{earlier['command']}, then {command}"
    content = {
        "command": command,
        "versions": {"python": platform.python_version(), **{package: _version(package) for package in PACKAGES}},
        "threads": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "cases": list(cases),
    }
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    print(f"\nwritten to {path.name}")
    return path


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
