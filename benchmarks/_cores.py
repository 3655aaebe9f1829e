"""Run gpt-tasks commands, several at a time on request, each on a separate core."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import TypeVar

Job = TypeVar("Job")
Found = TypeVar("Found")


def on_cores(jobs: Iterable[Job], workers: int, run: Callable[[Job, int | None], Found]) -> list[Found]:
    """Return `run(job, core)` of every job, in order; `core` is None where one runs at a time and has them all."""
    cores: SimpleQueue[int | None] = SimpleQueue()
    for core in range(workers):
        cores.put(core if workers > 1 else None)

    def on_a_core(job: Job) -> Found:
        core = cores.get()
        try:
            return run(job, core)
        finally:
            cores.put(core)

    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(on_a_core, jobs))


def gpt_tasks(arguments: Sequence[str], core: int | None) -> None:
    """Run one command line, on one core where that is given. Raises SystemExit with its last words if it fails."""
    pinned = ["taskset", "-c", str(core)] if core is not None else []
    alone = {"OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"} if core is not None else {}
    command = [sys.executable, "-m", "gpt_tasks", *arguments]
    done = subprocess.run([*pinned, *command], env={**os.environ, **alone}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"gpt-tasks {' '.join(arguments)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
