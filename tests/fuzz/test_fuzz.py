"""A short run of the fuzzer, and what longer ones have found."""

from __future__ import annotations

from pathlib import Path

from .cases import KINDS
from .child import run_case
from .kept import KEPT
from .searching import search, told, warm_up
from .world import make_world


def test_no_input_ends_badly(tmp_path: Path) -> None:
    """All in one test, since the world takes longer to make than a case to run."""
    warm_up()
    world = make_world(tmp_path / "world")
    ended = {name: (case, run_case(case, world)) for name, case in KEPT.items()}
    bad = [told(*each) for each in ended.values() if each[1].faults]
    for kind in KINDS:
        bad += [told(*each) for each in search(kind, world, 6, 0).faults.values()]
    assert not bad, "\n\n".join(bad)
