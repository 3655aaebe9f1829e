"""How long `gpt-tasks --help` takes, beside `accelerate --help` and `transformers --help`, in turn.

    python benchmarks/startup.py [--quick]

Wall-clock seconds of a fresh process, imports and all; the goal is that ours takes less than 0.4 s. Processor seconds,
which other work on the machine disturbs less, stand beside them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from _results import print_table, write_results

GOAL_SECONDS = 0.4
OURS = "gpt-tasks"
PEERS = ("accelerate", "transformers")
ROUNDS, QUICK_ROUNDS = 15, 5


def main() -> None:
    rounds = QUICK_ROUNDS if "--quick" in sys.argv else ROUNDS
    seconds: dict[str, list[dict[str, float]]] = {command: [] for command in (OURS, *PEERS)}
    for number in range(rounds + 1):
        for command, takes in seconds.items():
            taken = run(command)
            # The first round fills the file cache and writes byte code.
            if number:
                takes.append(taken)
    cases = [case(peer, seconds, clock) for clock in ("wall", "processor") for peer in PEERS]
    print_table(cases)
    if "--quick" not in sys.argv:
        write_results("startup", cases)


def run(command: str) -> dict[str, float]:
    """Run `COMMAND --help` in a process of its own."""
    script = Path(sys.executable).with_name(command)
    started = time.perf_counter()
    child = subprocess.Popen([script, "--help"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.perf_counter() - started
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"{command} --help ended with {child.returncode}")
    return {"wall": round(wall, 4), "processor": round(usage.ru_utime + usage.ru_stime, 4)}


def case(peer: str, seconds: dict[str, list[dict[str, float]]], clock: str) -> dict[str, Any]:
    ours, theirs = ([taken[clock] for taken in seconds[command]] for command in (OURS, peer))
    return {
        "case": f"--help, {clock} clock, beside {peer}",
        "ours": median(ours),
        "peer": median(theirs),
        "unit": "s",
        "ratio": round(median(theirs) / median(ours), 2),
        # The ratio that the goal in seconds comes to beside this peer.
        "goal": round(median(theirs) / GOAL_SECONDS, 2),
        "goal_seconds": GOAL_SECONDS,
        "rounds": [{"ours": mine, "peer": other} for mine, other in zip(ours, theirs, strict=True)],
    }


if __name__ == "__main__":
    main()
