"""How long does a fine-tuning take where another process computes too?

    python benchmarks/busy_machine.py [--quick] [--settings NAME ...]

`gpt-tasks finetune sentiment`, the whole command, on a quiet machine and next to one process that computes on one core.
GNU's OpenMP lets threads that wait for others spin for a while before they sleep. Where one of them has no core of its
own, the others spin for nothing and take the time that it needs. The settings take turns:

- `gpt-tasks`: what the command line sets (see `gpt_tasks/cli/main.py`), which is compared with the others.
- `libgomp`: what GNU's OpenMP does where nothing is set, 300,000 rounds.
- `passive`: `OMP_WAIT_POLICY=PASSIVE`, no rounds. `one thread`: `OMP_NUM_THREADS=1`.
- `N rounds`: `GOMP_SPINCOUNT=N`.

A case's ratio is the other's seconds by ours. The goals: busy at most twice the seconds of quiet (`busy by quiet`), and
quiet no slower than libgomp's own.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from _results import print_table, write_results

OURS = "gpt-tasks"
SETTINGS = {
    OURS: {},
    "libgomp": {"GOMP_SPINCOUNT": "300000"},
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
    "one thread": {"OMP_NUM_THREADS": "1"},
    **{f"{count} rounds": {"GOMP_SPINCOUNT": str(count)} for count in (300, 1000, 3000, 10000)},
}
MACHINES = ("quiet", "busy")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round of gpt-tasks and libgomp")
    parser.add_argument(
        "--settings", nargs="*", choices=SETTINGS, default=[OURS, "libgomp", "passive", "one thread"], metavar="NAME"
    )
    args = parser.parse_args()
    names = [OURS, "libgomp"] if args.quick else list(dict.fromkeys([OURS, *args.settings]))
    seconds: dict[tuple[str, str], list[float]] = {(name, machine): [] for name in names for machine in MACHINES}
    for number in range(1 if args.quick else 3):
        for (name, machine), takes in seconds.items():
            with neighbour(machine == "busy"):
                takes.append(finetune(SETTINGS[name]))
            print(f"round {number + 1}, {name}, {machine}: {takes[-1]:.1f} s", flush=True)
    cases = [
        {
            "case": f"{machine} / {name}",
            "ours": median(seconds[OURS, machine]),
            "peer": median(seconds[name, machine]),
            "unit": "s",
            "ratio": median(seconds[name, machine]) / median(seconds[OURS, machine]),
            "goal": 1 if machine == "quiet" and name == "libgomp" else "",
            "rounds": {"ours": seconds[OURS, machine], "peer": seconds[name, machine]},
        }
        for machine in MACHINES
        for name in names[1:]
    ]
    quiet, busy = (seconds[OURS, machine] for machine in MACHINES)
    cases.append(
        {
            "case": "busy by quiet",
            "ours": median(busy),
            "peer": median(quiet),
            "unit": "s",
            "ratio": median(busy) / median(quiet),
            "goal": 2,
            "rounds": {"busy": busy, "quiet": quiet},
        }
    )
    print_table(cases)
    if not args.quick:
        write_results("busy_machine", cases)


@contextmanager
def neighbour(computes: bool) -> Iterator[None]:
    """Let another process compute meanwhile, on one core at a time."""
    if not computes:
        yield
        return
    # It ends with this process, also where this one is killed.
    computing = "import os; parent = os.getppid()\nwhile os.getppid() == parent: sum(range(1_000_000))"
    with subprocess.Popen([sys.executable, "-c", computing]) as process:
        try:
            yield
        finally:
            process.kill()


def finetune(settings: dict[str, str]) -> float:
    """Return the seconds of a fine-tuning in an environment without settings of OpenMP but these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "gpt_tasks", "finetune", "sentiment", "--output", str(Path(scratch) / "run")]
        began = time.perf_counter()
        done = subprocess.run(command, env={**kept, **settings}, cwd=scratch, capture_output=True, check=False)
        taken = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"finetune ended with {done.returncode}:\n{done.stderr.decode()[-2000:]}")
    return taken


if __name__ == "__main__":
    main()
