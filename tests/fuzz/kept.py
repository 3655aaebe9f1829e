"""What the fuzzer has found, as cases of their own, smaller by hand: each ended badly once."""

from __future__ import annotations

from .child import Case

KEPT: dict[str, Case] = {}
