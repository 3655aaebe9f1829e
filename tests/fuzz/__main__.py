"""Fuzz for so many minutes; print what was found, the shortest case of each fault."""

from __future__ import annotations

import os

# Before torch is imported: children are forked, and no fork copies the threads of OpenMP.
os.environ["OMP_NUM_THREADS"] = "1"

import argparse
import itertools
import pickle
import tempfile
import time
from pathlib import Path

from .cases import KINDS
from .searching import Found, search, told, warm_up
from .world import make_world

ROUND = 25


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", choices=KINDS, default=list(KINDS))
    parser.add_argument("--keep", type=Path, help="a file for the cases that were found, as a pickle")
    args = parser.parse_args()
    warm_up()
    ends = time.monotonic() + 60 * args.minutes
    totals = {kind: Found() for kind in args.only}
    with tempfile.TemporaryDirectory() as scratch:
        world = make_world(Path(scratch) / "world")
        for number in itertools.count(args.seed):
            for kind, total in totals.items():
                if time.monotonic() > ends:
                    break
                found = search(kind, world, ROUND, number)
                total.tried += found.tried
                for code, count in found.codes.items():
                    total.codes[code] = total.codes.get(code, 0) + count
                for key, (case, ended) in found.faults.items():
                    if key not in total.faults:
                        print(f"\n[{kind}, seed {number}] {told(case, ended)}", flush=True)
                        total.faults[key] = case, ended
            if time.monotonic() > ends:
                break
            if args.keep:
                args.keep.write_bytes(pickle.dumps({kind: list(each.faults.values()) for kind, each in totals.items()}))
    for kind, total in totals.items():
        codes = ", ".join(f"{count} x {code}" for code, count in sorted(total.codes.items()))
        print(f"{kind}: {total.tried} inputs, {len(total.faults)} faults; exit codes {codes}")
    print(f"{sum(each.tried for each in totals.values())} inputs")
    raise SystemExit(any(each.faults for each in totals.values()))


if __name__ == "__main__":
    main()
