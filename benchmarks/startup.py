"""How long `gpt-tasks --help` takes, next to `accelerate --help` and `transformers --help`, in turn; and with plugins.

    python benchmarks/startup.py [--quick] [--plugins]

Wall-clock seconds of a fresh process, imports and all; the goal is that ours takes less than 0.4 s. Processor seconds,
which other work on the machine disturbs less, are next to them. With `--plugins` only this is measured: what 50
trivial plugins add to it, which shall be less than 0.3 s.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from _results import print_table, write_results

GOAL_SECONDS = 0.4
OURS = "gpt-tasks"
PEERS = ("accelerate", "transformers")
ROUNDS, QUICK_ROUNDS = 15, 5
PLUGINS, GOAL_PLUGINS = 50, 0.3
TRIVIAL = """
from gpt_tasks import ClassificationTask, hookimpl

class Task(ClassificationTask):
    "A task."
    name = "trivial-{number}"

@hookimpl
def register_tasks():
    return [Task()]
"""


def main() -> None:
    rounds = QUICK_ROUNDS if "--quick" in sys.argv else ROUNDS
    only_plugins = "--plugins" in sys.argv
    cases = cases_with_plugins(rounds) if only_plugins else cases_beside_peers(rounds)
    print_table(cases)
    if "--quick" not in sys.argv:
        write_results("startup", cases, keep_others=only_plugins)


def cases_beside_peers(rounds: int) -> list[dict[str, Any]]:
    seconds: dict[str, list[dict[str, float]]] = {command: [] for command in (OURS, *PEERS)}
    for number in range(rounds + 1):
        for command, takes in seconds.items():
            taken = run(command)
            # The first round fills the file cache and writes byte code.
            if number:
                takes.append(taken)
    return [case(peer, seconds, clock) for clock in ("wall", "processor") for peer in PEERS]


def cases_with_plugins(rounds: int) -> list[dict[str, Any]]:
    """Return one case for each clock: `--help` with the plugins, next to the same without them."""
    taken = []
    with tempfile.TemporaryDirectory() as site:
        for number in range(PLUGINS):
            install_trivial(Path(site), number)
        path = os.pathsep.join(filter(None, (site, os.environ.get("PYTHONPATH"))))
        for _ in range(rounds + 1):
            taken.append((run(OURS, PYTHONPATH=path), run(OURS)))
    return [plugins_case(taken[1:], clock) for clock in ("wall", "processor")]


def install_trivial(site: Path, number: int) -> None:
    """Put a distribution with one plugin, which registers a task, into a folder of installed ones."""
    (site / f"trivial_{number}.py").write_text(TRIVIAL.format(number=number))
    info = site / f"trivial_{number}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: trivial-{number}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[gpt_tasks]\ntrivial-{number} = trivial_{number}\n")


def plugins_case(taken: list[tuple[dict[str, float], dict[str, float]]], clock: str) -> dict[str, Any]:
    with_plugins, without = ([each[place][clock] for each in taken] for place in (0, 1))
    ours, peer = median(with_plugins), median(without)
    return {
        "case": f"--help, {clock} clock, with {PLUGINS} plugins beside none",
        "ours": ours,
        "peer": peer,
        "unit": "s",
        "ratio": round(peer / ours, 2),
        "goal": round(peer / (peer + GOAL_PLUGINS), 2),
        "added_seconds": round(ours - peer, 4),
        "goal_seconds": GOAL_PLUGINS,
        "rounds": [{"ours": mine, "peer": other} for mine, other in zip(with_plugins, without, strict=True)],
    }


def run(command: str, **variables: str) -> dict[str, float]:
    """Run `COMMAND --help` in a separate process."""
    script = Path(sys.executable).with_name(command)
    started = time.perf_counter()
    child = subprocess.Popen(
        [script, "--help"], env={**os.environ, **variables}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
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
        # The ratio that the goal in seconds comes to against this peer.
        "goal": round(median(theirs) / GOAL_SECONDS, 2),
        "goal_seconds": GOAL_SECONDS,
        "rounds": [{"ours": mine, "peer": other} for mine, other in zip(ours, theirs, strict=True)],
    }


if __name__ == "__main__":
    main()
