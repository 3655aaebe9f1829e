"""A short run of the fuzzer, and what longer ones have found."""

from __future__ import annotations

from pathlib import Path

import pytest

from .cases import KINDS
from .child import run_case
from .kept import KEPT
from .searching import search, told
from .world import make_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_world(tmp_path_factory.mktemp("fuzz") / "world")


@pytest.mark.parametrize("kind", KINDS)
def test_no_input_ends_badly(world: Path, kind: str) -> None:
    found = search(kind, world, 15, 0)
    assert not found.faults, "\n\n".join(told(*each) for each in found.faults.values())


@pytest.mark.parametrize("name", KEPT)
def test_what_ended_badly_once_does_so_no_more(world: Path, name: str) -> None:
    ended = run_case(KEPT[name], world)
    assert not ended.faults, told(KEPT[name], ended)
